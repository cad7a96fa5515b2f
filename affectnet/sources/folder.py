"""One folder a class below one folder a split: FER2013, Kaggle's copies, and most data sets that people make themselves."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from affectnet.errors import UserError, first_few
from affectnet.expressions import CODES, SPLITS
from affectnet.formats import IMAGE_SUFFIXES
from affectnet.pointer import Pointer
from affectnet.sources.source import Source, batch
from affectnet.walk import readable


class Folder(Source):
    """`<split>/<class>/<image>` with an explicit map from folder names to expressions and to splits, in any case.

    Numbered folders need numbers in the map, since their meaning differs from copy to copy. Errors: UserError when a
    folder is in no map, a map names an unknown expression or split, or no training or test folder is there.
    """

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        self.classes = {name.lower(): expression for name, expression in pointer.classes.items()}
        self.splits = {name.lower(): split for name, split in pointer.splits.items()}
        if not self.classes:
            raise UserError("datasets.folder.classes: empty; map each class folder to an expression")
        unknown = [
            f"{name}: {value}"
            for known, mapped in ((CODES, self.classes), (SPLITS, self.splits))
            for name, value in mapped.items()
            if value not in known
        ]
        if unknown:
            raise UserError(
                f"datasets.folder: maps to unknown expressions or splits, {first_few(unknown)}; known are {', '.join((*CODES, *SPLITS))}"
            )
        self.folders = self._class_folders()

    def annotation_files(self) -> list[str]:
        return []

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        for folder, split, _ in self.folders:
            yield split, pa.array(self._names(folder), pa.string())

    def rows(self) -> Iterator[pa.RecordBatch]:
        for folder, split, code in self.folders:
            names = self._names(folder)
            below = readable(folder.relative_to(self.root).as_posix())
            yield batch(len(names), image=names, list=below, row=list(range(1, len(names) + 1)), split=split, expression=code)

    def _names(self, folder: Path) -> list[str]:
        below = folder.relative_to(self.root).as_posix()
        names = (entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES)
        return sorted(readable(f"{below}/{name}") for name in names)

    def _class_folders(self) -> list[tuple[Path, str, int]]:
        """(folder, split, expression code), by name. Folders that no map names are all told at once."""
        found, unmapped = [], []
        for split_folder in sorted(path for path in self.root.iterdir() if path.is_dir()):
            split = self.splits.get(split_folder.name.lower())
            if split is None:
                unmapped.append(f"splits: {split_folder.name}")
                continue
            for folder in sorted(path for path in split_folder.iterdir() if path.is_dir()):
                expression = self.classes.get(folder.name.lower())
                if expression is None:
                    unmapped.append(f"classes: {folder.name}")
                else:
                    found.append((folder, split, CODES[expression]))
        if unmapped:
            raise UserError(
                f"{self.root}: folders that datasets.folder does not map, {first_few(sorted(set(unmapped)), 6)}; add them to the map"
            )
        absent = [split for split in ("train", "test") if split not in {split for _, split, _ in found}]
        if absent:
            raise UserError(f"{self.root}: no class folder for the split {' and '.join(absent)}; datasets.folder.splits maps {self.splits}")
        return found
