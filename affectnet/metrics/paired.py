"""Whether models differ by more than chance on the same faces: McNemar's test, the paired bootstrap, and Holm's correction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError
from affectnet.metrics.bootstrap import interval, resampled_faces

Values = NDArray[np.float64]

Score = Callable[[NDArray[np.int64], int], Values]
"""(…, n) rows of the faces, and which model → (…) scores."""


@dataclass(frozen=True)
class Difference:
    """Second minus first of one score, with its 95 % interval and two-sided p-value, see `difference`; no interval of too few faces."""

    name: str
    first: float
    second: float
    low: float | None
    high: float | None
    p: float


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Faces that only the first, and only the second predicts right, and the exact two-sided p-value (McNemar 1947).

    Under equal error rates the discordant faces fall to either side with probability 1/2: a binomial test. p is 1 without any.
    """
    try:
        from scipy.stats import binomtest  # noqa: PLC0415 (a small installation has none)
    except ImportError:
        raise UserError("McNemar's test needs scipy, which is not installed; pip install scipy") from None
    only_first, only_second = int((first_right & ~second_right).sum()), int((~first_right & second_right).sum())
    discordant = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def resampled_scores(score: Score, models: int, faces: int, draws: int, generator: np.random.Generator) -> Values:
    """(models, draws) scores over resamples of the faces, the same for all models."""
    parts = [np.stack([score(rows, model) for model in range(models)]) for rows in resampled_faces(faces, draws, generator)]
    return np.concatenate(parts, 1)


def whole_score(score: Score, model: int, faces: int) -> float:
    """The model's score on all faces."""
    return float(score(np.arange(faces)[None], model)[0])


LEAST_DIFFERING = 6
"""Faces with different answers from which a 95 % interval can exclude no difference: 2 · 2^−5 is above 5 %, 2 · 2^−6 below."""


def difference(name: str, first: float, second: float, resamples: Values, differing: int) -> Difference:
    """resamples: (2, draws) scores of both; differing: faces with different answers.

    The p-value of the paired bootstrap is twice the smaller share of resamples on one side of no difference, of draws + 1, at most 1 (Efron
    & Tibshirani 1993, ch. 16; Koehn 2004). Resamples of a few faces hardly vary, so it is at least 2 · 2^−differing: between equal models
    the answers to these faces could be exchanged, in 2^differing ways that are equally probable, and no test that exchanges them gives
    less (Fisher 1935, § 21; Noreen 1989). Where that exceeds 5 %, there is no interval, unless all answers are the same.
    """
    differences = resamples[1] - resamples[0]
    tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    p = min(1.0, max(2 * (tail + 1) / (len(differences) + 1), 2.0 * 0.5**differing))
    if 0 < differing < LEAST_DIFFERING:
        return Difference(name, first, second, None, None, p)
    low, high = interval(differences)
    return Difference(name, first, second, float(low), float(high), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number: the chance of any false difference among them stays below each (Holm 1979)."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    result = np.empty(len(p))
    result[order] = np.minimum(corrected, 1)
    return [float(value) for value in result]
