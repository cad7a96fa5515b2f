"""Photographs in one folder an expression, and what the folders' names mean."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from affectnet.errors import UserError, brief, first_few
from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.files.file_walk import HIDDEN
from affectnet.params import FolderName
from affectnet.predict.paths import Told, files

Classes = Mapping[str, str | None]
"""Folder name in lower case → expression, or None for a folder that is not used."""

ClassFolders = Sequence[tuple[Path, str | None]]
"""Folders, and the expression of the photographs in each, or None when they are not used."""

NOT_USED = "null"

_CLASSES = TypeAdapter(dict[FolderName, Literal[EXPRESSIONS] | None])  # type: ignore[valid-type]


@dataclass(frozen=True)
class Labelled:
    """A photograph and the code of its expression."""

    path: str
    code: int


def folder_classes(document: Mapping[str, Any], place: Path) -> dict[str, str | None]:
    """`datasets.folder.classes` of params.yaml. Errors: UserError when it is no map from names to expressions."""
    try:
        found = document["datasets"]["folder"]["classes"]
        return _CLASSES.validate_python(found)
    except (LookupError, TypeError, ValidationError):
        raise UserError(
            f"{place}: datasets.folder.classes: no map from folder names to expressions or null; see the shipped file"
        ) from None


def with_labels(classes: Classes, given: Sequence[str]) -> dict[str, str | None]:
    """The classes, with what `name=Expression` and `name=null` say beside or in place of them. Errors: UserError for anything else."""
    expressions = {name.lower(): name for name in EXPRESSIONS}
    found = {name.lower(): expression for name, expression in classes.items()}
    for one in given:
        name, equals, expression = one.rpartition("=")
        if not equals or not name or expression.lower() not in {*expressions, NOT_USED}:
            raise UserError(f"--labels: {brief(one)} is no folder=Expression; give one of {', '.join(EXPRESSIONS)}, or {NOT_USED}")
        found[name.lower()] = expressions.get(expression.lower())
    return found


def class_folders(folder: Path, split: str | None, classes: Classes) -> ClassFolders:
    """The folders below the folder, or below its folder `split` in any case, and what each means, by name.

    Errors: UserError when there is none, or one that the classes do not name.
    """
    below = _folders(folder)
    if split is not None:
        found = [path for path in below if path.name.lower() == split.lower()]
        if len(found) != 1:
            raise UserError(f"{folder}: no one folder {brief(split)} there; its folders: {_named(below)}")
        folder, below = found[0], _folders(found[0])
    unknown = [path for path in below if path.name.lower() not in classes]
    if unknown:
        known = ", ".join(name for name in classes)
        raise UserError(
            f"{folder}: folders that name no expression, {_named(unknown)}; known are {known}; "
            "say what another means with --labels name=Expression or name=null, or which split you mean with --split"
        )
    if not any(classes[path.name.lower()] for path in below):
        raise UserError(f"{folder}: no folder of an expression there; give one with a folder a class, as happy/ and sad/")
    return [(path, classes[path.name.lower()]) for path in below]


def photographs(folders: ClassFolders, told: Told, other: Told) -> Iterator[Labelled]:
    """Each photograph in and below the folders, sorted; other: gets all that is none, or lies in a folder that is not used."""
    for folder, expression in folders:
        for found in files([str(folder)], None, told if expression else _not_used, other):
            if found.video or expression is None:
                other(found.path)
            else:
                yield Labelled(found.path, CODES[expression])


def _not_used(_: str) -> None:
    """Takes what is wrong with a folder that is not used."""


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not HIDDEN.search(path.name))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give a folder with one folder a class") from None


def _named(folders: Sequence[Path]) -> str:
    return first_few([path.name for path in folders], 8) if folders else "none"
