"""The table of predictions on the test split, one row per face."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affectnet.expressions import MOST_LABELS
from affectnet.metrics.regression import DIMENSIONS
from affectnet.reporting.predictions import Predictions
from affectnet.tables.contract import Column, Contract
from affectnet.tables.labels import labels_metadata

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


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes the table whole or not at all."""
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
    PREDICTIONS.write(path, pa.table(columns), labels_metadata(predictions.labels))


def _float32(values: NDArray[np.float64]) -> pa.Array:
    """Null where NaN."""
    return pa.array(values.astype(np.float32), from_pandas=True)
