"""Calibration: reliability diagram, expected calibration error, and temperature scaling."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def fit_temperature(logits: NDArray[np.floating], true: NDArray[np.integer]) -> float:
    """The T in 0.05 … 20 that minimises the negative log likelihood of softmax(z / T) on faces the network was not trained on.

    logits: (n, k); true: (n,) columns. One number for all classes, so no prediction changes (Guo et al. 2017, section 4.2).
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 (prediction does not wait for it)

    z = np.asarray(logits, np.float64)

    def loss(log_t: float) -> float:
        return negative_log_likelihood(z / np.exp(log_t), true)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def probabilities(logits: NDArray[np.floating], temperature: float) -> Values:
    """softmax(z / T) of (n, k) logits, in float64; (n, 0) of a model without expressions."""
    z = np.asarray(logits, np.float64)
    if not z.size:
        return z
    shifted = np.exp(z / temperature - (z / temperature).max(1, keepdims=True))
    softmax: Values = shifted / shifted.sum(1, keepdims=True)
    return softmax


def negative_log_likelihood(logits: Values, true: NDArray[np.integer]) -> float:
    """Mean −log softmax(z) of the true class, nats per face."""
    return float(-_log_softmax(np.asarray(logits, np.float64))[np.arange(len(true)), true].mean())


def _log_softmax(logits: Values) -> Values:
    """Per row of (n, k), bit by bit as SciPy's, which would be a third of a small installation."""
    shifted = logits - logits.max(1, keepdims=True)
    normalised: Values = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return normalised


@dataclass(frozen=True)
class Reliability:
    """One entry per bin of equal width: mean confidence, share of right predictions (NaN where empty), number of faces."""

    confidence: Values
    accuracy: Values
    count: NDArray[np.int64]

    @property
    def ece(self) -> float:
        """Expected calibration error: Σ (n_b / n) |accuracy_b − confidence_b| (Naeini et al. 2015; Guo et al. 2017, eq. 3)."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(gaps * self.count) / self.count.sum())


def reliability(confidence: Values, right: NDArray[np.bool_], bins: int) -> Reliability:
    """Bins (0, 1/b], (1/b, 2/b] … of the (n,) confidences of the predictions, and whether these are right."""
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(at, minlength=bins)
    empty = np.where(count, 1.0, np.nan)
    sums = (np.bincount(at, weights=values, minlength=bins) for values in (confidence, right.astype(float)))
    mean_confidence, accuracy = (total / np.maximum(count, 1) * empty for total in sums)
    return Reliability(mean_confidence, accuracy, count)
