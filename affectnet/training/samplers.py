"""The samplers: which of the planned faces an epoch shows, and in which order."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Shares = NDArray[np.float64]
SamplerName = Literal["plan", "balanced", "square_root", "progressive"]

SHARES: dict[SamplerName, Callable[[Shares, float], Shares]] = {
    "plan": lambda natural, done: natural,
    "balanced": lambda natural, done: _normalised(natural**0.0),
    "square_root": lambda natural, done: _normalised(natural**0.5),
    "progressive": lambda natural, done: (1 - done) * natural + done * _normalised(natural**0.0),
}
"""Share of each class in an epoch, from its share of the plan and the share of the training done, 0–1 (Kang et al. 2020, section 3)."""


def expected_shares(sampler: SamplerName, counts: NDArray[np.integer], done: float) -> Shares:
    """(k,) share of each class among the faces that the epoch is expected to show; counts: (k,) faces of the plan.

    The draws and the losses that correct for the shares both take them from here.
    """
    return SHARES[sampler](counts / counts.sum(), done)


def epoch_order(sampler: SamplerName, rows: Rows, labels: NDArray[np.integer], done: float, generator: np.random.Generator) -> Rows:
    """As many rows as the plan has, in the order of this epoch.

    plan: each planned row once; the others draw with replacement, first the class by its share, then a face of it, so that
    a rare face is shown often. rows: of the plan, repeats included; labels: their (n,) classes.
    """
    if sampler == "plan":
        return generator.permutation(rows)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    per_face = expected_shares(sampler, counts, done) / counts
    return generator.choice(rows, len(rows), p=_normalised(per_face[inverse]))


def batches(order: Rows, batch: int) -> list[torch.Tensor]:
    """The order cut into batches that differ by one at most, so that none is tiny."""
    return [torch.from_numpy(part) for part in np.array_split(order, math.ceil(len(order) / batch))]


def _normalised(values: Shares) -> Shares:
    found: Shares = values / values.sum()
    return found
