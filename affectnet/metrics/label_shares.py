"""Probabilities brought to the shares of the labels: what a network answers whatever skew it was trained with or against."""

import numpy as np
from numpy.typing import NDArray

MOST_STEPS, CLOSE = 500, 1e-4
"""Of the iteration: steps at most, and the difference of a share at which it ends."""

Values = NDArray[np.float64]


def label_share_factors(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Values:
    """(k,) factors of (n, k) probabilities with which the mean probability of each class is its share of the (n,) labels.

    Networks that are trained against the skew answer as if all classes were equally frequent. The factors are those of a change of the
    class shares (Saerens et al. 2002), by iterative scaling.
    """
    shares = np.bincount(labels, minlength=probabilities.shape[1]) / len(labels)
    factors = np.ones(len(shares))
    for _ in range(MOST_STEPS):
        means = with_factors(probabilities, factors).mean(0)
        if np.abs(means - shares).max() < CLOSE:
            break
        factors *= np.divide(shares, means, out=np.zeros_like(means), where=means > 0)
        factors /= factors.max()
    return factors


def with_factors(probabilities: NDArray[np.floating], factors: Values) -> Values:
    """(n, k) probabilities, each times the (k,) factor of its class, and scaled to sum to 1 per row."""
    scaled: Values = np.asarray(probabilities, np.float64) * factors
    scaled /= scaled.sum(1, keepdims=True)
    return scaled


def with_label_shares(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Values:
    """(n, k) probabilities with the factors of `label_share_factors`."""
    return with_factors(probabilities, label_share_factors(labels, probabilities))
