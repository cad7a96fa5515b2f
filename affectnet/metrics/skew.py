"""Skew normalisation after Jeni, Cohn & De la Torre 2013: scores as if every expression had as many test faces as any other.

Mollahosseini et al. 2017 report each score of AffectNet's expressions both as it is and skew-normalised.
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


def equal_class_weights(true: NDArray[np.integer], weights: NDArray[np.number] | None = None) -> Values:
    """(…, n) weights of the faces that give every class of (n,) `true` the same mass: the skew normalisation per face.

    weights: (…, n) of a resample, kept within each class; a class without mass in it stays without.
    """
    mass = np.ones(len(true)) if weights is None else np.asarray(weights, np.float64)
    members = true[:, None] == np.unique(true)
    totals = (mass @ members)[..., members.argmax(1)]
    equal: Values = np.divide(mass, totals, out=np.zeros(totals.shape), where=totals > 0) * len(true) / members.shape[1]
    return equal
