"""The table of predictions on the test split, one row per face."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affectnet.expressions import MOST_LABELS
from affectnet.metrics.regression import DIMENSIONS
from affectnet.reporting.predictions import Predictions
from affectnet.tables.contract import Column, Contract, readable_parquet
from affectnet.tables.face_shards import CROP_AGAIN, open_shard, shard_paths
from affectnet.tables.labels import labels_metadata

FACES_KEY = b"affectnet.faces"
"""In the metadata of the schema: `faces_sha256`. Tables of earlier versions have none."""

PREDICTIONS = Contract(
    "predictions",
    "one test face, in the order of the shards data/faces/test-*.parquet; the first four columns are null for a model without expressions",
    (
        Column("expression", pa.int8(), "annotated expression, its code", low=0, high=MOST_LABELS - 1, nullable=True, coded=True),
        Column("predicted", pa.int8(), "the model's prediction, its code", low=0, high=MOST_LABELS - 1, nullable=True, coded=True),
        Column("confidence", pa.float32(), "calibrated probability of the prediction", low=0, high=1, nullable=True),
        Column(
            "probabilities",
            pa.list_(pa.float32()),
            "calibrated, by code; 0 for an expression that the model does not know",
            nullable=True,
        ),
        Column("valence", pa.float32(), "as annotated; null when not annotated", low=-1, high=1, nullable=True),
        Column("arousal", pa.float32(), "as annotated; null when not annotated", low=-1, high=1, nullable=True),
        Column("predicted_valence", pa.float32(), "the model's prediction; null for a model without", low=-1, high=1, nullable=True),
        Column("predicted_arousal", pa.float32(), "the model's prediction; null for a model without", low=-1, high=1, nullable=True),
    ),
)


def faces_sha256(faces: Path) -> str:
    """SHA-256, in hex, over which faces the test split has: the photograph, list and row of all, in their order."""
    digest = hashlib.sha256()
    for shard in shard_paths(faces, "test"):
        with open_shard(shard) as file, readable_parquet(shard, CROP_AGAIN):
            rows = file.read(["image.path", "list", "row"]).to_pylist()
        for row in rows:
            digest.update(json.dumps([row["image"]["path"], row["list"], row["row"]]).encode())
    return digest.hexdigest()


def write_predictions(path: Path, predictions: Predictions, faces: str) -> None:
    """Writes the table whole or not at all. faces: their `faces_sha256`, by which two tables of the same faces are known."""
    columns: dict[str, Any] = {name: pa.nulls(len(predictions), PREDICTIONS.schema.field(name).type) for name in PREDICTIONS.schema.names}
    if len(predictions.codes):
        probabilities = np.zeros((len(predictions), len(predictions.labels)), np.float32)
        probabilities[:, predictions.codes] = predictions.probabilities
        columns |= {
            "expression": pa.array(predictions.codes[predictions.true].astype(np.int8)),
            "predicted": pa.array(predictions.codes[predictions.predicted].astype(np.int8)),
            "confidence": pa.array(probabilities.max(1)),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), len(predictions.labels)),
        }
    columns |= {name: _float32(predictions.true_affect[:, column]) for column, name in enumerate(DIMENSIONS)}
    if predictions.metadata.affect:
        columns |= {f"predicted_{name}": _float32(predictions.affect[:, column]) for column, name in enumerate(DIMENSIONS)}
    PREDICTIONS.write(path, pa.table(columns), {**labels_metadata(predictions.labels), FACES_KEY.decode(): faces})


def _float32(values: NDArray[np.float64]) -> pa.Array:
    """Null where NaN."""
    return pa.array(values.astype(np.float32), from_pandas=True)
