"""Scores of an expression classifier, all from its confusion matrix: formulas as in scikit-learn, ties and gaps stated."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Values = NDArray[np.float64]

MOST_RESAMPLED = 4_000_000
"""Rows of resamples in memory, unless one resample alone is more; the draws are the same in pieces of any length."""


def confusion_matrix(true: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Counts:
    """(classes, classes) counts, true expression down, predicted across."""
    return np.bincount(true.astype(np.int64) * classes + predicted, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class Scores:
    """accuracy and macro_f1 are scalars (or one per matrix), recall, precision and f1 one per class; all shares, 0–1."""

    accuracy: Values
    macro_f1: Values
    recall: Values
    precision: Values
    f1: Values


def scores(confusion: NDArray[np.number]) -> Scores:
    """Scores of one (k, k) confusion matrix, or of many, (…, k, k).

    Recall, precision and F1 of a class without samples, or never predicted, count as 0, as scikit-learn's
    `zero_division=0`; macro-F1 is the plain mean of the classes' F1. Leave out of the matrix the classes that are not
    to be averaged over.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    true, predicted = confusion.sum(-1), confusion.sum(-2)
    f1 = _ratio(2 * hits, true + predicted)
    return Scores(_ratio(hits.sum(-1), true.sum(-1)), f1.mean(-1), _ratio(hits, true), _ratio(hits, predicted), f1)


def resampled(confusion: Counts, draws: int, generator: np.random.Generator) -> Counts:
    """(draws, k, k) confusion matrices of resamples of the n faces with replacement.

    A resample is a multinomial draw over the matrix's cells, so no per-face table is needed (exact for whatever depends on
    the cells' counts alone).
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


def constant_answers(confusion: Counts) -> Counts:
    """(k, k, k): the confusion matrix of each of the k predictors that always give the same answer."""
    support = confusion.sum(1)
    found: Counts = np.eye(len(support), dtype=np.int64)[:, None, :] * support[None, :, None]
    return found


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Values:
    share = np.zeros(np.broadcast(above, below).shape)
    np.divide(above, below, out=share, where=np.asarray(below) > 0)
    return share
