"""All rows of a download while they are judged, and the tables that they become."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affectnet.expressions import SPLITS
from affectnet.sources.source import ONLY_TRAIN
from affectnet.tables.annotations import ANNOTATIONS, EDGES, FURTHER, REJECTED
from affectnet.tables.contract import take_rows
from affectnet.tables.labels import labels_metadata

Mask = NDArray[np.bool_]
PIECE = 1 << 14
"""Rows that are written at a time."""

TRAIN, VALIDATION, TEST, UNLABELLED = range(4)
"""Splits by code; the rows of the last one, which people have not labelled, end in train."""


class Rows:
    """All rows of a download: the table, its columns as arrays, and the first rule that each row breaks ('' for none).

    labels: the names of the codes; file_row: the position of each row's photograph in the inventory, −1 where it is missing.
    """

    def __init__(self, table: pa.Table, inventory: pa.Table, labels: Sequence[str]) -> None:
        self.table, self.labels = table, labels
        self.reason = np.full(len(table), "", dtype=object)
        self.dropped: dict[str, Mask] = {}
        self.audited: dict[str, int] = {}
        self.expression = filled(table["expression"], -1)
        self.split = filled(pc.index_in(table["split"], pa.array([*SPLITS, ONLY_TRAIN])), -1)
        self.unlabelled = self.split == UNLABELLED
        self.valence, self.arousal = (filled(table[name], np.nan) for name in ("valence", "arousal"))
        self.box = np.stack([filled(table[name], np.nan).astype(np.float64) for name in EDGES], axis=1)
        self.landmarks = pc.is_valid(table["landmarks"]).to_numpy()
        file_row = pc.index_in(table["image"], inventory["path"])
        self.in_inventory = pc.is_valid(file_row).to_numpy()
        files = inventory.select(["status", "sha256", "width", "height"])
        self.file = files.take(pc.fill_null(file_row, 0)) if len(inventory) else files
        relative = filled(table["relative"], False)
        self.box[relative] *= np.stack([filled(self.file[name], 0)[relative] for name in ("width", "height")] * 2, axis=1)
        self.file_row = filled(file_row, -1)

    def reject(self, where: Mask, reason: str) -> None:
        """Marks these rows as rejected, except those that an earlier rule rejected."""
        self.reason[where & (self.reason == "")] = reason

    def judge(self, where: Mask, fault: str, rule: str) -> None:
        """Rejects the rows, or counts those that the caller keeps without the faulty value. rule: `reject`, or any other."""
        if rule == "reject":
            self.reject(where, fault)
        else:
            self.dropped[fault] = where

    def clear(self, column: str, where: Mask) -> None:
        """Makes the column null in these rows."""
        values = self.table[column]
        cleared = pc.if_else(pa.array(where), pa.scalar(None, values.type), values)
        self.table = self.table.set_column(self.table.schema.get_field_index(column), column, cleared)

    @property
    def kept(self) -> Mask:
        return np.asarray(self.reason == "", np.bool_)


def write_rows(rows: Rows, groups: NDArray[np.int32], annotations: Path, rejected: Path) -> None:
    """Both tables, in order of split, list and row, a piece at a time."""
    lists = value_codes(rows.table["list"])
    order = np.lexsort((filled(rows.table["row"], 0), lists, rows.split))
    kept = order[rows.kept[order]]
    _, dense = np.unique(groups[kept], return_inverse=True)

    def piece(at: NDArray[np.intp], group: NDArray[np.intp]) -> pa.Table:
        part = take_rows(rows.table.select(["image", "list", "row", "landmarks", *(column.name for column in FURTHER)]), at)
        columns: dict[str, Any] = {name: part[name] for name in part.column_names}
        columns["split"] = pa.array(SPLITS).take(pa.array(rows.split[at]))
        columns |= {name: pa.array(rows.box[at, edge], pa.float32(), from_pandas=True) for edge, name in enumerate(EDGES)}
        columns |= {
            name: pa.array(values[at], pa.float32(), from_pandas=True)
            for name, values in (("valence", rows.valence), ("arousal", rows.arousal))
        }
        return pa.table({**columns, "expression": rows.expression[at].astype(np.int8), "group": group.astype(np.int32)})

    with ANNOTATIONS.writer(annotations, labels_metadata(rows.labels)) as writer:
        for first in range(0, max(len(kept), 1), PIECE):
            writer.write(piece(kept[first : first + PIECE], dense[first : first + PIECE]))
    out = np.lexsort((filled(rows.table["row"], 0), lists))
    out = out[~rows.kept[out]]
    dropped = take_rows(rows.table.select(["image", "list", "row", "detail"]), out)
    dropped = dropped.set_column(0, "image", pc.fill_null(dropped["image"], ""))
    columns = {
        "reason": pa.array(rows.reason[out].tolist(), pa.string()),
        "expression": take_rows(rows.table.select(["expression"]), out)["expression"],
        **{name: pa.array(rows.box[out, edge], pa.float32(), from_pandas=True) for edge, name in enumerate(EDGES)},
    }
    for name, values in columns.items():
        dropped = dropped.append_column(name, values)
    REJECTED.write(rejected, dropped)


def filled(column: pa.ChunkedArray, value: float) -> NDArray[Any]:
    """The column as a new array, nulls replaced."""
    return np.array(pc.fill_null(column, value).to_numpy())


def value_codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number for each distinct value, in order of first appearance sorted by value for text; −1 for null."""
    values = pc.unique(column.drop_null()).sort() if pa.types.is_string(column.type) else pc.unique(column.drop_null())
    return filled(pc.index_in(column, values), -1).astype(np.int64)
