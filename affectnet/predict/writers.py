"""Predictions written as readable lines, JSON lines or CSV rows."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from affectnet.errors import UserError, one_line
from affectnet.predict.paths import Shot, in_table
from affectnet.predict.predictor import Face


@dataclass(frozen=True)
class Answer:
    """The predictions for one photograph or frame.

    faces: the largest first. instead: the prediction for the whole photograph, where no face was detected in it. tracks: the number of
    each face in its film, if faces are followed.
    """

    shot: Shot
    faces: Sequence[Face]
    instead: Face | None = None
    tracks: Sequence[int] | None = None


Write = Callable[[Answer], None]
"""Writes the predictions for one photograph or frame."""

LONGEST_PATH = 4096
EDGES = ("left", "top", "right", "bottom")
AFFECT = ("valence", "arousal")
BOX_DECIMALS = 1
DECIMALS = {**dict.fromkeys(EDGES, BOX_DECIMALS), **dict.fromkeys(("seconds", *AFFECT), 4)}
"""In CSV and JSON, of boxes in px, and by field, none of which may be a label; Parquet holds the numbers in full."""

DIGITS = 6
"""Significant digits of a probability in CSV and JSON: with four decimals a label that is unlikely would be impossible."""


@contextmanager
def writing(form: str | Path | None, stream: TextIO, labels: Sequence[str], tracked: bool) -> Iterator[Write]:
    """form: `json`, `csv`, None for readable lines, all to the stream, or the path of a Parquet file.

    labels: the model's; tracked: whether tables have a column `track`.
    """
    if isinstance(form, Path):
        from affectnet.predict.parquet_table import parquet_rows  # noqa: PLC0415 (pyarrow is optional)

        with parquet_rows(form, labels, tracked) as write:
            yield write
    elif form == "csv":
        yield csv_rows(stream, labels, tracked)
    else:
        yield json_lines(stream) if form == "json" else lines(stream)


def lines(stream: TextIO) -> Write:
    """One readable line per face, and one for a photograph or frame without a face; none for a frame of a film that is followed."""

    def write(answer: Answer) -> None:
        shot = answer.shot
        time = "" if shot.seconds is None else f"  {shot.seconds:.3f} s"
        source = f"{one_line(shot.path, LONGEST_PATH)}{time}"
        for number, face in enumerate(answer.faces):
            track = "" if answer.tracks is None else f"  face {answer.tracks[number]}"
            edges = ", ".join(f"{edge:.0f}" for edge in face.box)
            stream.write(f"{source}{track}  {label(face, ', ')}  at {edges}\n")
        if not answer.faces and answer.tracks is None:
            whole = "" if answer.instead is None else f"; the whole photograph: {label(answer.instead, ', ')}"
            stream.write(f"{source}  no face{whole}\n")
        stream.flush()

    return write


def json_lines(stream: TextIO) -> Write:
    """One JSON object per photograph or frame, in ASCII: a byte of a name that is not UTF-8 is a lone surrogate, as in Python.

    `faces` is empty where no face was detected; `whole` then has the prediction for the whole photograph.
    """

    def write(answer: Answer) -> None:
        content: dict[str, Any] = {"path": answer.shot.path}
        if answer.shot.seconds is not None:
            content["seconds"] = answer.shot.seconds
        content["faces"] = [_rounded(asdict(face)) for face in answer.faces]
        for number, face in zip(answer.tracks or [], content["faces"], strict=False):
            face["track"] = number
        if answer.instead is not None:
            whole = asdict(answer.instead)
            content["whole"] = _rounded({name: value for name, value in whole.items() if name not in {"box", "detector"}})
        stream.write(f"{json.dumps(content)}\n")
        stream.flush()

    return write


def csv_rows(stream: TextIO, labels: Sequence[str], tracked: bool) -> Write:
    """A header, then one row per face, and one for a photograph or frame without a face; none for a frame of a film that is followed."""
    writer = csv.DictWriter(stream, columns(labels, tracked), lineterminator="\n")
    writer.writeheader()

    def write(answer: Answer) -> None:
        writer.writerows(map(_rounded, rows(answer)))
        stream.flush()

    return write


def columns(labels: Sequence[str], tracked: bool) -> list[str]:
    """Names of the columns of a table."""
    return ["path", "seconds", *(["track"] if tracked else []), "face", "where", "detector", *EDGES, "expression", *labels, *AFFECT]


def rows(answer: Answer) -> Iterator[dict[str, Any]]:
    """The rows of a table, which leave out what is null."""
    source = {"path": in_table(answer.shot.path), "seconds": answer.shot.seconds}
    for number, face in enumerate(answer.faces):
        track = {} if answer.tracks is None else {"track": answer.tracks[number]}
        where = {"where": "whole" if face.detector is None else "detected", "detector": face.detector}
        yield {**source, **track, "face": number + 1, **where, **dict(zip(EDGES, face.box, strict=True)), **_predicted(face)}
    if not answer.faces and answer.tracks is None:
        yield source if answer.instead is None else {**source, "where": "whole", **_predicted(answer.instead)}


def check_parquet(path: Path) -> None:
    """Errors: UserError when pyarrow is not installed, and as `check_replaceable`."""
    if find_spec("pyarrow") is None:
        raise UserError(f"{path}: Parquet needs pyarrow, which is not installed; pip install pyarrow, or use --csv")
    check_replaceable(path, b"PAR1", "a Parquet file")


def check_replaceable(path: Path, beginning: bytes, kind: str) -> None:
    """Errors: UserError when the path is a folder, or a file of another beginning, which would be overwritten."""
    if path.is_dir():
        raise UserError(f"{path}: a folder; give the name of a file")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(beginning)) != beginning:
                raise UserError(f"{path}: exists and is not {kind}; give another name")


def label(face: Face, between: str) -> str:
    """`Happy 0.93, valence +0.61, arousal -0.12`, or the part of it that the model predicts."""
    parts = [] if face.expression is None else [f"{face.expression} {face.probabilities[face.expression]:.2f}"]
    pair = zip(AFFECT, (face.valence, face.arousal), strict=True)
    return between.join([*parts, *(f"{name} {value:+.2f}" for name, value in pair if value is not None)])


def _predicted(face: Face) -> dict[str, Any]:
    return {"expression": face.expression, **face.probabilities, "valence": face.valence, "arousal": face.arousal}


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a face or row with the digits that mean something in text."""
    return {name: _round(value, DECIMALS.get(name)) for name, value in values.items()}


def _round(value: Any, decimals: int | None) -> Any:
    """value: a tuple is a box, a mapping the probabilities; decimals: None for a probability."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if decimals is None else round(value, decimals)
    if isinstance(value, tuple):
        return [round(edge, BOX_DECIMALS) for edge in value]
    return _rounded(value) if isinstance(value, dict) else value
