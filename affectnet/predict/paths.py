"""What the paths of a command line mean: photographs, folders of photographs and videos, videos."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from affectnet.errors import UserError, pass_machine_fault
from affectnet.images.decode import Pixels
from affectnet.images.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from affectnet.images.video import frames

Told = Callable[[str], None]
"""Takes the one line about an input that cannot be read."""


@dataclass(frozen=True)
class Input:
    """One file. name: its path below the folder that was given, or its own name."""

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
        """What a predictor takes."""
        return Path(self.path) if self.frame is None else self.frame


def files(paths: Sequence[str], without: Path | None, told: Told, other: Told) -> Iterator[Input]:
    """The files that the paths name: each by itself, and of a folder all photographs and videos in and below it, sorted.

    without: a folder that is not looked into. told: gets the folders that cannot be read, and the paths that give nothing; other: the
    files of a folder that are neither photographs nor videos. Links to folders are not followed.
    """
    for path in paths:
        if Path(path).is_dir():
            yield from _in_folder(path, without and without.resolve(), told, other)
        else:
            yield Input(path, Path(path).name)


def shots(inputs: Iterator[Input], every: float, told: Told) -> Iterator[Shot]:
    """The photographs, none of them opened, and of each video a frame `every` seconds. told: gets the videos that cannot be read."""
    for given in inputs:
        if not given.video:
            yield Shot(given.path, given.name)
            continue
        try:
            for seconds, frame in frames(given.path, every):
                yield Shot(given.path, given.name, seconds, frame)
        except UserError as error:
            told(str(error))


def _in_folder(folder: str, without: Path | None, told: Told, other: Told) -> Iterator[Input]:
    problems: list[str] = []

    def noted(problem: str) -> None:
        problems.append(problem)
        told(problem)

    below = _below(folder, folder, without, noted, other)
    first = next(below, None)
    if first is not None:
        yield first
        yield from below
    elif not problems:
        told(f"{folder}: no photograph and no video in it or below")


def _below(folder: str, root: str, without: Path | None, told: Told, other: Told) -> Iterator[Input]:
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
    except OSError as error:
        pass_machine_fault(error, folder)
        told(f"{folder}: {error.strerror}")
        return
    for name, is_folder in entries:
        path = os.path.join(folder, name)  # noqa: PTH118 (the path as the user began it)
        if is_folder:
            if without is None or Path(path).resolve() != without:
                yield from _below(path, root, without, told, other)
        elif _suffix(name) in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            yield Input(path, os.path.relpath(path, root))
        else:
            other(path)


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()
