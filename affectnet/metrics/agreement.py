"""Agreement of prediction and label beyond chance: Cohen's κ and Krippendorff's α, as the AffectNet paper reports them."""

import numpy as np
from numpy.typing import NDArray

from affectnet.metrics.registry import Values, metric


@metric("kappa", "Cohen's κ", "confusion", rank=3)
def cohens_kappa(confusion: NDArray[np.number]) -> Values:
    """(…) κ of (…, k, k) matrices: (accuracy − chance) / (1 − chance), chance from both margins (Cohen 1960); 0 where chance is 1."""
    counts = np.asarray(confusion, np.float64)
    total = counts.sum((-2, -1))
    agreed = np.trace(counts, axis1=-2, axis2=-1) / total
    chance = (counts.sum(-1) * counts.sum(-2)).sum(-1) / total**2
    kappa: Values = np.divide(agreed - chance, 1 - chance, out=np.zeros_like(agreed), where=chance < 1)
    return kappa


@metric("alpha", "Krippendorff's α", "confusion", rank=4)
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
    alpha: Values = 1 - np.divide((values - 1) * observed, expected, out=np.ones_like(values), where=expected > 0)
    return alpha
