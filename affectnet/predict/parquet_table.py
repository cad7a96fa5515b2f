"""Predictions as a Parquet file. Needs pyarrow, which a small installation does not have."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from affectnet.predict.writers import AFFECT, EDGES, Answer, Write, columns, rows
from affectnet.tables.contract import Column, Contract

ROWS_PER_GROUP = 8192


@contextmanager
def parquet_rows(path: Path, labels: Sequence[str], tracked: bool) -> Iterator[Write]:
    """One row per face, and one for a photograph or frame without a face; none for a frame of a film that is followed.

    The file is written whole or not at all.
    """
    table, waiting = contract(labels, tracked), list[dict[str, Any]]()
    with table.writer(path) as writer:

        def write_waiting() -> None:
            writer.write(pa.Table.from_pylist(waiting, table.schema))
            waiting.clear()

        def write(answer: Answer) -> None:
            waiting.extend(rows(answer))
            if len(waiting) >= ROWS_PER_GROUP:
                write_waiting()

        yield write
        write_waiting()


def contract(labels: Sequence[str], tracked: bool) -> Contract:
    """The table of predictions of a model with these labels. tracked: whether faces of films have a number."""
    edge = "edge of the box, in the photograph as shown"
    known = {
        "path": Column("path", pa.string(), "of the photograph or video; bytes that are not UTF-8 as \\xff"),
        "seconds": Column("seconds", pa.float64(), "time of the frame; null for a photograph", "s", low=0, nullable=True),
        "track": Column("track", pa.int32(), "the face's number in its video, in the order of appearance", low=1, nullable=True),
        "face": Column("face", pa.int32(), "its number in the picture, the largest first; null for none detected", low=1, nullable=True),
        "where": Column(
            "where",
            pa.string(),
            "what was predicted: a face detected in the picture, or the whole picture; null for a frame without a face",
            nullable=True,
            choices=("detected", "whole"),
        ),
        "detector": Column("detector", pa.string(), "name of the detector of the face; null for a whole picture", nullable=True),
        **{name: Column(name, pa.float64(), f"{name} {edge}", "px", nullable=True) for name in EDGES},
        "expression": Column(
            "expression", pa.string(), "the most probable; null for a model without expressions", nullable=True, choices=(*labels,)
        ),
        **{name: Column(name, pa.float64(), f"probability of {name}", low=0, high=1, nullable=True) for name in labels},
        **{name: Column(name, pa.float64(), f"{name}; null for a model without it", low=-1, high=1, nullable=True) for name in AFFECT},
    }
    row = "one face in a photograph or a frame, or a photograph or frame without a face"
    return Contract("predictions", row, tuple(known[name] for name in columns(labels, tracked)))
