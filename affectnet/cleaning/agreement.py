"""How far soft labels agree with the labels, and which rows name a value; both over whole columns."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affectnet.expressions import EXPRESSIONS


def agreements(soft_labels: pa.ChunkedArray, expression: NDArray[np.integer]) -> NDArray[np.float64]:
    """(n,) share that each soft label gives to its row's expression; NaN without one, or for a code that is no expression."""
    shares = np.full(len(expression), np.nan)
    labelled = pc.is_valid(soft_labels).to_numpy() & (expression >= 0) & (expression < len(EXPRESSIONS))
    known = pc.list_flatten(soft_labels.filter(pa.array(labelled))).to_numpy().reshape(-1, len(EXPRESSIONS))
    shares[labelled] = known[np.arange(len(known)), expression[labelled]]
    return shares


def rows_with(names: pa.ChunkedArray) -> dict[str, NDArray[np.bool_]]:
    """For each name in (n,) lists of names, (n,) true where the list has it."""
    lists = names.combine_chunks()
    rows, flat = pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists)
    present = {name: rows[pc.equal(flat, name).to_numpy(zero_copy_only=False)] for name in pc.unique(flat).to_pylist()}
    return {name: np.isin(np.arange(len(lists)), at) for name, at in sorted(present.items())}
