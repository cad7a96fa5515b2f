"""The layouts with one annotation file per image: a train_set and a val_set, each with images/ and annotations/."""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from pathlib import Path
from stat import S_ISREG
from typing import ClassVar

import numpy as np
import pyarrow as pa

from affectnet.errors import UserError, brief, first_few
from affectnet.files.file_walk import folders_below, readable, visible_names
from affectnet.images.formats import IMAGE_SUFFIXES
from affectnet.running.parallel import in_order, ranges
from affectnet.sources.source import LARGEST_NUMBER, Annotates, Source, batch, landmark_lists
from affectnet.tables.annotations import FURTHER
from affectnet.tables.source_pointer import Pointer

SETS = {"train_set": "train", "train": "train", **dict.fromkeys(("val_set", "validation_set", "val", "validation"), "test")}
"""Folder, in any case → our split: the official validation set is our test."""

ROWS_PER_BATCH = 4096

DECIMAL_NUMBER = re.compile(r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*")
"""A decimal number in ASCII digits."""

DETAIL_LENGTH = 120
"""Characters of a fault's detail at most."""


@dataclass
class Annotation:
    """The annotation of one image; fault: why it cannot be used, None when it can.

    further: values of the columns FURTHER by name; unread: the names of those, or `landmarks`, that the image has and that cannot be read.
    """

    expression: int | None = None
    valence: float | None = None
    arousal: float | None = None
    landmarks: np.ndarray | None = None
    fault: str | None = None
    detail: str | None = None
    further: Mapping[str, object] = field(default_factory=dict)
    unread: Sequence[str] = ()


@dataclass(frozen=True)
class ImageSet:
    """One set: its folder below the root, our split, and the names of annotated images with their files."""

    folder: str
    split: str
    names: tuple[str, ...]
    images: tuple[str, ...]
    annotations: tuple[tuple[str, ...], ...]


class PerImage(Source):
    """Reader of such a layout; a subclass names the annotation files of an image and reads them."""

    annotates: ClassVar[tuple[Annotates, ...]] = ("landmarks", "valence", "arousal")

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        folders = self._set_folders()
        splits = [SETS[folder.name.lower()] for folder in folders]
        if sorted(splits) != ["test", "train"]:
            folders_present = f"there are {first_few(folders, 6)}" if folders else "there is neither"
            raise UserError(
                f"{self.root}: one train_set and one val_set are needed, each with images/ and annotations/ in it, {folders_present}; "
                f"set {pointer.params}.root to the folder of one pair"
            )
        self.sets = [self.image_set(folder, split) for split, folder in sorted(zip(splits, folders, strict=True), reverse=True)]

    def reading(self) -> str:
        return ", ".join(f"{part.folder} as {part.split}" for part in self.sets)

    @abstractmethod
    def annotated_name(self, file: str) -> str | None:
        """The image's name without suffix, if the file is an annotation of one, else None."""

    @abstractmethod
    def read(self, files: tuple[Path, ...]) -> Annotation:
        """The annotation in these files; never raises for what they hold."""

    def accepts(self, folder: Path) -> bool:
        """Whether the set in this folder belongs to the layout."""
        return True

    def annotation_files(self) -> list[str]:
        return [f"{part.folder}/annotations/{file}" for part in self.sets for files in part.annotations for file in files]

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        for part in self.sets:
            yield part.split, pa.array([readable(f"{part.folder}/images/{name}") for name in part.images], pa.string())

    def rows(self) -> Iterator[pa.RecordBatch]:
        for part in self.sets:
            yield from in_order(partial(self._batch, part), ranges(len(part.names), ROWS_PER_BATCH), 0, "thread")

    def _batch(self, part: ImageSet, chosen: range) -> pa.RecordBatch:
        folder = self.root / part.folder / "annotations"
        read = [self._read(tuple(folder / file for file in part.annotations[row])) for row in chosen]
        points = np.stack([np.full(136, np.nan, np.float32) if a.landmarks is None else a.landmarks for a in read])
        return batch(
            len(read),
            image=[readable(f"{part.folder}/images/{part.images[row]}") for row in chosen],
            list=readable(f"{part.folder}/annotations"),
            row=[row + 1 for row in chosen],
            split=part.split,
            landmarks=landmark_lists(points, np.array([a.landmarks is not None for a in read])),
            unread=[a.unread or None for a in read],
            **{name: [getattr(a, name) for a in read] for name in ("expression", "valence", "arousal", "fault", "detail")},
            **{column.name: [a.further.get(column.name) for a in read] for column in FURTHER},
        )

    def _read(self, files: tuple[Path, ...]) -> Annotation:
        annotation = self.read(files)
        annotation.detail = None if annotation.detail is None else readable(annotation.detail)[:DETAIL_LENGTH]
        return annotation

    def _set_folders(self) -> list[Path]:
        set_folders = []
        for folder, below, _ in folders_below(self.root):
            is_set = folder.name.lower() in SETS and {"images", "annotations"} <= set(below)
            if is_set and self.accepts(folder):
                set_folders.append(folder)
            below[:] = [] if is_set else [name for name in below if name not in {"images", "annotations"}]
        return set_folders

    def image_set(self, folder: Path, split: str) -> ImageSet:
        """The images and annotations in the folder. Errors: UserError when no file of its annotations/ is an annotation."""
        files: dict[str, list[str]] = {}
        entries = visible_names(folder / "annotations")
        for file in entries:
            if (name := self.annotated_name(file)) is not None:
                files.setdefault(name, []).append(file)
        if entries and not files:
            raise UserError(
                f"{folder / 'annotations'}: no file there is an annotation of layout {self.pointer.layout}, {first_few(entries)}"
            )
        same = [names for names in files.values() if len({name.lower() for name in names}) < len(names)]
        if doubled := [name for names in same for name in names if [other.lower() for other in names].count(name.lower()) > 1]:
            raise UserError(f"{folder / 'annotations'}: names that differ only in case, {first_few(doubled)}; leave one of each")
        pictures = [name for name in visible_names(folder / "images") if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        images = {Path(name).stem: name for name in pictures}
        if alike := [name for name in pictures if images[Path(name).stem] != name and Path(name).stem in files]:
            raise UserError(f"{folder / 'images'}: more than one image for the annotation of {first_few(alike)}; leave one of each")
        names = sorted(files, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
        below = folder.relative_to(self.root).as_posix()
        return ImageSet(
            below,
            split,
            tuple(names),
            tuple(images.get(name, f"{name}.jpg") for name in names),
            tuple(tuple(sorted(files[name])) for name in names),
        )


def read_limited(file: Path, largest: int) -> bytes:
    """The bytes of an annotation file. Errors: OSError for anything but a file (a pipe would never end), ValueError for too many bytes."""
    status = file.stat()
    if not S_ISREG(status.st_mode):
        raise OSError("not a file")
    if status.st_size > largest:
        raise ValueError("too large")
    return file.read_bytes()


def parse_annotation(expression: object, valence: object, arousal: object, landmarks: object) -> Annotation:
    """The annotation from values of any type; anything but a number is a fault. Landmarks may be None."""
    code, v, a = map(plain_number, (expression, valence, arousal))
    if code is None or v is None or a is None or not code.is_integer() or abs(code) >= 1000:
        return Annotation(fault="malformed", detail=",".join(map(_shown, (expression, valence, arousal))))
    annotation = Annotation(int(code), v, a)
    if landmarks is not None:
        annotation.landmarks = _points(landmarks)
        if annotation.landmarks is None:
            annotation.unread, annotation.detail = ("landmarks",), _shown(landmarks)
    return annotation


def plain_number(value: object) -> float | None:
    """A number, or a number as text; None for anything else, also for true and false."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, bool) or not (isinstance(value, Real) or (isinstance(value, str) and DECIMAL_NUMBER.fullmatch(value))):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) < LARGEST_NUMBER else None


def _shown(value: object) -> str:
    """The value in short."""
    return str(value) if isinstance(value, str) else brief(value)


def _pairs(values: object) -> object:
    """A list of mappings with x and y as a list of pairs; anything else as it is. Errors: TypeError for a mapping without them."""
    if not (isinstance(values, list) and any(isinstance(point, dict) for point in values)):
        return values
    points = [{str(name).lower(): value for name, value in point.items()} if isinstance(point, dict) else {} for point in values]
    if any(not {"x", "y"} <= set(point) for point in points):
        raise TypeError("no x and y")
    return [(point["x"], point["y"]) for point in points]


def _points(values: object) -> np.ndarray | None:
    """136 finite numbers as float32, from any nesting of them, or from points with x and y; None for anything else."""
    if isinstance(values, np.ndarray) and values.size != 136:
        return None  # the npy header may declare an absurd size
    try:
        points = np.asarray(_pairs(values), dtype=np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        return None
    return points.astype(np.float32) if points.shape == (136,) and (np.abs(points) < LARGEST_NUMBER).all() else None
