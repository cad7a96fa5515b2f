"""The stored predictions of two revisions on the same test faces, compared."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from affectnet.metrics.paired import Difference, mcnemar
from affectnet.metrics.regression import DIMENSIONS
from affectnet.predict.answers.score import Answerer
from affectnet.reporting.prediction_table import FACES_KEY, PREDICTIONS
from affectnet.reporting.predictions import Predictions
from affectnet.search.compare import paired
from affectnet.tables.labels import read_labels

PREDICTIONS_FILE = "data/test_predictions.parquet"


@dataclass(frozen=True)
class Paired:
    """The differences, none where they could not be tested, and one or two sentences about the test.

    scores: of either side value, low and high by the name of the score, of the definition that the differences have.
    """

    differences: list[Difference]
    note: str
    scores: Sequence[Mapping[str, Any]] = ({}, {})


def compare_predictions(before: bytes | None, after: bytes | None, draws: int, seed: int) -> Paired:
    """Compares two files of predictions. None: a side whose file is not at hand. Errors: UserError when a file is broken."""
    if before is None or after is None:
        return Paired(
            [], f"Not tested: {PREDICTIONS_FILE} of both sides is needed; `dvc pull {PREDICTIONS_FILE}`, or `dvc repro`, brings it."
        )
    first, second = (stored_predictions(content) for content in (before, after))
    if not (_same_faces(before, after) and _same_labels(first, second)):
        return Paired([], f"Not tested: the test faces differ, {len(first):,} and {len(second):,}, or their labels.")
    note = f"Tested on the same {len(first):,} faces: paired bootstrap, {draws:,} resamples, without the spread between training seeds."
    if first.metadata.labels and second.metadata.labels:
        only_first, only_second, p = mcnemar(first.predicted == first.true, second.predicted == second.true)
        note += f" McNemar: {only_first:,} faces only right before, {only_second:,} only right after, exact p = {p:.4f}."
    rows, scores = paired(first, second, draws, seed)
    return Paired(rows, note, scores)


def stored_predictions(content: bytes) -> Predictions:
    """The predictions in the bytes of a file that evaluate wrote. Errors: UserError when they are not such a table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test_predictions.parquet"
        path.write_bytes(content)
        table, labels = PREDICTIONS.read(path), read_labels(path)
    true_affect, affect = (
        np.stack([table[f"{prefix}{name}"].to_numpy() for name in DIMENSIONS], 1).astype(np.float64) for prefix in ("", "predicted_")
    )
    if not np.isfinite(affect).all():
        affect = affect[:, :0]
    if table["expression"].null_count:
        empty = np.empty(0, np.int64)
        return Predictions(Answerer((), True), labels, empty, empty, np.empty((0, 0)), true_affect, affect)
    probabilities = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(len(table), -1).astype(np.float64)
    known, expression = np.flatnonzero(probabilities.any(0)), table["expression"].to_numpy().astype(np.int64)
    codes = np.union1d(known, expression)
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities[:, codes])
    metadata = Answerer(tuple(labels[code] for code in known), bool(affect.shape[1]))
    return Predictions(metadata, labels, codes, np.searchsorted(codes, expression), logits, true_affect, affect)


def _same_faces(before: bytes, after: bytes) -> bool:
    """Whether both tables say that they have the same faces; also where one, of an earlier version, does not say which it has."""
    faces = {(pq.read_schema(pa.BufferReader(content)).metadata or {}).get(FACES_KEY) for content in (before, after)}
    return None in faces or len(faces) == 1


def _same_labels(first: Predictions, second: Predictions) -> bool:
    """Whether both have the same annotations, face by face."""
    names = [[one.names[position] for position in one.true.tolist()] for one in (first, second)]
    return len(first) == len(second) and names[0] == names[1] and np.array_equal(first.true_affect, second.true_affect, equal_nan=True)
