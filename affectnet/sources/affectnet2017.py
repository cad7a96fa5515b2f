"""AffectNet 2017: image folders and CSV lists, manual and automatic, in all spellings that are in circulation."""

import codecs
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from affectnet.errors import UserError, first_few, reraise_machine_fault
from affectnet.files.file_walk import folders_below, readable
from affectnet.running.parallel import in_order
from affectnet.sources.source import LARGEST_NUMBER, ONLY_TRAIN, FileParams, Source, batch, layout, numbers
from affectnet.tables.annotations import LANDMARKS
from affectnet.tables.source_pointer import Pointer

COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression", "valence", "arousal")
"""The order of the columns where a list has no header, as validation.csv was shipped."""

AUTOMATIC = "automatically_annotated.csv"

LISTS = {"training.csv": ("manual", "train"), "validation.csv": ("manual", "test"), AUTOMATIC: ("automatic", "train")}
"""File name → kind of annotation, and our split: the official validation list is our test."""

BLOCK_BYTES = 4 << 20
"""Bytes of a list parsed at a time, about 4,000 rows with landmarks; also the longest line that is allowed."""

KEPT_OF_INVALID = 1 << 13
"""Characters kept of a line with a wrong number of cells: more than any file name has."""


@dataclass(frozen=True)
class AnnotationList:
    """One CSV list: its path, kind and split, its columns in order, and whether it has a header."""

    path: Path
    kind: str
    split: str
    columns: tuple[str, ...]
    header: bool


@layout("affectnet2017")
class AffectNet2017(Source):
    """Reader of the full release. Folder spellings vary between copies, so lists and image folders are searched for."""

    class Params(FileParams):
        lists: Literal["manual", "automatic", "both"]

    sign = re.compile(r"(^|/)(training|automatically_annotated)\.csv$")
    annotates = ("box", "landmarks", "valence", "arousal")

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        lists, self._image_folders = _search(self.root)
        selected = {name for name, (kind, split) in LISTS.items() if pointer.lists in {kind, "both"} or split == "test"}
        missing = sorted(selected - set(lists))
        if missing:
            raise UserError(f"{self.root}: no {' and no '.join(missing)} below it; is this the root of an AffectNet 2017 download?")
        doubled = [path for name in sorted(selected) for path in lists[name] if len(lists[name]) > 1]
        if doubled:
            raise UserError(f"{self.root}: a list is there more than once: {first_few(doubled, 4)}; leave one of each")
        self._files = {lists[name][0]: LISTS[name] for name in LISTS if name in selected}
        if pointer.lists == "both":  # what people have labelled chooses the epoch
            self._files[lists[AUTOMATIC][0]] = ("automatic", ONLY_TRAIN)

    @cached_property
    def lists(self) -> list[AnnotationList]:
        return [_sniff(path, *about) for path, about in self._files.items()]

    def annotation_files(self) -> list[str]:
        return [self.below(path) for path in self._files]

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        for listing in self.lists:
            for table in _stream(listing, ["subDirectory_filePath"]):
                yield listing.split, self._paths(listing, table)

    def rows(self) -> Iterator[pa.RecordBatch]:
        for listing in self.lists:
            invalid: dict[int, str] = {}
            yield from in_order(partial(self._batch, listing), _numbered(_stream(listing, COLUMNS, invalid), invalid), 0, "thread")
            yield from self._malformed(listing, invalid)

    def _batch(self, listing: AnnotationList, block: tuple[pa.Table, np.ndarray]) -> pa.RecordBatch:
        """ROWS from a block of the list and the numbers of its rows."""
        table, numbered = block
        cells = {name: table[name].combine_chunks() for name in table.column_names}
        x, y, width, height = (numbers(cells[name], pa.float32()) for name in COLUMNS[1:5])
        landmarks, broken_landmarks = parse_landmarks(cells["facial_landmarks"])
        expression = numbers(cells["expression"], pa.int16())
        valence, arousal = (numbers(cells[name], pa.float32()) for name in COLUMNS[7:])
        null_box = pc.equal(pc.utf8_upper(pc.utf8_trim(cells["face_x"], ' "')), "NULL")
        malformed_box = pc.is_null(pc.add(pc.add(x, y), pc.add(width, height)))
        malformed = pc.is_null(pc.add(pc.add(valence, arousal), pc.cast(expression, pa.float32())))
        fault = pc.case_when(
            pc.make_struct(malformed, null_box, malformed_box),
            "malformed",
            "null_box",
            "malformed",
            pa.scalar(None, pa.string()),
        )
        shown = pc.binary_join_element_wise(*(cells[name] for name in (*COLUMNS[1:5], *COLUMNS[6:])), ",")
        return batch(
            len(table),
            image=self._paths(listing, table),
            list=readable(self.below(listing.path)),
            row=pa.array(numbered),
            split=listing.split,
            left=x,
            top=y,
            right=pc.add(x, width),
            bottom=pc.add(y, height),
            landmarks=landmarks,
            expression=expression,
            valence=valence,
            arousal=arousal,
            fault=fault,
            unread=pc.if_else(broken_landmarks, pa.scalar(["landmarks"]), None),
            detail=pc.if_else(pc.or_(pc.is_valid(fault), broken_landmarks), pc.utf8_slice_codeunits(shown, 0, 120), None),
        )

    def _malformed(self, listing: AnnotationList, invalid: dict[int, str]) -> Iterator[pa.RecordBatch]:
        """ROWS for the lines with a wrong number of cells."""
        if invalid:
            texts = list(invalid.values())
            images = pa.array([text.split(",")[0] for text in texts], pa.string())
            columns = {"image": self._prefixed(listing, images), "row": list(invalid), "detail": [text[:120] for text in texts]}
            yield batch(len(texts), list=readable(self.below(listing.path)), split=listing.split, fault="malformed", **columns)

    def _paths(self, listing: AnnotationList, table: pa.Table) -> pa.Array:
        return self._prefixed(listing, table["subDirectory_filePath"].combine_chunks())

    def _prefixed(self, listing: AnnotationList, names: pa.Array) -> pa.Array:
        """Names in a list → paths below the root. An absolute name or one with `..` stays recognisable, so that verify refuses it."""
        names = plain_paths(names)
        prefix = self._prefix[listing.path]
        return pc.if_else(pc.starts_with(names, "/"), names, pc.binary_join_element_wise(prefix, names, "")) if prefix else names

    @cached_property
    def _prefix(self) -> dict[Path, str]:
        """The image folder per list, below the root and with a final `/`: the one that holds most of the list's first images."""
        prefixes = {}
        for listing in self.lists:
            names = list(islice(filter(None, plain_paths(_first_cells(listing, COLUMNS[0])).to_pylist()), 200))
            if not names:
                raise UserError(f"{listing.path}: no row; is the download complete?")
            held = {folder: sum(os.path.isfile(folder / name) for name in names) for folder in self._image_folders}  # noqa: PTH113
            best = max(held, key=lambda folder: (held[folder], str(folder)), default=None)
            if best is None or not held[best]:
                raise UserError(
                    f"{listing.path}: none of its first {len(names)} images is below {self.root}; unpack the image folders there"
                )
            prefixes[listing.path] = readable(f"{self.below(best)}/") if best != self.root else ""
        return prefixes


def plain_paths(names: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Paths in a list with `/` between their parts, without quotes and spaces around them."""
    return pc.replace_substring(pc.utf8_trim(names, ' "'), "\\", "/")


def parse_landmarks(cells: pa.Array) -> tuple[pa.Array, pa.Array]:
    """`x1;y1;…;x68;y68` as landmarks (null where absent), and true where a cell holds anything but 136 finite numbers."""
    parts = pc.split_pattern(cells, ";")
    whole = pc.equal(pc.list_value_length(parts), 136)
    absent = pa.repeat(pa.scalar(False), len(cells))
    if not pc.all(whole).as_py():  # checked per block, so that clean lists are split only once
        text = pc.utf8_trim(cells, ' ";')
        absent = pc.is_in(pc.utf8_upper(text), pa.array(["", "NULL", "NAN"]))
        parts = pc.split_pattern(text, ";")
        whole = pc.equal(pc.list_value_length(parts), 136)
    flat = parts.filter(whole).flatten()
    try:
        values = pc.cast(flat, pa.float32())
    except pa.ArrowInvalid:
        values = numbers(flat, pa.float32())
    points = values.to_numpy(zero_copy_only=False).reshape(-1, 136)
    good = (np.abs(points) < LARGEST_NUMBER).all(1)  # false for NaN
    valid = whole.to_numpy(zero_copy_only=False).copy()
    valid[valid] = good
    positions = np.where(valid, np.cumsum(valid) - 1, -1)
    kept = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(points[good]).ravel(), pa.float32()), type=LANDMARKS)
    landmarks = kept.take(pa.array(positions, mask=~valid))
    return landmarks, pc.and_(pc.invert(absent), pa.array(~valid))


def _search(root: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """The lists by lower-case name, and the folders with numbered sub-folders; numbered folders are not entered."""
    lists: dict[str, list[Path]] = {}
    image_folders = [root]
    for folder, below, files in folders_below(root):
        if any(name.isdecimal() for name in below):
            image_folders.append(folder)
        below[:] = [name for name in below if not name.isdecimal()]
        for name in files:
            if name.lower() in LISTS and (folder / name).is_file():
                lists.setdefault(name.lower(), []).append(folder / name)
    return lists, image_folders


def _sniff(path: Path, kind: str, split: str) -> AnnotationList:
    """Columns and header of a list. The header may be present, absent, or begin with `#`. Errors: UserError for any other form."""
    try:
        with path.open("rb") as file:
            first = file.readline(1 << 20).decode("utf-8-sig").strip()
            file.seek(0)
            decoder = codecs.getincrementaldecoder("utf-8")()
            while piece := file.read(BLOCK_BYTES):  # Arrow drops a line with a wrong number of cells that is not UTF-8
                decoder.decode(piece)
            decoder.decode(b"", final=True)
    except (UnicodeDecodeError, OSError) as error:
        reraise_machine_fault(error, path)
        raise UserError(f"{path}: unreadable list: {error}") from None
    cells = [cell.strip(' "#') for cell in first.split(",")]
    names = {name.lower(): name for name in COLUMNS}
    if COLUMNS[0].lower() in {cell.lower() for cell in cells}:
        missing = [name for name in COLUMNS if name.lower() not in {cell.lower() for cell in cells}]
        if missing:
            raise UserError(f"{path}: column {', '.join(missing)} is missing; its header has {', '.join(cells[:20])}")
        doubled = [name for name in COLUMNS if [cell.lower() for cell in cells].count(name.lower()) > 1]
        if doubled:
            raise UserError(f"{path}: column {', '.join(doubled)} is there more than once; leave the one that counts")
        return AnnotationList(path, kind, split, tuple(names.get(cell.lower(), cell) for cell in cells), header=True)
    if len(cells) == len(COLUMNS) and "." in cells[0]:
        return AnnotationList(path, kind, split, COLUMNS, header=False)
    raise UserError(
        f"{path}: neither a header nor a row of {len(COLUMNS)} columns in its first line, {len(cells)} cells, first {cells[0][:60]!r}"
    )


def _stream(listing: AnnotationList, columns: Sequence[str], invalid: dict[int, str] | None = None) -> Iterator[pa.Table]:
    """Each block of the list as a table, every cell as text; lines with a wrong number of cells go to `invalid`, by row.

    Quotes are not parsed: no cell of these lists holds a comma, and a stray quote must not swallow the rows after it.
    """
    header = int(listing.header)

    def set_aside(row: pyarrow.csv.InvalidRow) -> str:
        if invalid is not None:
            invalid[(row.number or 0) - header] = row.text[:KEPT_OF_INVALID]
        return "skip"

    try:
        with pyarrow.csv.open_csv(
            listing.path,
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=listing.columns, skip_rows=header),
            parse_options=pyarrow.csv.ParseOptions(quote_char=False, invalid_row_handler=set_aside),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), include_columns=list(columns), strings_can_be_null=False
            ),
        ) as reader:
            for part in reader:
                yield pa.Table.from_batches([part])
    except pa.ArrowInvalid as error:
        raise UserError(f"{listing.path}: unreadable list: {str(error).splitlines()[0]}") from None


def _first_cells(listing: AnnotationList, column: str) -> pa.Array:
    """The cells of a column in the first thousand lines that have it."""
    position = listing.columns.index(column)
    with listing.path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [line.split(",") for line in file.read(BLOCK_BYTES).split("\n")[int(listing.header) : 1000 + listing.header]]
    return pa.array([cells[position] for cells in lines if position < len(cells)], pa.string())


def _numbered(tables: Iterable[pa.Table], invalid: dict[int, str]) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Each block with the numbers of its rows in the list, from 1, without those of invalid lines."""
    last = 0
    for table in tables:
        numbered = _row_numbers(last, len(table), {row for row in invalid if row > last})
        yield table, numbered
        last = int(numbered[-1]) if len(numbered) else last


def _row_numbers(last: int, count: int, invalid: set[int]) -> np.ndarray:
    """The next `count` row numbers after `last`, without those of invalid lines."""
    numbered = np.arange(last + 1, last + 1 + count + len(invalid), dtype=np.int64)
    return numbered[~np.isin(numbered, list(invalid))][:count]
