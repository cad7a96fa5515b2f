"""The faces of any number of photographs and frames: read in threads, answered in batches, each counted."""

import itertools
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from affectnet.errors import UserError, pass_machine_fault
from affectnet.images.decode import Pixels, open_photograph
from affectnet.predict.annotate import Album, annotated
from affectnet.predict.paths import Shot, Told, files, shots
from affectnet.predict.predictor import Crops, Face, Predictor
from affectnet.predict.writers import Write
from affectnet.running.parallel import cores, in_order
from affectnet.running.progress import progress

BATCH = 16
"""Photographs whose faces the network sees together, of which memory holds no more than their crops, and the frames of videos."""


@dataclass
class Count:
    """What became of the photographs and frames. other: files of the folders that are neither."""

    photographs: int = 0
    frames: int = 0
    faces: int = 0
    without: int = 0
    unreadable: int = 0
    other: int = 0

    def add(self, shot: Shot, faces: Sequence[Face]) -> None:
        self.photographs += shot.seconds is None
        self.frames += shot.seconds is not None
        self.faces += len(faces)
        self.without += not faces

    def __str__(self) -> str:
        parts = [many(self.photographs, "photograph"), *([f"{many(self.frames, 'frame')} of videos"] if self.frames else [])]
        parts += [many(self.faces, "face"), f"{self.without:,} without a face", f"{self.unreadable:,} unreadable"]
        return ", ".join([*parts, *([f"{many(self.other, 'other file')} passed over"] if self.other else [])])


@dataclass(frozen=True)
class Options:
    """whole: each photograph is one face; every: seconds between a video's frames; bar: whether progress is shown."""

    whole: bool
    every: float
    bar: bool


def predict_paths(predictor: Predictor, paths: Sequence[str], options: Options, album: Album | None, write: Write, tell: Told) -> Count:
    """Writes the faces of each photograph and frame in the order of the paths, and a copy of it into the album; returns the count.

    tell: gets one line for each that cannot be read. Memory does not grow with their number.
    """
    count = Count()

    def unreadable(problem: str) -> None:
        count.unreadable += 1
        tell(problem)

    def other(_: str) -> None:
        count.other += 1

    found = partial(files, paths, None if album is None else album.folder)
    total = sum(1 for _ in found(silent, silent)) if options.bar else None
    inputs = found(unreadable, other)
    read = shots(progress(inputs, "predict", total) if options.bar else inputs, options.every, unreadable)
    with without_warnings(), closing(results(predictor, read, "whole" if options.whole else "detect", album)) as answered:
        for result in answered:
            if isinstance(result, UserError):
                unreadable(str(result))
                continue
            if album is not None and result.picture is not None:
                album.add(result.shot, result.picture)
            count.add(result.shot, result.faces)
            write(result.shot, result.faces)
    return count


class Result(NamedTuple):
    """The faces of one photograph or frame, and its annotated copy where that is wanted."""

    shot: Shot
    faces: Sequence[Face]
    picture: Pixels | None = None


def results(
    predictor: Predictor, read: Iterable[Shot], where: Literal["detect", "whole"], album: Album | None
) -> Generator[Result | UserError, None, None]:
    """The faces of each photograph in order, or why it cannot be read; an album wants its annotated copy, too."""
    prepared = in_order(partial(_prepared, predictor, where, album is not None), read, cores(), "thread")
    answered = _answered(predictor, prepared)
    yield from answered if album is None else in_order(_drawn, answered, cores(), "thread")


def _prepared(predictor: Predictor, where: Literal["detect", "whole"], keep: bool, shot: Shot) -> tuple[Shot, Crops] | UserError:
    """The faces as the network sees them. keep: also the frame of a video, to be drawn on."""
    try:
        crops = predictor.crops(shot.picture, where)
    except Exception as error:  # a decoder that stumbles over broken bytes raises what it likes
        return problem(shot.path, error)
    return (shot if keep else replace(shot, frame=None)), crops


def _answered(predictor: Predictor, prepared: Iterator[tuple[Shot, Crops] | UserError]) -> Iterator[Result | UserError]:
    while batch := list(itertools.islice(prepared, BATCH)):
        answers = iter(predictor.answer([one[1] for one in batch if not isinstance(one, UserError)]))
        for one in batch:
            yield one if isinstance(one, UserError) else Result(one[0], next(answers))


def _drawn(result: Result | UserError) -> Result | UserError:
    if isinstance(result, UserError):
        return result
    shot = result.shot
    try:
        pixels = open_photograph(Path(shot.path).read_bytes(), shot.path).pixels() if shot.frame is None else shot.frame
    except Exception as error:  # it was readable a moment ago
        return problem(shot.path, error)
    return Result(replace(shot, frame=None), result.faces, annotated(pixels, result.faces))


def problem(path: str, error: Exception) -> UserError:
    """Why the photograph cannot be read, as one line: the error itself when it is one. Errors: what is the machine's fault."""
    pass_machine_fault(error, path)
    if isinstance(error, UserError):
        return error
    return UserError(f"{path}: no readable image: {type(error).__name__}: {error}")


def many(count: int, what: str) -> str:
    """`1 face`, `2 faces`."""
    return f"{count:,} {what}" + "s" * (count != 1)


def silent(_: str) -> None:
    """For a walk that only counts."""


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow warns of what is odd in a file that it reads all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
