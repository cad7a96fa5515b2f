"""RAF-DB, the basic expressions: one list of all images, which are aligned or original (Li, Deng and Du 2017)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from affectnet.errors import UserError
from affectnet.expressions import CODES
from affectnet.files.file_walk import folders_below, readable
from affectnet.running.parallel import ranges
from affectnet.sources.per_image import DECIMAL_NUMBER, DETAIL_LENGTH, read_limited
from affectnet.sources.source import LARGEST_NUMBER, FileParams, Source, batch_of, layout
from affectnet.tables.source_pointer import Pointer

LISTS = {"list_patition_label.txt", "list_partition_label.txt"}
"""Names of the list: as it was released, and as its readme spells it."""

EXPRESSIONS = {1: "Surprise", 2: "Fear", 3: "Disgust", 4: "Happy", 5: "Sad", 6: "Anger", 7: "Neutral"}
"""The list's codes (readme of the database, EMOTION_LABEL)."""

ROWS_PER_BATCH = 4096
LARGEST_BOX = 1 << 10
"""Bytes of a box file at most."""


@layout("raf_db")
class RafDb(Source):
    """`EmoLabel/list_patition_label.txt`, and `Image/aligned/<name>_aligned.jpg` or `Image/original/<name>.jpg`.

    options: images, which of the two. Original images have the box of `Annotation/boundingbox/<name>_boundingbox.txt`
    where that file exists (left, top, right, bottom in px); aligned images are already cut to their faces. Names begin
    with their split, `train_` or `test_`. The 5 and 37 landmarks of the release are not the 68 of this project and are not read.
    """

    class Params(FileParams):
        images: Literal["aligned", "original"]

    annotates = ("box",)
    sign = re.compile(r"(^|/)list_par?tition_label\.txt$")

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        self.images_are = pointer.options["images"]
        lists, folders = _search(self.root)
        self.list = self.only(lists, " or ".join(sorted(LISTS)), "set the root to that of a RAF-DB download")
        self.folder = self.only(folders.get(self.images_are, []), f"folder {self.images_are} with images", f"unpack {self.images_are}.zip")
        boxes = folders.get("boundingbox", [])
        self.boxes = {path.name: path for folder in boxes for path in folder.iterdir()} if self.images_are == "original" else {}
        self.lines = [line for line in enumerate(_lines(self.list), 1) if line[1].strip()]

    def reading(self) -> str:
        return f"{self.images_are} images" + (f", {len(self.boxes):,} boxes" if self.images_are == "original" else "")

    def annotation_files(self) -> list[str]:
        boxes = [self._box_file(name) for name in dict.fromkeys(self._names())]
        return [self.below(path) for path in (self.list, *boxes) if path is not None]

    def absent(self, rows: pa.Table) -> list[str]:
        return super().absent(rows) if self.images_are == "original" else []

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        for split in ("train", "test"):
            yield split, pa.array([self._image(name) for name in self._names() if name.startswith(f"{split}_")], pa.string())

    def rows(self) -> Iterator[pa.RecordBatch]:
        for chunk in ranges(len(self.lines), ROWS_PER_BATCH):
            chosen = self.lines[chunk.start : chunk.stop]
            rows = [{"row": number, **self._row(line)} for number, line in chosen]
            yield batch_of(rows, list=readable(self.below(self.list)))

    def _row(self, line: str) -> dict[str, Any]:
        cells = line.split()
        if len(cells) != 2 or not re.fullmatch("[0-9]{1,4}", cells[1]) or not cells[0].startswith(("train_", "test_")):
            return {"fault": "malformed", "detail": line.strip()[:DETAIL_LENGTH]}
        name, code = cells
        row: dict[str, Any] = {"image": self._image(name), "split": name.partition("_")[0]}
        row["expression"] = CODES[EXPRESSIONS[int(code)]] if int(code) in EXPRESSIONS else None
        if (file := self._box_file(name)) is not None:
            row |= _box(file)
        return row if int(code) in EXPRESSIONS else {**row, "detail": f"code {code}"}

    def _names(self) -> list[str]:
        return [line.split()[0] for _, line in self.lines]

    def _image(self, name: str) -> str:
        """The path of a listed image. A name with `..` stays recognisable, so that verify refuses it."""
        stem, dot, suffix = name.rpartition(".")
        return readable(f"{self.below(self.folder)}/") + (f"{stem}_aligned{dot}{suffix}" if self.images_are == "aligned" else name)

    def _box_file(self, name: str) -> Path | None:
        return self.boxes.get(f"{name.rpartition('.')[0]}_boundingbox.txt")


def _search(root: Path) -> tuple[list[Path], dict[str, list[Path]]]:
    """The lists, and the folders `aligned`, `original` and `boundingbox` that hold files."""
    lists: list[Path] = []
    folders: dict[str, list[Path]] = {}
    for folder, _, files in folders_below(root):
        lists += [folder / name for name in files if name.lower() in LISTS and folder.name.lower() == "emolabel"]
        if files and folder.name.lower() in {"aligned", "original", "boundingbox"}:
            folders.setdefault(folder.name.lower(), []).append(folder)
    return lists, folders


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: unreadable list: {error}") from None


def _box(file: Path) -> dict[str, Any]:
    """left, top, right and bottom of a box file, or a fault."""
    try:
        cells = read_limited(file, LARGEST_BOX).decode().split()
    except (OSError, ValueError) as error:
        return {"fault": "malformed", "detail": f"{file.name}: {type(error).__name__}"}
    if len(cells) != 4 or not all(DECIMAL_NUMBER.fullmatch(cell) and abs(float(cell)) < LARGEST_NUMBER for cell in cells):
        return {"fault": "malformed", "detail": f"{file.name}: {' '.join(cells)}"[:DETAIL_LENGTH]}
    return dict(zip(("left", "top", "right", "bottom"), map(float, cells), strict=True))
