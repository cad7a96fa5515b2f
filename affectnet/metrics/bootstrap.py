"""Resamples of the test faces, and percentile intervals of what is computed from them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from affectnet.metrics.classification import Counts

Values = NDArray[np.float64]

MOST_RESAMPLED = 4_000_000
"""Faces of resamples in memory, unless one resample is more; the draws do not depend on it."""


def resampled(confusion: Counts, draws: int, generator: np.random.Generator) -> Counts:
    """(draws, k, k) confusion matrices of resamples of the n faces with replacement.

    A resample is a multinomial draw over the matrix's cells, so no per-face table is needed (exact for what depends only on
    the cells' counts).
    """
    n = int(confusion.sum())
    return generator.multinomial(n, confusion.ravel() / n, size=draws).reshape(draws, *confusion.shape)


def resampled_faces(n: int, draws: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """The rows of `draws` resamples of n faces with replacement, (250 or fewer, n) at a time: tens of megabytes, however many faces."""
    at_once = max(1, min(250, MOST_RESAMPLED // n))
    for start in range(0, draws, at_once):
        yield generator.integers(n, size=(min(at_once, draws - start), n))


def interval(values: Values, level: float = 0.95) -> tuple[Values, Values]:
    """Percentile interval over the first axis (Efron & Tibshirani 1993, ch. 13)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
