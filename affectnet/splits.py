"""The cut of our validation split from the official training list."""

import numpy as np
from numpy.typing import NDArray


def validation_faces(expression: NDArray[np.integer], groups: NDArray[np.integer], share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) true for the faces that go to validation: a share of each expression, whole groups of near duplicates at a time.

    A group counts to the expression of its first face. share: 0–1; the same seed gives the same cut.
    """
    members, first, lengths = np.unique(groups, return_index=True, return_counts=True)
    stratum = expression[first]
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.argsort(stratum[order], kind="stable")]
    taken = np.zeros(len(members), np.bool_)
    for code in np.unique(stratum):
        chosen = order[stratum[order] == code]
        filled = np.cumsum(lengths[chosen])
        taken[chosen] = filled <= np.floor(filled[-1] * share + 0.5)
    return np.isin(groups, members[taken])
