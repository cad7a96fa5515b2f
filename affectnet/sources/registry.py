"""The registered layouts, the reader of a download, and a guess of the layout when the selected reader cannot read it."""

import os
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import create_model

from affectnet.errors import UserError, first_few, reraise_machine_fault
from affectnet.files.file_walk import readable
from affectnet.sources.source import LAYOUTS, Layout, LayoutParams, Source
from affectnet.tables.source_pointer import Pointer

DEEPEST_LEVEL = 4
"""Levels below the root that are searched: in RAF-DB's archive a list is on the fourth."""

ENTRIES_PER_FOLDER, ENTRIES = 1_000, 20_000
"""Entries that are searched, per folder and in all: one of the first has the sign of the layout."""


@cache
def layouts() -> Mapping[str, type[Layout]]:
    """Every layout by name; each module of this folder registers its layout when it is imported."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], "affectnet.sources."):
        import_module(module.name)
    return dict(sorted(LAYOUTS.items()))


def params_classes() -> list[type[LayoutParams]]:
    """The params class of each layout that params.yaml can select, its field `layout` narrowed to the layout's name."""
    narrowed: dict[str, Any] = {name: Literal[name] for name in layouts()}
    return [
        create_model(f"{reader.__name__}Params", __base__=reader.Params, layout=(narrowed[name], ...))
        for name, reader in layouts().items()
        if reader.Params is not None
    ]


def open_layout(pointer: Pointer) -> Layout:
    """The reader of the pointer's layout, its lists located, not read.

    Errors: UserError when they are missing, with the layout that the tree resembles, or the names at its top.
    """
    if pointer.layout not in layouts():
        raise UserError(f"source.json: no layout {pointer.layout!r}; choose one of {', '.join(layouts())}")
    try:
        return layouts()[pointer.layout](pointer)
    except OSError as error:
        reraise_machine_fault(error, pointer.root)
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}; give this user permission, or remove it") from None
    except UserError as error:
        *others, problem = error.problems
        raise UserError(*others, "; ".join(filter(None, [problem, resemblance(pointer)]))) from None


def open_source(pointer: Pointer) -> Source:
    """As open_layout, for a download whose images are files. Errors: UserError when they are not unpacked."""
    reader = open_layout(pointer)
    if not isinstance(reader, Source):
        raise UserError(f"source.json: the images of {pointer.root} are not unpacked; run `dvc repro -f acquire`")
    return reader


def resemblance(pointer: Pointer) -> str:
    """The other layout that the tree resembles, with the params that select it, or the names at its top; empty for the selected layout."""
    paths = list(islice(_paths(Path(pointer.root)), ENTRIES))
    similar = [name for name, layout in layouts().items() if any(layout.sign.search(path.lower()) for path in paths)]
    if pointer.layout in similar:
        return ""
    if similar:
        return f"the tree looks like layout {similar[0]}: select dataset: {similar[0]} and give datasets.{similar[0]}.root"
    top = sorted(path for path in paths if "/" not in path.rstrip("/"))
    return f"at its top is {first_few(top, 5)}" if top else "it is empty"


def _paths(root: Path) -> Iterator[str]:
    """Paths below the root, level by level, folders with a final `/`."""
    level = [root]
    for _ in range(DEEPEST_LEVEL):
        below = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    first = sorted(islice(entries, ENTRIES_PER_FOLDER), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in first:
                is_folder = entry.is_dir(follow_symlinks=False)
                below += [Path(entry.path)] * is_folder
                yield readable(Path(entry.path).relative_to(root).as_posix()) + "/" * is_folder
        level = below
