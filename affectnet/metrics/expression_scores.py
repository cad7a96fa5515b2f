"""Accuracy, macro-F1, recall, precision and F1, registered. The formulas are in `classification`, which `train` depends on:

a label or a floor that changes here trains no model again.
"""

import numpy as np
from numpy.typing import NDArray

from affectnet.metrics.classification import scores
from affectnet.metrics.registry import Values, metric


@metric("accuracy", "accuracy", "confusion", rank=1)
def accuracy(confusion: NDArray[np.number]) -> Values:
    return scores(confusion).accuracy


@metric("macro_f1", "macro-F1", "confusion", rank=2, class_mean=True)
def macro_f1(confusion: NDArray[np.number]) -> Values:
    return scores(confusion).macro_f1


def mean_of_present(per_class: Values, present: NDArray[np.bool_]) -> Values:
    """(…) mean of (…, k) scores over the classes that have faces, as (…, k) `present` says."""
    mean: Values = (per_class * present).sum(-1) / np.maximum(present.sum(-1), 1)
    return mean


def _chance(support: NDArray[np.number]) -> Values:
    """Recall of guessing every class equally often."""
    return np.full(len(support), 1 / len(support))


@metric("recall", "recall", "per_class", floor=_chance, rank=1)
def recall(confusion: NDArray[np.number]) -> Values:
    return scores(confusion).recall


@metric("precision", "precision", "per_class", rank=2)
def precision(confusion: NDArray[np.number]) -> Values:
    return scores(confusion).precision


@metric("f1", "F1", "per_class", rank=3)
def f1(confusion: NDArray[np.number]) -> Values:
    return scores(confusion).f1
