"""The AffectNet paper's further scores of an expression classifier, original and skew-normalised.

Mollahosseini et al. 2017 report accuracy, F1, Cohen's κ, Krippendorff's α, AUC and AUCPR, each also skew-normalised after
Jeni, Cohn & De la Torre 2013: as if every expression had as many test faces as any other.
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def skew_normalised(confusion: NDArray[np.number]) -> Values:
    """(…, k, k) confusion matrices with each row scaled to the same sum, the total kept; a row without faces stays 0.

    Accuracy of the result is the mean recall. On a balanced test set this changes nothing.
    """
    counts = np.asarray(confusion, np.float64)
    support = counts.sum(-1, keepdims=True)
    present = (support > 0).sum(-2, keepdims=True)
    share = np.divide(counts, support, out=np.zeros_like(counts), where=support > 0)
    scaled: Values = share * counts.sum((-2, -1), keepdims=True) / np.maximum(present, 1)
    return scaled


def cohens_kappa(confusion: NDArray[np.number]) -> Values:
    """(…) κ of (…, k, k) matrices: (accuracy − chance) / (1 − chance), chance from both margins (Cohen 1960); 0 where chance is 1."""
    counts = np.asarray(confusion, np.float64)
    total = counts.sum((-2, -1))
    agreed = np.trace(counts, axis1=-2, axis2=-1) / total
    chance = (counts.sum(-1) * counts.sum(-2)).sum(-1) / total**2
    found: Values = np.divide(agreed - chance, 1 - chance, out=np.zeros_like(agreed), where=chance < 1)
    return found


def krippendorffs_alpha(confusion: NDArray[np.number]) -> Values:
    """(…) nominal α of (…, k, k) matrices, label and prediction as two raters of n faces (Krippendorff 2011).

    The coincidence matrix is o = C + Cᵀ with 2n values; α = 1 − (2n − 1) Σ_{c≠k} o_ck / Σ_{c≠k} n_c n_k. 0 where all
    values are one class, when nothing could have disagreed.
    """
    counts = np.asarray(confusion, np.float64)
    coincidences = counts + np.swapaxes(counts, -1, -2)
    margins = coincidences.sum(-1)
    values = margins.sum(-1)
    observed = values - np.trace(coincidences, axis1=-2, axis2=-1)
    expected = values**2 - (margins**2).sum(-1)
    found: Values = 1 - np.divide((values - 1) * observed, expected, out=np.ones_like(values), where=expected > 0)
    return found


def ranking_scores(true: NDArray[np.integer], probabilities: Values, weights: NDArray[np.number] | None = None) -> tuple[Values, Values]:
    """AUC and AUCPR of each class against the rest, (…, k) each; NaN for a class without faces or with all of them.

    true: (n,) columns; probabilities: (n, k); weights: (…, n) of the faces, as the counts of many resamples, or None for
    equal ones. AUC is the share of pairs in the right order, ties one half; AUCPR the average precision, without
    interpolation. As scikit-learn's `roc_auc_score` and `average_precision_score`, which take one set of weights a call.
    """
    mass = np.ones(len(true)) if weights is None else np.asarray(weights, np.float64)
    columns = [_ranked(true == column, probabilities[:, column], mass) for column in range(probabilities.shape[1])]
    auc, aucpr = (np.stack(values, -1) for values in zip(*columns, strict=True))
    return auc, aucpr


def _ranked(positive: NDArray[np.bool_], score: Values, mass: Values) -> tuple[Values, Values]:
    hits, misses = by_falling_score(positive, score, mass)
    above, found = hits.cumsum(-1), (hits + misses).cumsum(-1)
    positives, negatives = hits.sum(-1), misses.sum(-1)
    ordered = (misses * (above - hits / 2)).sum(-1)
    precision = np.divide(above, found, out=np.zeros_like(above), where=found > 0)
    ranked = (positives > 0) & (negatives > 0)
    nothing = np.full(ranked.shape, np.nan)
    return (
        np.divide(ordered, positives * negatives, out=nothing.copy(), where=ranked),
        np.divide((hits * precision).sum(-1), positives, out=nothing, where=ranked),
    )


def by_falling_score(positive: NDArray[np.bool_], score: Values, mass: Values) -> tuple[Values, Values]:
    """Mass of the positives and of the others at each distinct score, the highest first, (…, m) each; mass: (…, n) of the faces."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])  # of runs of equal scores
    hits, misses = (np.add.reduceat((mass * part)[..., order], starts, axis=-1) for part in (positive, ~positive))
    return hits, misses


def equal_class_weights(true: NDArray[np.integer], weights: NDArray[np.number] | None = None) -> Values:
    """(…, n) weights of the faces that give every class of (n,) `true` the same mass: the skew normalisation, face by face.

    weights: (…, n) of a resample, kept within each class; a class without mass in it stays without.
    """
    mass = np.ones(len(true)) if weights is None else np.asarray(weights, np.float64)
    members = true[:, None] == np.unique(true)
    totals = (mass @ members)[..., members.argmax(1)]
    found: Values = np.divide(mass, totals, out=np.zeros(totals.shape), where=totals > 0) * len(true) / members.shape[1]
    return found
