"""One folder per class below one folder per split: FER2013, Kaggle's copies, and most data sets that people make themselves."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from affectnet.errors import UserError, first_few
from affectnet.expressions import SPLITS
from affectnet.files.file_walk import folders_below, readable
from affectnet.images.formats import IMAGE_SUFFIXES
from affectnet.sources.maps import MapParams, class_codes, class_map, lower_case, splits_of
from affectnet.sources.source import FileParams, Source, batch, layout
from affectnet.tables.source_pointer import Pointer


@dataclass(frozen=True)
class Contents:
    """The folders and the images in a folder, as paths below the root."""

    folders: list[str]
    images: list[str]


@dataclass(frozen=True)
class ClassFolder:
    """A folder of one expression: its path below the root, our split, the expression's code, and the images in and below it."""

    path: str
    split: str
    code: int
    images: list[str]


@layout("folder")
class Folder(Source):
    """`<split>/<class>/<image>` with an explicit map from folder names to expressions and to splits, in any case.

    Images are read in and below their class folder. Without a test folder, validation is test; without either, `clean` cuts
    `test_share` of train off as test. Numbered folders need numbers in the map, since their meaning differs from copy to copy.
    Errors: UserError when a folder is in no map, a map names an unknown expression or split, or a split is missing.
    """

    class Params(MapParams, FileParams):
        """No further option."""

    sign = re.compile(r"(^|/)(train|training|val|valid|validation|test|testing)/(?!images/|labels/|annotations/)[^/]+/[^/]+\.(jpe?g|png)$")

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        self.params = pointer.params
        self.classes = class_map(pointer)
        self.splits = lower_case(pointer, "splits", pointer.splits)
        self._check_splits()
        self._contents = _contents(self.root)
        self._top = self._unpacked("", {**self.splits, **self.classes})
        self._skipped: list[str] = []
        self.split_folders = self._split_folders()
        self.class_folders = self._class_folders()

    def reading(self) -> str:
        deeper = sum(str(PurePosixPath(image).parent) != folder.path for folder in self.class_folders for image in folder.images)
        empty = [folder.path for folder in self.class_folders if not folder.images]
        return (
            ", ".join(f"{folder or 'all'} as {split}" for folder, split in self.split_folders)
            + (f", {self.pointer.test_share:g} of train to be cut off as test" if self.pointer.test_share is not None else "")
            + (f"; {deeper:,} images in folders below their class folder" if deeper else "")
            + (f"; class folders without an image, {first_few(empty)}" if empty else "")
            + (f"; skipped, {first_few(self._skipped)}" if self._skipped else "")
        )

    def annotation_files(self) -> list[str]:
        return []

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        for folder in self.class_folders:
            yield folder.split, pa.array(folder.images, pa.string())

    def rows(self) -> Iterator[pa.RecordBatch]:
        for folder in self.class_folders:
            numbered = list(range(1, len(folder.images) + 1))
            yield batch(len(numbered), image=folder.images, list=folder.path, row=numbered, split=folder.split, expression=folder.code)

    def _check_splits(self) -> None:
        if unknown := [f"{name}: {value}" for name, value in self.splits.items() if value is not None and value not in SPLITS]:
            raise UserError(
                f"params.yaml: {self.params}.splits: maps to unknown names, {first_few(unknown)}; choose from {', '.join(SPLITS)}"
            )

    def _unpacked(self, folder: str, mapped: Mapping[str, str | None]) -> str:
        """The folder itself, or the one that holds the mapped folders below single folders, as archives unpack: `archive/AffectNet`."""
        inner = folder
        while len(below := self._below(inner)) == 1 and _name(below[0]) not in mapped:
            (inner,) = below
        return inner if any(_name(subfolder) in mapped for subfolder in below) else folder

    def _split_folders(self) -> list[tuple[str, str]]:
        """(folder, split), train first; a root with only class folders is train. Errors: UserError when train or test is missing."""
        below = self._below(self._top)
        if any(_name(folder) in self.splits for folder in below):
            splits = splits_of(self.pointer, (PurePosixPath(folder).name for folder in below))
            by_folder = {folder: splits[PurePosixPath(folder).name] for folder in below}
            self._skipped += [folder for folder, split in by_folder.items() if split is None]
            return sorted(((folder, split) for folder, split in by_folder.items() if split), key=lambda pair: SPLITS.index(pair[1]))
        if not any(_name(folder) in self.classes for folder in below):
            raise UserError(self._no_shape(below))
        if self.pointer.test_share is None:
            raise UserError(
                f"{self.root}: only class folders, {first_few(below, 8)}; put them into train/ and test/, "
                f"or set {self.params}.test_share, as to 0.2, to have that share cut off as test, near duplicates together"
                + (f"; or set {self.params}.root to {self.root.parent}" if self.root.name.lower() in self.splits else "")
            )
        return [(self._top, "train")]

    def _no_shape(self, below: list[str]) -> str:
        """The message for a root with neither split nor class folders, and where below it there are some."""
        mapped = {**self.splits, **self.classes}
        holders = sorted({PurePosixPath(folder).parent for folder in self._contents if _name(folder) in mapped})
        outermost = min(holders, key=lambda folder: len(folder.parts), default=None)
        present = f"there are {first_few(below, 8)}" if below else "there is none"
        remedy = "the layout needs <split>/<class>/<image>"
        if outermost is not None:
            remedy = f"set {self.params}.root to the folder that holds them, as {self.root / outermost}"
        return f"{self.root}: no folder that {self.params}.splits or classes maps, {present}; {remedy}"

    def _class_folders(self) -> list[ClassFolder]:
        """The class folders by split and name. Errors: UserError with all folders that no map names, or a split folder without a class."""
        by_split = [(split, folder, self._below(self._unpacked(folder, self.classes))) for folder, split in self.split_folders]
        codes = class_codes(self.pointer, (PurePosixPath(folder).name for _, _, below in by_split for folder in below))
        class_folders = []
        for split, split_folder, below in by_split:
            if not below:
                raise UserError(f"{self.root}: no class folder in {split_folder}; the layout needs <split>/<class>/<image>")
            self._skipped += [folder for folder in below if codes[_name(folder)] is None]
            by_folder = [(folder, code) for folder in below if (code := codes[_name(folder)]) is not None]
            mapped = [(folder, code) for folder, code in by_folder if folder in self._contents]
            self._skipped += [f"{folder} (not entered)" for folder, _ in by_folder if folder not in self._contents]
            class_folders += [ClassFolder(folder, split, code, self._images(folder)) for folder, code in mapped]
        return class_folders

    def _images(self, class_folder: str) -> list[str]:
        """The images in and below a class folder. Errors: UserError when a folder below it has the name of another class, or of a split."""
        expression = self.classes[_name(class_folder)]
        deeper = [folder for folder in self._contents if folder.startswith(f"{class_folder}/")]
        others = [path for path in deeper if _name(path) in self.splits or self.classes.get(_name(path), expression) != expression]
        if others:
            raise UserError(
                f"{self.root}: below the class folder {class_folder} are folders named as another class or a split, {first_few(others)}; "
                "move them out of it"
            )
        return sorted(image for folder in (class_folder, *deeper) for image in self._contents[folder].images)

    def _below(self, folder: str) -> list[str]:
        contents = self._contents.get(folder)
        return contents.folders if contents else []  # a link to a folder within the root is not entered


def _contents(root: Path) -> dict[str, Contents]:
    """All folders by their path below the root, '' for itself."""
    contents = {}
    for folder, below, files in folders_below(root):
        prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        images = [readable(prefix + name) for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        contents[readable(prefix[:-1])] = Contents([readable(prefix + name) for name in below], images)
    return contents


def _name(folder: str) -> str:
    """The folder's name as the maps have it, in lower case."""
    return PurePosixPath(folder).name.lower()
