"""Scores of valence or arousal: RMSE, CORR, SAGR and CCC, each dimension separately, never pooled."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
DIMENSIONS = ("valence", "arousal")
"""The order of the columns everywhere."""


@dataclass(frozen=True)
class AffectScores:
    """rmse in units of the scale (−1 … 1); corr, ccc −1 … 1; sagr a share, 0–1."""

    rmse: Values
    corr: Values
    sagr: Values
    ccc: Values


def affect_scores(true: Values, predicted: Values) -> AffectScores:
    """Scores of (n,) values, or of many resamples, (…, n), over the last axis.

    RMSE = √mean (p − t)². CORR is Pearson's r. SAGR is the share of faces whose signs agree, with sign(0) = 0, so that 0
    agrees only with 0. CCC = 2 cov / (σ_t² + σ_p² + (μ_t − μ_p)²), population moments (Lin 1989). CORR and CCC of a
    constant are 0. Formulas as in the AffectNet paper (Mollahosseini et al. 2017).
    """
    t, p = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    mean_t, mean_p = t.mean(-1), p.mean(-1)
    var_t, var_p = t.var(-1), p.var(-1)
    cov = (t * p).mean(-1) - mean_t * mean_p
    both = np.sqrt(var_t * var_p)
    spread = var_t + var_p + (mean_t - mean_p) ** 2
    return AffectScores(
        rmse=np.sqrt(((p - t) ** 2).mean(-1)),
        corr=np.divide(cov, both, out=np.zeros_like(cov), where=both > 1e-12),
        sagr=(np.sign(t) == np.sign(p)).mean(-1),
        ccc=np.divide(2 * cov, spread, out=np.zeros_like(cov), where=spread > 1e-12),
    )
