"""Predictions written as readable lines, JSON lines, CSV rows or a Parquet file."""

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from affectnet.errors import UserError, one_line
from affectnet.predict.paths import Shot
from affectnet.predict.predictor import Face
from affectnet.tables.contract import Column, Contract

Write = Callable[[Shot, Sequence[Face]], None]
"""Writes the faces of one photograph or frame."""

LONGEST_PATH = 4096
ROWS_PER_GROUP = 8192
PARQUET_MAGIC = b"PAR1"
EDGES = ("left", "top", "right", "bottom")
DIGITS = 6
"""Decimals of probabilities, valence and arousal in text; Parquet holds them in full."""


@contextmanager
def writing(form: str | Path | None, stream: TextIO, labels: Sequence[str]) -> Iterator[Write]:
    """form: `json`, `csv`, None for readable lines, all to the stream, or the path of a Parquet file. labels: the model's."""
    if isinstance(form, Path):
        with parquet_rows(form, labels) as write:
            yield write
    elif form == "csv":
        yield csv_rows(stream, labels)
    else:
        yield json_lines(stream) if form == "json" else lines(stream)


def lines(stream: TextIO) -> Write:
    """One readable line per face, and one for a photograph without a face."""

    def write(shot: Shot, faces: Sequence[Face]) -> None:
        time = "" if shot.seconds is None else f"  {shot.seconds:.3f} s"
        source = f"{one_line(shot.path, LONGEST_PATH)}{time}"
        for face in faces:
            edges = ", ".join(f"{edge:.0f}" for edge in face.box)
            stream.write(f"{source}  {label(face, ', ')}  at {edges}\n")
        if not faces:
            stream.write(f"{source}  no face\n")
        stream.flush()

    return write


def json_lines(stream: TextIO) -> Write:
    """One JSON object per photograph, in ASCII: a byte of a name that is not UTF-8 is a lone surrogate, as in Python."""

    def write(shot: Shot, faces: Sequence[Face]) -> None:
        content: dict[str, Any] = {"path": shot.path}
        if shot.seconds is not None:
            content["seconds"] = shot.seconds
        content["faces"] = [_rounded(asdict(face)) for face in faces]
        stream.write(f"{json.dumps(content)}\n")
        stream.flush()

    return write


def csv_rows(stream: TextIO, labels: Sequence[str]) -> Write:
    """A header, then one row per face, and one for a photograph without a face."""
    writer = csv.DictWriter(stream, contract(labels).schema.names, lineterminator="\n")
    writer.writeheader()

    def write(shot: Shot, faces: Sequence[Face]) -> None:
        writer.writerows(map(_rounded, _rows(shot, faces)))
        stream.flush()

    return write


@contextmanager
def parquet_rows(path: Path, labels: Sequence[str]) -> Iterator[Write]:
    """One row per face, and one for a photograph without a face; the file is written whole or not at all."""
    table, waiting = contract(labels), list[dict[str, Any]]()
    with table.writer(path) as writer:

        def write_waiting() -> None:
            writer.write(pa.Table.from_pylist(waiting, table.schema))
            waiting.clear()

        def write(shot: Shot, faces: Sequence[Face]) -> None:
            waiting.extend(_rows(shot, faces))
            if len(waiting) >= ROWS_PER_GROUP:
                write_waiting()

        yield write
        write_waiting()


def check_parquet(path: Path) -> None:
    """Errors: UserError when the path is a folder, or a file that is not Parquet, which would be overwritten."""
    if path.is_dir():
        raise UserError(f"{path}: a folder; give the name of a file")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(PARQUET_MAGIC)) != PARQUET_MAGIC:
                raise UserError(f"{path}: exists and is not a Parquet file; give another name")


def contract(labels: Sequence[str]) -> Contract:
    """The table of predictions of a model with these labels."""
    edge = "edge of the box, in the photograph as shown"
    return Contract(
        "predictions",
        "one face in a photograph or a frame; of one without a face a row in which all but path and seconds is null",
        (
            Column("path", pa.string(), "of the photograph or video; bytes that are not UTF-8 as \\xff"),
            Column("seconds", pa.float64(), "time of the frame; null for a photograph", "s", low=0, nullable=True),
            Column("face", pa.int32(), "its number in the photograph, the largest first", low=1, nullable=True),
            *(Column(name, pa.float64(), f"{name} {edge}", "px", nullable=True) for name in EDGES),
            Column("expression", pa.string(), "the most probable; null for a model without expressions", nullable=True, choices=(*labels,)),
            *(Column(name, pa.float64(), f"probability of {name}", low=0, high=1, nullable=True) for name in labels),
            *(
                Column(name, pa.float64(), f"{name}; null for a model without it", low=-1, high=1, nullable=True)
                for name in ("valence", "arousal")
            ),
        ),
    )


def label(face: Face, between: str) -> str:
    """`Happy 0.93, valence +0.61, arousal -0.12`, or the part of it that the model predicts."""
    parts = [] if face.expression is None else [f"{face.expression} {face.probabilities[face.expression]:.2f}"]
    pair = (("valence", face.valence), ("arousal", face.arousal))
    return between.join([*parts, *(f"{name} {value:+.2f}" for name, value in pair if value is not None)])


def _rows(shot: Shot, faces: Sequence[Face]) -> Iterator[dict[str, Any]]:
    path = os.fsencode(shot.path).decode("utf-8", "backslashreplace")
    if not faces:
        yield {"path": path, "seconds": shot.seconds}
    for number, face in enumerate(faces, 1):
        yield {
            "path": path,
            "seconds": shot.seconds,
            "face": number,
            **dict(zip(EDGES, face.box, strict=True)),
            "expression": face.expression,
            **face.probabilities,
            "valence": face.valence,
            "arousal": face.arousal,
        }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a face with the digits that mean something in text."""
    return {name: _round(value) for name, value in values.items()}


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    return _rounded(value) if isinstance(value, dict) else value
