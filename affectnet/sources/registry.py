"""What a tree seems to be whose selected reader finds nothing in it: a layout by its sign, or what lies at the top."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from affectnet.errors import first_few
from affectnet.files.file_walk import readable
from affectnet.sources.source import Layout
from affectnet.tables.source_pointer import Pointer

DEEPEST = 4
"""Levels below the root that are looked at: a list of RAF-DB's lies on the fourth of its whole archive."""

MOST_OF_A_FOLDER, MOST = 1_000, 20_000
"""Entries looked at of one folder, and of all: a sign is on one of the first."""


def sight(pointer: Pointer, layouts: Mapping[str, type[Layout]]) -> str:
    """Which other layout the tree looks like, with the params that select it, or what is at its top; empty for the selected one's tree."""
    paths = list(islice(_paths(Path(pointer.root)), MOST))
    signed = [name for name, layout in layouts.items() if any(layout.sign.search(path.lower()) for path in paths)]
    if pointer.layout in signed:
        return ""
    if signed:
        return f"the tree looks like layout {signed[0]}: select dataset: {signed[0]} and give datasets.{signed[0]}.root"
    top = sorted(path for path in paths if "/" not in path.rstrip("/"))
    return f"at its top is {first_few(top, 5)}" if top else "it is empty"


def _paths(root: Path) -> Iterator[str]:
    """Paths below the root, level by level, folders with a final `/`."""
    level = [root]
    for _ in range(DEEPEST):
        below = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    shown = sorted(islice(entries, MOST_OF_A_FOLDER), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in shown:
                is_folder = entry.is_dir(follow_symlinks=False)
                below += [Path(entry.path)] * is_folder
                yield readable(Path(entry.path).relative_to(root).as_posix()) + "/" * is_folder
        level = below
