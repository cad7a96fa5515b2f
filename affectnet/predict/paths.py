"""The photographs and videos that the paths of a command line name, by themselves or in folders."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.files.file_walk import HIDDEN
from affectnet.images.decode import Pixels
from affectnet.images.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from affectnet.images.video import frames

ADDRESS = re.compile(r"[a-z]{2,}://", re.IGNORECASE)

Log = Callable[[str], None]
"""Takes one line about an input that cannot be read, or the path of another file."""


@dataclass(frozen=True)
class Input:
    """One file. name: its path relative to the folder that was named, or its own name."""

    path: str
    name: str

    @property
    def video(self) -> bool:
        return _suffix(self.path) in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Shot:
    """One photograph, or one frame of a video with its time. name: as of its Input."""

    path: str
    name: str
    seconds: float | None = None
    frame: Pixels | None = None

    @property
    def picture(self) -> Path | Pixels:
        """The argument of `Predictor.predict`."""
        return Path(self.path) if self.frame is None else self.frame


@dataclass(frozen=True)
class FilmEnd:
    """Follows the last frame of a video. problem: why the rest of it cannot be read."""

    path: str
    name: str
    problem: UserError | None = None


def in_table(path: str) -> str:
    """The path in tables; bytes that are not UTF-8 as \\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def files(paths: Sequence[str], excluded: Path | None, log: Log, other: Log) -> Iterator[Input]:
    """The named files, and the photographs and videos in and below each named folder, sorted.

    excluded: a folder that is skipped. log: gets the folders that cannot be read or hold nothing; other: the files of a folder that are
    neither photographs nor videos, hidden, or a pipe or device. Links to folders are not followed.
    """
    for path in paths:
        if ADDRESS.match(path):
            log(f"{path}: addresses are not read; download the photograph and name its file")
        elif Path(path).is_dir():
            yield from _in_folder(path, excluded and excluded.resolve(), log, other)
        else:
            yield Input(path, Path(path).name)


def shots(inputs: Iterable[Input], every: float) -> Iterator[Shot | FilmEnd]:
    """The photographs, not opened, and a frame per `every` seconds of each video, followed by its end."""
    for file in inputs:
        if not file.video:
            yield Shot(file.path, file.name)
            continue
        problem = None
        try:
            for seconds, frame in frames(file.path, every):
                yield Shot(file.path, file.name, seconds, frame)
        except UserError as error:
            problem = error
        yield FilmEnd(file.path, file.name, problem)


def _in_folder(folder: str, excluded: Path | None, log: Log, other: Log) -> Iterator[Input]:
    problems: list[str] = []

    def record(problem: str) -> None:
        problems.append(problem)
        log(problem)

    below = _below(folder, folder, excluded, record, other)
    first = next(below, None)
    if first is not None:
        yield first
        yield from below
    elif not problems:
        log(f"{folder}: no photograph and no video in it or below it")


def _below(folder: str, root: str, excluded: Path | None, log: Log, other: Log, hidden: bool = False) -> Iterator[Input]:
    """hidden: whether the folder is, whose files are all other files."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing)
    except OSError as error:
        reraise_machine_fault(error, folder)
        log(f"{folder}: {error.strerror}")
        return
    for name, is_folder in entries:
        path = os.path.join(folder, name)  # noqa: PTH118 (the path as the user wrote it)
        skipped = hidden or HIDDEN.search(name) is not None
        if is_folder:
            if excluded is None or Path(path).resolve() != excluded:
                yield from _below(path, root, excluded, log, other, skipped)
        elif not skipped and _suffix(name) in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not _is_special(path):
            yield Input(path, os.path.relpath(path, root))
        else:
            other(path)


def _is_special(path: str) -> bool:
    """Whether it is a pipe, a socket or a device, which would be waited for without end."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (a str)
    except OSError:
        return False
    return not (S_ISREG(mode) or S_ISDIR(mode))


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()
