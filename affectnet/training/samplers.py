"""The samplers: which of the planned faces an epoch shows, and in which order."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from affectnet.training.registry import Registry

Rows = NDArray[np.int64]
Shares = NDArray[np.float64]


class Sampler:
    """Draws with replacement: first a class by its share, then a face of it, so that a rare face is shown often."""

    keeps_plan = False
    """Whether each class has its share of the plan in every epoch."""

    def shares(self, planned: Shares, done: float) -> Shares:
        """(k,) share of each class among the faces that an epoch is expected to show.

        The draws and the losses that correct for the shares both use these. planned: (k,) shares of the plan; done: share of the
        training that is done, 0–1.
        """
        raise NotImplementedError

    def order(self, rows: Rows, labels: NDArray[np.integer], done: float, generator: np.random.Generator) -> Rows:
        """As many rows as the plan has, in the order of this epoch. rows: of the plan, repeats included; labels: their (n,) classes."""
        _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        per_face = self.shares(counts / counts.sum(), done) / counts
        return generator.choice(rows, len(rows), p=_normalised(per_face[inverse]))


SAMPLERS: Registry[type[Sampler]] = Registry()
"""What `train.sampler` can be."""


@SAMPLERS("plan")
class PlanSampler(Sampler):
    """Each planned row once."""

    keeps_plan = True

    def shares(self, planned: Shares, done: float) -> Shares:
        return planned

    def order(self, rows: Rows, labels: NDArray[np.integer], done: float, generator: np.random.Generator) -> Rows:
        return generator.permutation(rows)


@SAMPLERS("balanced")
class BalancedSampler(Sampler):
    """Each class as often as any other."""

    def shares(self, planned: Shares, done: float) -> Shares:
        return _normalised(planned**0.0)


@SAMPLERS("square_root")
class SquareRootSampler(Sampler):
    """Each class by the square root of its share of the plan."""

    def shares(self, planned: Shares, done: float) -> Shares:
        return _normalised(planned**0.5)


@SAMPLERS("progressive")
class ProgressiveSampler(Sampler):
    """From the plan's shares in the first epoch to equal shares in the last (Kang et al. 2020, section 3)."""

    def shares(self, planned: Shares, done: float) -> Shares:
        return (1 - done) * planned + done * _normalised(planned**0.0)


def batches(order: Rows, batch: int) -> list[torch.Tensor]:
    """The order cut into batches that differ by one face at most, so that none is tiny."""
    return [torch.from_numpy(part) for part in np.array_split(order, math.ceil(len(order) / batch))]


def _normalised(values: Shares) -> Shares:
    shares: Shares = values / values.sum()
    return shares
