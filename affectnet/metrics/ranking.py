"""How well the probabilities of a class rank its faces before the others: AUC and AUC-PR, for many weightings of the faces at once.

As scikit-learn's `roc_auc_score` and `average_precision_score`, which take one set of weights per call.
"""

import numpy as np
from numpy.typing import NDArray

from affectnet.metrics.registry import Values, metric, registered


def _half(share: Values) -> Values:
    return np.full_like(share, 0.5)


def _share(share: Values) -> Values:
    """The precision of any constant probability."""
    return share


@metric("auc", "AUC", "ranking", floor=_half, rank=1)
def auc(hits: Values, misses: Values) -> Values:
    """Share of the pairs of a positive and a negative that are in the right order, ties counting one half."""
    ordered = (misses * (hits.cumsum(-1) - hits / 2)).sum(-1)
    return _divided(ordered, hits.sum(-1) * misses.sum(-1), hits, misses)


@metric("aucpr", "AUC-PR", "ranking", floor=_share, rank=2)
def average_precision(hits: Values, misses: Values) -> Values:
    """Area under the precision-recall curve as the average precision, without interpolation."""
    above, both = hits.cumsum(-1), (hits + misses).cumsum(-1)
    precision = np.divide(above, both, out=np.zeros_like(above), where=both > 0)
    return _divided((hits * precision).sum(-1), hits.sum(-1), hits, misses)


def _divided(total: Values, by: Values, hits: Values, misses: Values) -> Values:
    """total / by, NaN where a class has no positives or no negatives."""
    rankable = (hits.sum(-1) > 0) & (misses.sum(-1) > 0)
    quotient: Values = np.divide(total, by, out=np.full(rankable.shape, np.nan), where=rankable)
    return quotient


def ranking_scores(true: NDArray[np.integer], probabilities: Values, weights: NDArray[np.number] | None = None) -> dict[str, Values]:
    """Key → (…, k): each registered score of kind ranking, of each class against the rest.

    true: (n,) columns; probabilities: (n, k); weights: (…, n) of the faces, as the counts of many resamples, or None for equal ones.
    """
    mass = np.ones(len(true)) if weights is None else np.asarray(weights, np.float64)
    metrics = registered("ranking")
    columns: dict[str, list[Values]] = {one.key: [] for one in metrics}
    for column in range(probabilities.shape[1]):
        hits, misses = by_falling_score(true == column, probabilities[:, column], mass)
        for one in metrics:
            columns[one.key].append(one.score(hits, misses))
    return {key: np.stack(values, -1) for key, values in columns.items()}


def by_falling_score(positive: NDArray[np.bool_], score: Values, mass: Values) -> tuple[Values, Values]:
    """Mass of the positives and of the others at each distinct score, the highest first, (…, m) each; mass: (…, n) of the faces."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])  # of runs of equal scores
    hits, misses = (np.add.reduceat((mass * part)[..., order], starts, axis=-1) for part in (positive, ~positive))
    return hits, misses
