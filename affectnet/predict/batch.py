"""Predictions for any number of photographs and frames: read in threads, predicted in batches, each counted."""

import itertools
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.images.decode import Pixels, open_photograph
from affectnet.predict.annotate import Album, annotated
from affectnet.predict.paths import Log, Shot, files, shots
from affectnet.predict.predictor import Crops, Face, Predictor
from affectnet.predict.writers import Write
from affectnet.running.parallel import cores, in_order
from affectnet.running.progress import progress

BATCH = 16
"""Photographs whose faces form a batch; memory holds only their crops, and the frames of videos."""


@dataclass
class Count:
    """How many photographs and frames were predicted, had no face or were unreadable. other: files of the folders that are neither."""

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
        return ", ".join([*parts, *([f"{many(self.other, 'other file')} skipped"] if self.other else [])])


@dataclass(frozen=True)
class Options:
    """whole: each photograph is one face; every: seconds between frames of a video; bar: whether progress is shown."""

    whole: bool
    every: float
    bar: bool


def predict_paths(predictor: Predictor, paths: Sequence[str], options: Options, album: Album | None, write: Write, log: Log) -> Count:
    """Writes the faces of each photograph and frame in the order of the paths, and an annotated copy into the album; returns the count.

    log: gets one line for each that cannot be read. Memory does not grow with their number.
    """
    count = Count()

    def unreadable(problem: str) -> None:
        count.unreadable += 1
        log(problem)

    def other(_: str) -> None:
        count.other += 1

    walk = partial(files, paths, None if album is None else album.folder)
    inputs = walk(unreadable, other)
    if options.bar:
        inputs = iter(progress(inputs, "predict", sum(1 for _ in walk(silent, silent))))
    source = shots(inputs, options.every, unreadable)
    with without_warnings(), closing(results(predictor, source, "whole" if options.whole else "detect", album)) as predicted:
        for result in predicted:
            if isinstance(result, UserError):
                unreadable(str(result))
                continue
            if album is not None and result.picture is not None:
                album.add(result.shot, result.picture)
            count.add(result.shot, result.faces)
            write(result.shot, result.faces)
    return count


class Result(NamedTuple):
    """The faces of one photograph or frame, and its annotated copy if there is an album."""

    shot: Shot
    faces: Sequence[Face]
    picture: Pixels | None = None


def results(
    predictor: Predictor, source: Iterable[Shot], where: Literal["detect", "whole"], album: Album | None
) -> Generator[Result | UserError, None, None]:
    """The faces of each photograph in order, or why it cannot be read; with an album also its annotated copy."""
    cropped = in_order(partial(_crop, predictor, where, album is not None), source, cores(), "thread")
    predicted = _predict(predictor, cropped)
    yield from predicted if album is None else in_order(_annotate, predicted, cores(), "thread")


def _crop(predictor: Predictor, where: Literal["detect", "whole"], keep_frame: bool, shot: Shot) -> tuple[Shot, Crops] | UserError:
    """The faces as the network sees them. keep_frame: also the frame of a video, to be annotated."""
    try:
        crops = predictor.crops(shot.picture, where)
    except Exception as error:  # decoders raise any class of error over broken bytes
        return problem(shot.path, error)
    return (shot if keep_frame else replace(shot, frame=None)), crops


def _predict(predictor: Predictor, cropped: Iterator[tuple[Shot, Crops] | UserError]) -> Iterator[Result | UserError]:
    while batch := list(itertools.islice(cropped, BATCH)):
        faces = iter(predictor.predict_crops([one[1] for one in batch if not isinstance(one, UserError)]))
        for one in batch:
            yield one if isinstance(one, UserError) else Result(one[0], next(faces))


def _annotate(result: Result | UserError) -> Result | UserError:
    if isinstance(result, UserError):
        return result
    shot = result.shot
    try:
        pixels = open_photograph(Path(shot.path).read_bytes(), shot.path).pixels() if shot.frame is None else shot.frame
    except Exception as error:  # it was readable a moment ago
        return problem(shot.path, error)
    return Result(replace(shot, frame=None), result.faces, annotated(pixels, result.faces))


def problem(path: str, error: Exception) -> UserError:
    """Why the photograph cannot be read, as one line. Errors: the error itself when it is a fault of the machine."""
    reraise_machine_fault(error, path)
    if isinstance(error, UserError):
        return error
    return UserError(f"{path}: unreadable image: {type(error).__name__}: {error}")


def many(count: int, noun: str) -> str:
    """`1 face`, `2 faces`."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def silent(_: str) -> None:
    """Logs nothing, in a walk that only counts."""


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silences Pillow's warnings about odd files that it reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
