"""What the layouts with one annotation file an image share: a train_set and a val_set, each with images/ and annotations/."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from affectnet.errors import UserError
from affectnet.parallel import in_order
from affectnet.pointer import Pointer
from affectnet.sources.source import IMAGE_SUFFIXES, Source, batch, landmark_lists

SETS = {"train_set": "train", "val_set": "test", "validation_set": "test"}
"""Folder → our split: the official validation set is our test."""

ROWS_A_BATCH = 4096


@dataclass
class Annotation:
    """One image's annotation as read; `fault` says what is wrong with it, None for nothing."""

    expression: int | None = None
    valence: float | None = None
    arousal: float | None = None
    landmarks: np.ndarray | None = None
    fault: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class ImageSet:
    """One of the two sets: its folder below the root, our split, and the names of annotated images with their files."""

    folder: str
    split: str
    names: tuple[str, ...]
    images: tuple[str, ...]
    annotations: tuple[tuple[str, ...], ...]


class PerImage(Source):
    """Reader of such a layout; a subclass names the annotation files of an image and reads them."""

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        folders = self._set_folders()
        splits = [SETS[folder.name.lower()] for folder in folders]
        if sorted(splits) != ["test", "train"]:
            found = ", ".join(map(str, folders)) or "neither"
            raise UserError(f"{self.root}: wanted one train_set and one val_set with images/ and annotations/ below it, found {found}")
        self.sets = [self._image_set(folder, split) for split, folder in sorted(zip(splits, folders, strict=True), reverse=True)]

    @abstractmethod
    def annotated_name(self, file: str) -> str | None:
        """The image's name without suffix, if the file is an annotation of one, else None."""

    @abstractmethod
    def read(self, files: tuple[Path, ...]) -> Annotation:
        """The annotation in these files; never raises for what they hold."""

    def accepts(self, folder: Path) -> bool:
        """Whether a set found at this place belongs to the layout."""
        return True

    def annotation_files(self) -> list[str]:
        return [f"{part.folder}/annotations/{file}" for part in self.sets for files in part.annotations for file in files]

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        for part in self.sets:
            yield part.split, pa.array([f"{part.folder}/images/{name}" for name in part.images], pa.string())

    def rows(self) -> Iterator[pa.RecordBatch]:
        for part in self.sets:
            chunks = [range(first, min(first + ROWS_A_BATCH, len(part.names))) for first in range(0, len(part.names), ROWS_A_BATCH)]
            yield from in_order(partial(self._batch, part), chunks, 0, "thread")

    def _batch(self, part: ImageSet, chosen: range) -> pa.RecordBatch:
        folder = self.root / part.folder / "annotations"
        read = [self.read(tuple(folder / file for file in part.annotations[row])) for row in chosen]
        points = np.stack([np.full(136, np.nan, np.float32) if a.landmarks is None else a.landmarks for a in read])
        return batch(
            len(read),
            image=[f"{part.folder}/images/{part.images[row]}" for row in chosen],
            list=f"{part.folder}/annotations",
            row=[row + 1 for row in chosen],
            split=part.split,
            landmarks=landmark_lists(points, np.array([a.landmarks is not None for a in read])),
            **{name: [getattr(a, name) for a in read] for name in ("expression", "valence", "arousal", "fault", "detail")},
        )

    def _set_folders(self) -> list[Path]:
        found = []
        for folder, below, _ in os.walk(self.root):
            found += [Path(folder) / name for name in sorted(below) if name.lower() in SETS and self.accepts(Path(folder) / name)]
            below[:] = sorted(name for name in below if name.lower() not in {*SETS, "images", "annotations"})
        return [folder for folder in found if (folder / "images").is_dir() and (folder / "annotations").is_dir()]

    def _image_set(self, folder: Path, split: str) -> ImageSet:
        files: dict[str, list[str]] = {}
        for entry in os.scandir(folder / "annotations"):
            if (name := self.annotated_name(entry.name)) is not None:
                files.setdefault(name, []).append(entry.name)
        images = {
            Path(entry.name).stem: entry.name
            for entry in os.scandir(folder / "images")
            if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
        }
        names = sorted(files, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
        below = folder.relative_to(self.root).as_posix()
        return ImageSet(
            below,
            split,
            tuple(names),
            tuple(images.get(name, f"{name}.jpg") for name in names),
            tuple(tuple(sorted(files[name])) for name in names),
        )


def checked(expression: object, valence: object, arousal: object, landmarks: object) -> Annotation:
    """The annotation from values of any type; what is no number is a fault. Landmarks may be None."""
    try:
        code, v, a = float(expression), float(valence), float(arousal)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return Annotation(fault="malformed", detail=f"{expression},{valence},{arousal}"[:120])
    if not (code.is_integer() and abs(code) < 1000 and np.isfinite([v, a]).all() and max(abs(v), abs(a)) < 1e30):
        return Annotation(fault="malformed", detail=f"{expression},{valence},{arousal}"[:120])
    found = Annotation(int(code), v, a)
    if landmarks is not None:
        found.landmarks = _points(landmarks)
        if found.landmarks is None:
            found.fault, found.detail = "landmarks_malformed", str(landmarks)[:60]
    return found


def _points(values: object) -> np.ndarray | None:
    """136 finite numbers as float32, from any nesting of them; None for anything else."""
    try:
        points = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        return None
    good = points.shape == (136,) and np.isfinite(points).all() and np.abs(points).max() < 1e30
    return points.astype(np.float32) if good else None
