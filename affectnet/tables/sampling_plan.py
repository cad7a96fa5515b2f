"""The sampling plan and the class weights, which `rebalance` writes for `train`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affectnet.expressions import MOST_LABELS
from affectnet.tables.contract import Column, Contract

PLAN = Contract(
    "plan",
    "one face of the training split that takes part in an epoch, sorted by row",
    (
        Column("row", pa.int32(), "position in the training split, in the order of annotations.parquet and of the shards", low=0),
        Column("repeats", pa.int32(), "how often an epoch shows it", low=1),
    ),
)

CLASS_WEIGHTS = Contract(
    "class_weights",
    "one expression, by code",
    (
        Column("expression", pa.int8(), "code", low=0, high=MOST_LABELS - 1),
        Column("name", pa.string(), "its name"),
        Column("count", pa.int64(), "faces in the training split", "faces", low=0),
        Column("planned", pa.int64(), "faces an epoch shows, repeats counted", "faces", low=0),
        Column("weight", pa.float64(), "weight of the expression in the loss, from `planned`; 0 for an expression without faces", low=0),
    ),
)


def planned_rows(plan: Path) -> NDArray[np.int64]:
    """(n,) rows of the training split that an epoch shows, each repeated as in the plan."""
    table = PLAN.read(plan)
    return np.repeat(table["row"].to_numpy(), table["repeats"].to_numpy()).astype(np.int64)
