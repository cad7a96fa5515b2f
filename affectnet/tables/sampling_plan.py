"""The sampling plan and the class weights: what `rebalance` decides for `train`, without copying an image."""

import pyarrow as pa

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
        Column("expression", pa.int8(), "code, 0–7", low=0, high=7),
        Column("name", pa.string(), "its name"),
        Column("count", pa.int64(), "faces in the training split", "faces", low=0),
        Column("planned", pa.int64(), "faces an epoch shows, repeats counted", "faces", low=0),
        Column("weight", pa.float64(), "weight of the expression in the loss, from `planned`; 0 for an expression without faces", low=0),
    ),
)
