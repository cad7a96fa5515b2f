"""Detects a permuted label order by the valence and arousal of the classes: a common silent mistake with AffectNet."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from affectnet.expressions import CLASS_MEANS, EXPRESSIONS

FEWEST = 5
"""Faces of an expression from which on its mean is compared."""

FAR = 0.15
"""Distance by which another order must fit better, on average over the classes, to be reported."""


def permuted(
    expression: NDArray[np.integer],
    valence: NDArray[np.floating],
    arousal: NDArray[np.floating],
    labels: Sequence[str] = EXPRESSIONS,
) -> str | None:
    """A line with the order that fits better; None when the present order fits, or there is nothing to compare.

    That is with too few classes that have values, and with other labels than AffectNet's.
    """
    if tuple(labels) != EXPRESSIONS:
        return None
    known = np.isfinite(valence) & np.isfinite(arousal)
    counts = np.bincount(expression[known], minlength=len(EXPRESSIONS))
    classes = np.flatnonzero(counts >= FEWEST)
    if len(classes) < 3:
        return None
    sums = (np.bincount(expression[known], values[known], len(EXPRESSIONS)) for values in (valence, arousal))
    means = np.stack([total[classes] / counts[classes] for total in sums], axis=1)
    distance = np.linalg.norm(means[:, None] - np.array(CLASS_MEANS)[None], axis=2)
    rows, columns = linear_sum_assignment(distance)
    gain = distance[np.arange(len(classes)), classes].mean() - distance[rows, columns].mean()
    if gain < FAR:
        return None
    moved = [f"{EXPRESSIONS[c]} looks like {EXPRESSIONS[b]}" for c, b in zip(classes, columns, strict=True) if c != b]
    return f"valence and arousal fit another label order better: {', '.join(moved)}"
