"""FER2013 as its authors released it: one CSV file with one face per line, its pixels as numbers (Goodfellow et al. 2013)."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from affectnet.expressions import CODES
from affectnet.files.file_walk import folders_below, readable
from affectnet.sources.maps import splits_read
from affectnet.sources.per_image import DETAIL_LENGTH
from affectnet.sources.source import LayoutParams, layout
from affectnet.sources.unpacked import Container, Member
from affectnet.tables.source_pointer import Pointer

COLUMNS = ("emotion", "pixels", "usage")
EMOTIONS = ("Anger", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
"""By the codes 0–6 of column emotion (the challenge's data page)."""

SIDE_PX = 48
LONGEST_LINE = 1 << 20
"""Characters of a line at most; 2,304 numbers have 9,215."""


@layout("fer2013_csv")
class Fer2013Csv(Container):
    """`fer2013.csv`, `icml_face_data.csv` or another name: a CSV with the columns emotion, pixels, Usage, in any order.

    Usage `Training` is train; options: test, which of PublicTest and PrivateTest is test, and other, what the other one
    is: validation, or unused. Errors: UserError when no such file is below the root, or several are.
    """

    class Params(LayoutParams):
        test: Literal["PublicTest", "PrivateTest"]
        other: Literal["validation", "unused"]

    sign = re.compile(r"(^|/)(fer2013|icml_face_data)\.csv$")

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        csvs = [folder / name for folder, _, names in folders_below(self.root) for name in names if name.lower().endswith(".csv")]
        files = [path for path in csvs if set(COLUMNS) <= set(_header(path))]
        self.file = self.only(files, f"CSV file with the columns {', '.join(COLUMNS)}")
        test = pointer.options["test"].lower()
        other = "privatetest" if test == "publictest" else "publictest"
        self.splits = {"training": "train", test: "test", other: "validation" if pointer.options["other"] == "validation" else None}

    def reading(self) -> str:
        return splits_read(self.pointer, self.splits)

    def files(self) -> list[Path]:
        return [self.file]

    def members(self) -> Iterator[Member]:
        columns, name = _header(self.file), readable(self.below(self.file))
        with self.file.open(encoding="utf-8-sig", errors="replace") as lines:
            lines.readline(LONGEST_LINE)
            for number, line in enumerate(iter(lambda: lines.readline(LONGEST_LINE), ""), 1):
                if line.strip():
                    yield Member(name, number, **self._face(line, columns))

    def _face(self, line: str, columns: tuple[str, ...]) -> dict[str, Any]:
        """The fields of the line's Member from `split` on; an unreadable line is a fault."""
        cells = [cell.strip(' "\r\n') for cell in line.split(",")]
        if len(cells) != len(columns):
            return {"split": None, "fault": "malformed", "detail": f"{len(cells)} cells: {line[:DETAIL_LENGTH].strip()}"}
        cell = dict(zip(columns, cells, strict=True))
        emotion, usage = cell["emotion"], cell["usage"]
        if usage.lower() not in self.splits:
            return {"split": None, "fault": "malformed", "detail": f"Usage {usage[:DETAIL_LENGTH]}"}
        split = self.splits[usage.lower()]
        if split is None:
            return {"split": None, "fault": "left_out", "detail": f"Usage {usage}"}
        pixels = _pixels(cell["pixels"])
        if pixels is None or not re.fullmatch("-?[0-9]{1,9}", emotion):
            detail = f"emotion {emotion[:20]}, {len(cell['pixels'].split()):,} pixels: {cell['pixels']}"
            return {"split": split, "fault": "malformed", "detail": detail[:DETAIL_LENGTH]}
        face = {"split": split, "suffix": ".png", "content": _png(pixels)}
        if 0 <= int(emotion) < len(EMOTIONS):
            return {**face, "expression": CODES[EMOTIONS[int(emotion)]]}
        return {**face, "detail": f"emotion {emotion}"}


def _header(path: Path) -> tuple[str, ...]:
    """The names in the first line of a file, in lower case; none for anything but a file (a pipe would never end)."""
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return tuple(name.strip(' "\r\n').lower() for name in file.readline(LONGEST_LINE).split(","))


def _pixels(cell: str) -> np.ndarray | None:
    """(48, 48) uint8 from numbers between spaces; None for anything but 2,304 of them, 0–255."""
    if not re.fullmatch("[0-9]{1,3}( +[0-9]{1,3})*", cell):
        return None
    values = np.array(cell.split(), np.int16)
    return values.astype(np.uint8).reshape(SIDE_PX, SIDE_PX) if len(values) == SIDE_PX**2 and values.max() <= 255 else None


def _png(pixels: np.ndarray) -> bytes:
    """The PNG file, uncompressed: its bytes do not depend on the installed zlib, and no file takes less than a block on the disk anyway."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()
