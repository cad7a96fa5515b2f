"""Notices a permuted label order by the answers: the silent mistake with a model whose labels are listed elsewhere."""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from affectnet.metrics.classification import Counts, confusion_matrix
from affectnet.reporting.predictions import Predictions

MOST = 8
"""Labels whose orders are all tried."""

CLEAR = 3.0
"""Standard deviations by which the better order must win the faces on which the two differ."""


def permuted(predictions: Predictions) -> str | None:
    """A line with the order of labels that fits better than the stated one; None when the stated one fits, and for more than 8 labels.

    The order that fits best is chosen on every second face, and compared with the stated one on the others, as a fair coin would divide
    the faces on which they differ: so neither a weak model nor the choice among 40,320 orders is taken for a mistake.
    """
    known = predictions.metadata.labels
    positions = np.array([position for position, name in enumerate(predictions.names) if name in known], np.intp)
    if not 2 <= len(positions) <= MOST:
        return None
    chosen_on, compared_on = (_counts(predictions, positions, slice(first, None, 2)) for first in (0, 1))
    orders = np.array(list(permutations(range(len(positions)))))
    stated = np.arange(len(positions))
    best = orders[chosen_on[orders, stated].sum(1).argmax()]
    moved = np.flatnonzero(best != stated)
    won, lost = int(compared_on[best[moved], moved].sum()), int(compared_on[moved, moved].sum())
    if won - lost <= CLEAR * np.sqrt(won + lost):
        return None
    whole = _counts(predictions, positions, slice(None))
    right, right_stated = (whole[order, stated].sum() / len(predictions) for order in (best, stated))
    names = [predictions.names[position] for position in positions]
    pairs = ", ".join(f"{names[column]} means {names[best[column]]}" for column in moved)
    return f"another order of the labels fits better, {right:.3f} right for {right_stated:.3f}: {pairs}; see how the labels are listed"


def _counts(predictions: Predictions, positions: NDArray[np.intp], faces: slice) -> Counts:
    """(k, k) of the k expressions that the model knows, true down, predicted across."""
    counts = confusion_matrix(predictions.true[faces], predictions.predicted[faces], len(predictions.codes))
    return counts[np.ix_(positions, positions)]
