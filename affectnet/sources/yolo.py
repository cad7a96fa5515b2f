"""Copies for YOLO detectors: one text file per image, one face per line, and the names of the classes in data.yaml."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from affectnet.errors import UserError, brief, first_few
from affectnet.files.file_walk import folders_below, readable, visible_names
from affectnet.images.formats import IMAGE_SUFFIXES
from affectnet.params import read_document
from affectnet.running.parallel import in_order, ranges
from affectnet.sources.maps import MapParams, class_codes, splits_of, splits_read
from affectnet.sources.per_image import DECIMAL_NUMBER, DETAIL_LENGTH, read_limited
from affectnet.sources.source import LARGEST_NUMBER, FileParams, Source, batch_of, layout
from affectnet.tables.source_pointer import Pointer

IMAGES_PER_BATCH = 4096
LARGEST_LABEL_FILE = 1 << 20
"""Bytes of a label file at most."""


@dataclass(frozen=True)
class ImageSet:
    """One pair of folders below the root, its split, and its images, each with its label file or None, as paths below the two folders."""

    images_folder: str
    labels_folder: str
    split: str
    images: tuple[str, ...]
    labels: tuple[str | None, ...]


@layout("yolo")
class Yolo(Source):
    """`<split>/{images,labels}` or `{images,labels}/<split>`, anywhere below the root, and one `data.yaml` with `names`.

    Folders below these are read, too: an image and its label file have the same path there, except for the suffix.
    A line is a class number, then centre and size of the face's box as shares of the photograph. Each line is a row; an
    image without one has a row No-Face. Errors: UserError when data.yaml or the sets are missing, or a map lacks a name.
    """

    class Params(MapParams, FileParams):
        """No further option."""

    sign = re.compile(r"(^|/)labels/([^/]+/)?[^/]+\.txt$")
    annotates = ("box",)

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        self._contents = {folder: (below, files) for folder, below, files in folders_below(self.root)}
        documents, pairs = self._search()
        self.document = self.only(documents, "data.yaml with the names of the classes")
        self.names = class_names(self.document)
        codes = class_codes(pointer, self.names)
        self.codes = [codes[name.lower()] for name in self.names]
        self.splits = splits_of(pointer, pairs)
        self.sets = [self._image_set(*pairs[name], split) for name, split in self.splits.items() if split is not None]

    def reading(self) -> str:
        return splits_read(self.pointer, self.splits)

    def annotation_files(self) -> list[str]:
        labels = [f"{part.labels_folder}/{name}" for part in self.sets for name in part.labels if name is not None]
        return [self.below(self.document), *labels]

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        for part in self.sets:
            yield part.split, pa.array([readable(f"{part.images_folder}/{name}") for name in part.images], pa.string())

    def rows(self) -> Iterator[pa.RecordBatch]:
        for part in self.sets:
            yield from in_order(partial(self._batch, part), ranges(len(part.images), IMAGES_PER_BATCH), 0, "thread")

    def _batch(self, part: ImageSet, images: range) -> pa.RecordBatch:
        rows = [row for number in images for row in self._rows(part, number)]
        return batch_of(rows, split=part.split)

    def _rows(self, part: ImageSet, number: int) -> list[dict[str, Any]]:
        """The faces of one image."""
        label = part.labels[number] or f"{_stem(part.images[number])}.txt"
        image, listed = readable(f"{part.images_folder}/{part.images[number]}"), readable(f"{part.labels_folder}/{label}")
        try:
            text = (
                ""
                if part.labels[number] is None
                else read_limited(self.root / part.labels_folder / label, LARGEST_LABEL_FILE).decode("utf-8-sig")
            )
        except (OSError, ValueError) as error:
            return [{"image": image, "list": listed, "row": 1, "fault": "malformed", "detail": type(error).__name__}]
        faces = [(row, line) for row, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not faces:
            return [{"image": image, "list": listed, "row": 1, "fault": "expression_no_face", "detail": "no line"}]
        return [{"image": image, "list": listed, "row": row, **self._face(line)} for row, line in faces]

    def _face(self, line: str) -> dict[str, Any]:
        """Expression and box of a line, in shares of the photograph, or a fault."""
        cells = line.split()
        well_formed = len(cells) == 5 and re.fullmatch("[0-9]{1,9}", cells[0])
        if not well_formed or not all(DECIMAL_NUMBER.fullmatch(cell) and abs(float(cell)) < LARGEST_NUMBER for cell in cells[1:]):
            return {"fault": "malformed", "detail": line.strip()[:DETAIL_LENGTH]}
        x, y, width, height = map(float, cells[1:])
        box = {"left": x - width / 2, "top": y - height / 2, "right": x + width / 2, "bottom": y + height / 2, "relative": True}
        number = int(cells[0])
        if number >= len(self.codes):
            return {**box, "detail": f"class {number}, which data.yaml does not name"}
        code = self.codes[number]
        if code is None:
            return {**box, "fault": "left_out", "detail": self.names[number][:DETAIL_LENGTH]}
        return {**box, "expression": code}

    def _search(self) -> tuple[list[Path], dict[str, tuple[Path, Path]]]:
        """The files data.yaml, and for each split's name its folders of images and of labels."""
        documents: list[Path] = []
        pairs: dict[str, tuple[Path, Path]] = {}
        splits = {name.lower() for name in self.pointer.splits}
        for folder, (below, files) in self._contents.items():
            if {"images", "labels"} & {part.lower() for part in folder.relative_to(self.root).parts}:
                continue
            documents += [folder / name for name in files if name.lower() in {"data.yaml", "data.yml"}]
            lower = {name.lower(): name for name in below}
            if {"images", "labels"} <= set(lower):
                images, labels = folder / lower["images"], folder / lower["labels"]
                self._refuse_unentered(images, labels)
                inner = self._contents[images][0] if images in self._contents else []
                if folder.name.lower() in splits and not any(name.lower() in splits for name in inner):
                    inner = []  # folders of a split
                below_here = {name: (images / name, labels / name) for name in inner} or {folder.name: (images, labels)}
                if doubled := sorted(set(below_here) & set(pairs)):
                    raise UserError(f"{self.root}: more than one folder for {first_few(doubled)}; leave one of each")
                pairs |= below_here
        return documents, pairs

    def _refuse_unentered(self, *folders: Path) -> None:
        """Errors: UserError for a link that `folders_below` does not enter."""
        for folder in folders:
            if folder.is_symlink() and folder not in self._contents:
                raise UserError(
                    f"{folder}: this link is not entered, since its folder is within the root or has another link; "
                    "put the files themselves there, or remove the link"
                )

    def _files(self, folder: Path) -> list[str]:
        """The files in and below the folder, as sorted paths below it; none where it is missing."""
        if folder not in self._contents:
            return visible_names(folder)  # its error when it cannot be read
        below = [(path.relative_to(folder), files) for path, (_, files) in self._contents.items() if path.is_relative_to(folder)]
        return sorted((path / name).as_posix() for path, files in below for name in files)

    def _image_set(self, images: Path, labels: Path, split: str) -> ImageSet:
        self._refuse_unentered(images, labels)
        image_names = [name for name in self._files(images) if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        texts: dict[str, str] = {}
        for name in self._files(labels):
            if name.lower().endswith(".txt") and (other := texts.setdefault(_stem(name), name)) != name:
                raise UserError(f"{labels / name}: differs from {Path(other).name} only in the case of its suffix; leave one of them")
        pairs = [(name, texts.get(_stem(name))) for name in image_names]
        stems = {_stem(name) for name in image_names}
        without_image = [(f"{stem}.jpg", text) for stem, text in texts.items() if stem not in stems]
        names, labelled = zip(*pairs, *without_image, strict=True) if pairs or without_image else ((), ())
        return ImageSet(self.below(images), self.below(labels), split, names, labelled)


def _stem(path: str) -> str:
    """The path without its suffix."""
    return PurePosixPath(path).with_suffix("").as_posix()


def class_names(document: Path) -> list[str]:
    """`names` of a data.yaml in the order of the class numbers: a list, or a mapping from number to name. Errors: UserError."""
    names = read_document(document).get("names")
    if isinstance(names, dict) and all(str(number).isdecimal() for number in names):
        numbered = {int(number): name for number, name in names.items()}
        names = [numbered[number] for number in range(len(numbered))] if sorted(numbered) == list(range(len(numbered))) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int) for name in names):
        raise UserError(f"{document}: names: expected a list of class names, or a mapping from 0, 1, … to them, got {brief(names)}")
    return [str(name) for name in names]
