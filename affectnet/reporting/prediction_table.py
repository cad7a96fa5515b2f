"""Contract of the answers on the test split, face by face: what evaluate found, for who looks at single faces afterwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.regression import DIMENSIONS
from affectnet.reporting.predictions import Answers
from affectnet.tables.contract import Column, Contract

ANSWERS = Contract(
    "answers",
    "one test face, in the order of the shards data/faces/test-*.parquet; the first four columns are null for a model without expressions",
    (
        Column("expression", pa.int8(), "annotated expression, its code", low=0, high=7, nullable=True),
        Column("predicted", pa.int8(), "the model's answer, its code", low=0, high=7, nullable=True),
        Column("confidence", pa.float32(), "calibrated probability of the answer", low=0, high=1, nullable=True),
        Column(
            "probabilities",
            pa.list_(pa.float32(), len(EXPRESSIONS)),
            "calibrated, by code; 0 for an expression that the model does not know",
            nullable=True,
        ),
        Column("valence", pa.float32(), "as annotated; null when not annotated", low=-1, high=1, nullable=True),
        Column("arousal", pa.float32(), "as annotated; null when not annotated", low=-1, high=1, nullable=True),
        Column("predicted_valence", pa.float32(), "the model's answer; null for a model without", low=-1, high=1, nullable=True),
        Column("predicted_arousal", pa.float32(), "the model's answer; null for a model without", low=-1, high=1, nullable=True),
    ),
)


def write_answers(path: Path, found: Answers) -> None:
    """Writes the table whole or not at all."""
    columns: dict[str, Any] = {name: pa.nulls(len(found), ANSWERS.schema.field(name).type) for name in ANSWERS.schema.names}
    if len(found.codes):
        probabilities = np.zeros((len(found), len(EXPRESSIONS)), np.float32)
        probabilities[:, found.codes] = found.probabilities
        columns |= {
            "expression": pa.array(found.codes[found.true].astype(np.int8)),
            "predicted": pa.array(found.codes[found.predicted].astype(np.int8)),
            "confidence": pa.array(probabilities.max(1)),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), len(EXPRESSIONS)),
        }
    columns |= {name: _known(found.true_affect[:, column]) for column, name in enumerate(DIMENSIONS)}
    given = zip((f"predicted_{name}" for name in DIMENSIONS), found.affect.T, strict=False)  # none for a model without
    columns |= {name: _known(values) for name, values in given}
    ANSWERS.write(path, pa.table(columns))


def _known(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values.astype(np.float32), from_pandas=True)
