"""Accuracy, macro-F1, recall, precision and F1 from a confusion matrix: formulas as in scikit-learn."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


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


def scores_of_codes(true: NDArray[np.integer], predicted: NDArray[np.integer], learned: NDArray[np.integer]) -> tuple[Scores, Values]:
    """Scores of (n,) true and predicted codes over the classes that are learned or true, and the (k,) recalls of those learned.

    predicted: codes of `learned`, which is sorted.
    """
    classes = np.union1d(learned, true)
    scored = scores(confusion_matrix(np.searchsorted(classes, true), np.searchsorted(classes, predicted), len(classes)))
    return scored, scored.recall[np.searchsorted(classes, learned)]


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Values:
    share = np.zeros(np.broadcast(above, below).shape)
    np.divide(above, below, out=share, where=np.asarray(below) > 0)
    return share
