"""A table of photographs from CSV, JSON lines or Parquet, as columns of plain values."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from affectnet.errors import UserError, brief, first_few, many, one_line, reraise_machine_fault

IMAGE_COLUMNS = ("image", "path", "file", "filename", "subdirectory_filepath")
"""Names of the column of the photographs, the first that is there: ours, of `affectnet predict`, and of AffectNet's list of 2017."""

FIRST_FACE = {None, 1}
"""The column `face` of `affectnet predict`: the largest face, or none detected."""

PREDICTED = {"face", "where", "detector"}
"""Columns by which a table of `affectnet predict` is recognised."""

SEPARATORS = frozenset(";\t|")
"""Between the cells of tables that spreadsheets call CSV, too."""

KINDS = "CSV (.csv), JSON lines (.jsonl) or Parquet (.parquet)"


@dataclass(frozen=True)
class Table:
    """n rows. images: paths with `/`; columns: by name in lower case, n values each, None where a cell is empty; notes: lines."""

    file: Path
    images: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.images)

    def numbers(self, column: str) -> list[float]:
        """The column as numbers, NaN where a cell is empty. Errors: UserError when a cell is none, or is infinite."""
        values = [math.nan if value is None else _number(value) for value in self.columns[column]]
        wrong = [row for row, value in enumerate(values) if value is None or math.isinf(value)]
        if wrong:
            shown = [f"{brief(self.columns[column][row])} for {self.images[row]}" for row in wrong]
            raise UserError(f"{self.file}: column {column}: no finite numbers, {first_few(shown)}; give numbers, or leave the cells empty")
        return [value for value in values if value is not None]


def read_table(file: Path) -> Table:
    """The table; of a table of `affectnet predict` with several faces per photograph the largest face.

    Errors: UserError when the file is missing, unreadable, or without a column of photographs.
    """
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise UserError(f"{file}: neither {KINDS} by its name")
    try:
        rows = list(reader(file))
    except OSError as error:
        reraise_machine_fault(error, file)
        raise UserError(f"{file}: {error.strerror or one_line(str(error))}; give a table, {KINDS}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: unreadable: not UTF-8; save it as UTF-8") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"{file}: unreadable: {one_line(str(error))}") from None
    if not rows:
        raise UserError(f"{file}: no rows; give one per photograph")
    names = list(dict.fromkeys(name for row in rows for name in row))
    rows, notes = _largest_faces(rows, file) if {*names} >= PREDICTED else (rows, [])
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    if image is None and len(names) == 1 and (separators := SEPARATORS.intersection(names[0])):
        raise UserError(f"{file}: cells are separated by {' and '.join(map(repr, sorted(separators)))}; save it with commas")
    if image is None:
        raise UserError(f"{file}: no column of photographs ({', '.join(IMAGE_COLUMNS)}); its columns: {first_few(names, 8)}")
    images = [image_path(row.get(image)) for row in rows]
    if nameless := images.count(""):
        raise UserError(f"{file}: column {image}: {nameless:,} of {len(rows):,} rows name no photograph; give its path or file name")
    return Table(file, images, {name: [row.get(name) for row in rows] for name in names if name != image}, notes)


def _named(row: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The cells of a row by their columns in lower case. Errors: ValueError when several have the same name, if any."""
    cells: dict[str, Any] = {}
    for name, cell in row:
        column = name.strip().lower()
        if column and column in cells:
            raise ValueError(f"several columns named {column}; keep one, case does not distinguish them")
        cells[column] = _value(cell)
    return cells


def _largest_faces(rows: list[dict[str, Any]], file: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of each photograph's largest face, and a line with the number of the others."""
    kept = [row for row in rows if row.get("face") in FIRST_FACE or _number(row["face"]) in FIRST_FACE]
    dropped = len(rows) - len(kept)
    return kept, [f"{file}: {many(dropped, 'row')} of faces that are not their photograph's largest, left out"] if dropped else []


def _csv(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        header = next(reader, [])
        for row in filter(None, reader):
            if len(row) != len(header):
                raise ValueError(f"line {reader.line_num:,} has another number of cells than the header")
            yield _named(zip(header, row, strict=True))


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    outermost: list[tuple[str, Any]] = []

    def remember(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """The parser asks about the outermost object last."""
        outermost[:] = pairs
        return dict(pairs)

    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if not isinstance(json.loads(line, object_pairs_hook=remember), dict):
                raise ValueError(f'line {number:,} is not an object such as {{"image": "1.jpg", "expression": "Happy"}}')
            yield _named(outermost)


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415 (a small installation has none)
    except ImportError:
        raise UserError(f"{file}: Parquet needs pyarrow, which is not installed; pip install pyarrow, or give CSV") from None
    with pq.ParquetFile(file) as parquet:
        flat = [field.name for field in parquet.schema_arrow if not hasattr(field.type, "value_type")]  # no landmarks
        _named((name, None) for name in flat)
        for batch in parquet.iter_batches(columns=flat):
            yield from (_named(row.items()) for row in batch.to_pylist())


_READERS: Final[Mapping[str, Callable[[Path], Iterator[dict[str, Any]]]]] = {
    ".csv": _csv,
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), _json_lines),
    ".parquet": _parquet,
}


TABLE_SUFFIXES = frozenset(_READERS)


def _value(cell: Any) -> Any:
    """None for an empty cell and for NaN."""
    if isinstance(cell, str):
        return cell.strip() or None
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def _number(value: Any) -> float | None:
    """The number of a cell; None when it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def image_path(value: Any) -> str:
    """A photograph's path as answers and labels are matched by it: with `/`, also for `\\`, without a leading `./`."""
    text = "" if value is None else str(value).replace("\\", "/")
    return text.removeprefix("./")
