"""The demo as `acquire` draws it: AffectNet 2017's lists, and next to each a list of what AffectNet+ says in addition."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.sources.affectnet2017 import AffectNet2017
from affectnet.sources.source import ROWS, Source, layout
from affectnet.tables.annotations import BY_NAME, SOFT_LABEL
from affectnet.tables.source_pointer import Pointer

ENDING = "_further.csv"
"""Of the second list's name, after the stem of the first: its line n is about row n of the first."""

GENDERS, ANGLES = ("woman", "man"), ("yaw", "pitch", "roll")

COLUMNS = (*EXPRESSIONS, "subset", "age", *GENDERS, *ANGLES)
"""Columns of the second list after the photograph's path: shares of the expressions, subset, years, probabilities, degrees."""


@layout("drawn")
class Drawn(Source):
    """Reader of the demo; it cannot be selected for a copy of yours."""

    sign = re.compile(rf"(^|/)training{re.escape(ENDING)}$")
    annotates = (*AffectNet2017.annotates, "soft_label", "subset", "age", "gender", "pose")

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        self._labels = AffectNet2017(pointer)

    def annotation_files(self) -> list[str]:
        lists = self._labels.annotation_files()
        return [*lists, *map(_second, lists)]

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        return self._labels.images()

    def rows(self) -> Iterator[pa.RecordBatch]:
        further = {name: _read(self.root / _second(name)) for name in self._labels.annotation_files()}
        for part in self._labels.rows():
            if len(part):
                yield _joined(part, further[part["list"][0].as_py()])


def _second(name: str) -> str:
    return name.removesuffix(".csv") + ENDING


def _read(path: Path) -> pa.Table:
    """The second list. Errors: UserError when it is missing or broken."""
    types = {name: pa.string() if name == "subset" else pa.float32() for name in COLUMNS}
    try:
        return pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(COLUMNS)))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; run `dvc repro -f acquire`") from None


def _joined(part: pa.RecordBatch, further: pa.Table) -> pa.RecordBatch:
    """ROWS of one list with the lines of the second list that have their numbers."""
    lines = further.take(pa.array(part["row"].to_numpy() - 1))
    soft_labels, probabilities, angles = (_numbers(lines, names) for names in (EXPRESSIONS, GENDERS, ANGLES))
    columns = {
        "soft_label": pa.FixedSizeListArray.from_arrays(_flat(soft_labels / soft_labels.sum(1, keepdims=True)), type=SOFT_LABEL),
        "subset": lines["subset"].combine_chunks(),
        "age": lines["age"].combine_chunks(),
        "gender": pa.array(GENDERS).take(pa.array(probabilities.argmax(1))),
        "gender_probabilities": _mappings(GENDERS, probabilities),
        "pose": _mappings(ANGLES, angles),
    }
    return pa.record_batch([columns.get(name, part[name]) for name in ROWS.names], schema=ROWS)


def _numbers(lines: pa.Table, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([lines[name].to_numpy() for name in names], axis=1)


def _flat(values: np.ndarray) -> pa.Array:
    return pa.array(np.ascontiguousarray(values, np.float32).ravel())


def _mappings(names: tuple[str, ...], values: np.ndarray) -> pa.Array:
    """(n, k) numbers of k names as n mappings."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * len(names)
    return pa.MapArray.from_arrays(pa.array(offsets), pa.array(names * len(values)), _flat(values)).cast(BY_NAME)
