"""The interface of a reader: its params, the listed images, the files with the annotations, and the annotations as rows."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from affectnet.errors import UserError, first_few
from affectnet.params import Section
from affectnet.tables.annotations import FURTHER, LANDMARKS
from affectnet.tables.source_pointer import Pointer

LARGEST_NUMBER = 1e30
"""Numbers of an annotation are smaller, so that float32 arithmetic on them stays finite."""

ONLY_TRAIN = "only_train"
"""The split of rows that people have not labelled: `clean` never moves one to validation, and the rest go to train."""

ROWS = pa.schema(
    [
        ("image", pa.string()),  # below the root, with `/`
        ("list", pa.string()),  # the annotation list or folder, below the root
        ("row", pa.int64()),  # number in the list, from 1
        ("split", pa.string()),  # train, test, or validation where the source has such a split, or ONLY_TRAIN
        ("left", pa.float32()),
        ("top", pa.float32()),
        ("right", pa.float32()),
        ("bottom", pa.float32()),
        ("landmarks", LANDMARKS),
        ("expression", pa.int16()),  # 0–7 in our order, 8 None, 9 Uncertain, 10 No-Face, or another code of the list
        ("valence", pa.float32()),  # as in the list, −2 included
        ("arousal", pa.float32()),
        ("fault", pa.string()),  # why the row cannot be used: malformed, null_box, …
        ("detail", pa.string()),
        ("relative", pa.bool_()),  # the edges are shares of the photograph's width and height, not px
        *((column.name, column.type) for column in FURTHER),
        ("unread", pa.list_(pa.string())),  # `landmarks`, or names of FURTHER: what the row has and cannot be read
    ]
)
"""The rows that a reader returns. Absent values are null; a cell that cannot be read is a fault."""


Annotates = Literal["box", "landmarks", "valence", "arousal", "soft_label", "subset", "age", "gender", "race", "pose"]


class LayoutParams(Section):
    """The params of every entry of `datasets`: the layout's name, the folder of the user's copy, and the published numbers of images."""

    layout: str
    root: str | None
    expected: dict[Literal["training", "validation"], Annotated[int, Field(ge=0)]] | None


class FileParams(LayoutParams):
    """LayoutParams and a checksum list, for a download whose images are files."""

    checksums: str | None


class Layout(ABC):
    """A download of one layout: a Source, or a Container, whose images `acquire` unpacks.

    Adding a layout is one file in this room with such a class, decorated with `@layout("its_name")`. Params: the class of its entries
    under `datasets` in params.yaml, whose further fields are in `pointer.options`; None for a layout that cannot be selected. sign:
    matches a path below the root, in lower case, only in this layout; it recognises the layout where another one is selected.
    annotates: the values in addition to expressions.
    """

    Params: ClassVar[type[LayoutParams] | None] = None
    sign: ClassVar[re.Pattern[str]]
    annotates: ClassVar[tuple[Annotates, ...]] = ()

    def __init__(self, pointer: Pointer) -> None:
        self.pointer, self.root = pointer, Path(pointer.root)

    def reading(self) -> str:
        """How the download is read, for the summary line of `acquire`, as which folder is which split; may be empty."""
        return ""

    def below(self, path: Path) -> str:
        """The path relative to the root, with `/`."""
        return path.relative_to(self.root).as_posix()

    def only(self, paths: Sequence[Path], what: str, remedy: str = "leave exactly one there") -> Path:
        """The single path. what: its description for the message. Errors: UserError when there is none, or more than one."""
        if len(paths) != 1:
            present = f"more than one, {first_few([self.below(path) for path in paths])}" if paths else "none"
            raise UserError(f"{self.root}: expected one {what} below it, there is {present}; {remedy}")
        return paths[0]


AnyLayout = TypeVar("AnyLayout", bound=type[Layout])

LAYOUTS: dict[str, type[Layout]] = {}
"""Layouts by name, filled by `layout`; read them through `registry.layouts`, which imports every reader first."""


def layout(name: str) -> Callable[[AnyLayout], AnyLayout]:
    """A decorator that registers a reader under the layout's name."""

    def register(reader: AnyLayout) -> AnyLayout:
        LAYOUTS[name] = reader
        return reader

    return register


class Source(Layout):
    """A layout whose images are files."""

    @abstractmethod
    def annotation_files(self) -> list[str]:
        """The files with the annotations, below the root: verify hashes them, clean compares them with these hashes."""

    @abstractmethod
    def images(self) -> Iterator[tuple[str, pa.Array]]:
        """(split, paths of listed images below the root) in batches; an image may be listed more than once."""

    @abstractmethod
    def rows(self) -> Iterator[pa.RecordBatch]:
        """The annotations as batches of ROWS, each row of each list exactly once."""

    def absent(self, rows: pa.Table) -> list[str]:
        """The annotations of the layout that no row has: the reader does not know their key, or the copy lacks them."""
        columns = {"box": "left"}
        values = {name: rows[columns.get(name, name)] for name in self.annotates}
        present = {
            name: pc.not_equal(column, -2) if name in {"valence", "arousal"} else pc.is_valid(column) for name, column in values.items()
        }
        return [name for name, where in present.items() if len(rows) and not pc.any(where).as_py()]


def batch(count: int, **columns: object) -> pa.RecordBatch:
    """A batch of ROWS; a missing column is null, and a single string or number is repeated for all rows."""
    arrays = []
    for field in ROWS:
        value = columns.get(field.name)
        if isinstance(value, pa.ChunkedArray):
            value = value.combine_chunks()
        if isinstance(value, pa.Array):
            arrays.append(value if value.type == field.type else value.cast(field.type))
        elif value is None:
            arrays.append(pa.nulls(count, field.type))
        elif isinstance(value, str | int | float):
            arrays.append(pa.repeat(pa.scalar(value, field.type), count))
        else:
            arrays.append(pa.array(value, field.type))
    return pa.record_batch(arrays, schema=ROWS)


def batch_of(rows: Sequence[Mapping[str, Any]], **columns: object) -> pa.RecordBatch:
    """A batch of ROWS from one mapping per row. columns: as in `batch`, for names that the mappings lack."""
    names = [name for name in ROWS.names if name not in columns]
    return batch(len(rows), **columns, **{name: [row.get(name) for row in rows] for name in names})


def numbers(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    """Decimal numbers in text as `kind`, null for any cell but a finite number (empty, NULL, nan, 1e999, Arabic digits, …)."""
    text = pc.utf8_trim(cells, " \t\"'")
    plain = pc.match_substring_regex(text, r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$")
    values = pc.cast(pc.if_else(plain, text, None), pa.float64())
    finite = pc.if_else(pc.is_finite(values), values, None)
    if pa.types.is_integer(kind):
        whole = pc.and_(pc.equal(pc.floor(finite), finite), pc.less(pc.abs(finite), 2 ** (kind.bit_width - 1)))
        return pc.cast(pc.if_else(whole, finite, None), kind)
    return pc.cast(pc.if_else(pc.less(pc.abs(finite), LARGEST_NUMBER), finite, None), kind)


def landmark_lists(values: np.ndarray, valid: np.ndarray) -> pa.Array:
    """(n, 136) float32 as the landmark type, null where `valid` is false."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=LANDMARKS, mask=pa.array(~valid))
