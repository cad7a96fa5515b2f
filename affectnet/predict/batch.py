"""Predictions for any number of photographs and frames: read in threads, predicted in batches, each counted."""

import itertools
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from affectnet.errors import UserError, many, reraise_machine_fault
from affectnet.images.decode import Pixels, open_photograph
from affectnet.predict.album import Album
from affectnet.predict.annotate import annotated_answer
from affectnet.predict.films.curves import portrait
from affectnet.predict.films.timeline import Timeline
from affectnet.predict.films.tracks import Follower, Look, look
from affectnet.predict.paths import FilmEnd, Log, Shot, files, shots
from affectnet.predict.predictor import Crops, Predictor
from affectnet.predict.writers import Answer, Write
from affectnet.running.parallel import cores, in_order
from affectnet.running.progress import progress

BATCH = 16
"""Photographs whose faces form a batch; memory holds only their crops, and the frames of videos."""

NOT_COPIED = "frames of videos that are not in the copies, which have at most 60 a second, each for the same time"


@dataclass
class Count:
    """How many photographs and frames were predicted, had no face or were unreadable.

    whole: photographs of `without` that were predicted as a whole; tracks: numbers of faces in the films that have ended; highest: in
    the film that has not; other: files of the folders that are neither; not_copied: frames of films that their copies lack.
    """

    photographs: int = 0
    frames: int = 0
    faces: int = 0
    tracks: int = 0
    highest: int = 0
    without: int = 0
    whole: int = 0
    unreadable: int = 0
    other: int = 0
    not_copied: int = 0

    def add(self, answer: Answer) -> None:
        self.photographs += answer.shot.seconds is None
        self.frames += answer.shot.seconds is not None
        self.faces += len(answer.faces)
        self.without += not answer.faces
        self.whole += answer.instead is not None
        self.highest = max(self.highest, *answer.tracks or [0])

    def end_film(self) -> None:
        self.tracks += self.highest
        self.highest = 0

    def __str__(self) -> str:
        parts = [many(self.photographs, "photograph"), *([f"{many(self.frames, 'frame')} of videos"] if self.frames else [])]
        number = "" if self.whole == self.without else f"{self.whole:,} "
        whole = f" ({number}answered whole)" if self.whole else ""
        tracks = f" in {many(self.tracks, 'track')}" if self.tracks else ""
        parts += [f"{many(self.faces, 'face')}{tracks}", f"{self.without:,} without a face{whole}", f"{self.unreadable:,} unreadable"]
        return ", ".join([*parts, *([f"{many(self.other, 'other file')} skipped"] if self.other else [])])

    def notes(self) -> list[str]:
        """What else users should know, a line each."""
        return [f"{NOT_COPIED}: {self.not_copied:,}"] if self.not_copied else []


@dataclass(frozen=True)
class Options:
    """whole: each photograph is one face; every: seconds between frames of a video; bar: whether progress is shown.

    track: whether the faces of films keep their number; smooth: time constant in seconds over which their predictions are averaged.
    """

    whole: bool
    every: float
    bar: bool
    track: bool = False
    smooth: float | None = None


class Cropped(NamedTuple):
    """The faces of a photograph or frame as the network sees them.

    instead: whether no face was detected, and the only crop is the whole photograph; look: of a frame whose faces are followed;
    portraits: its faces for the page of timelines.
    """

    shot: Shot
    crops: Crops
    instead: bool
    look: Look | None = None
    portraits: Sequence[Pixels] = ()


class Result(NamedTuple):
    """The answer, what `Cropped` hands on, and the annotated copy of a photograph if there is an album."""

    answer: Answer
    look: Look | None = None
    portraits: Sequence[Pixels] = ()
    picture: Pixels | None = None


def predict_paths(
    predictor: Predictor, paths: Sequence[str], options: Options, album: Album | None, timeline: Timeline | None, write: Write, log: Log
) -> Count:
    """Writes the answer for each photograph and frame in the order of the paths; returns the count.

    album: gets an annotated copy of each photograph and film; timeline: gets each film; log: gets one line for each file that cannot be
    read. Memory does not grow with the number of photographs; the album holds the answers for one film, the timeline those for all.
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
    answers: list[Answer] = []
    with without_warnings(), closing(results(predictor, shots(inputs, options.every), options, album, timeline)) as predicted:
        for result in predicted:
            if isinstance(result, UserError):
                unreadable(str(result))
            elif isinstance(result, FilmEnd):
                for problem in _end_film(result, answers, album, timeline, count):
                    unreadable(problem)
                answers.clear()
                count.end_film()
            else:
                _keep(result, answers, album, timeline)
                count.add(result.answer)
                write(result.answer)
    return count


def _keep(result: Result, answers: list[Answer], album: Album | None, timeline: Timeline | None) -> None:
    shot = result.answer.shot
    if album is not None and result.picture is not None:
        album.add(shot.path, shot.name, result.picture)
    if album is not None and shot.seconds is not None:
        answers.append(result.answer)
    if timeline is not None and shot.seconds is not None:
        timeline.add(result.answer, result.portraits)


def _end_film(film: FilmEnd, answers: Sequence[Answer], album: Album | None, timeline: Timeline | None, count: Count) -> Iterator[str]:
    """Writes the film's copy, and ends its timeline; yields the problems."""
    if film.problem is not None:
        yield str(film.problem)
    if timeline is not None:
        timeline.end(film)
    if album is not None and answers:
        try:
            count.not_copied += album.add_film(film, answers)
        except UserError as error:
            yield str(error)


def results(
    predictor: Predictor, source: Iterable[Shot | FilmEnd], options: Options, album: Album | None = None, timeline: Timeline | None = None
) -> Generator[Result | FilmEnd | UserError, None, None]:
    """The answer for each photograph and frame in order, or why it cannot be read.

    With an album also the annotated copy of each photograph, with a timeline the portraits of a frame's faces.
    """
    cropped = in_order(partial(_crop, predictor, options, timeline is not None), source, cores(), "thread")
    predicted = _predict(predictor, cropped)
    if options.track:
        predicted = _follow(predicted, Follower(options.smooth, options.every))
    yield from predicted if album is None else in_order(_annotate, predicted, cores(), "thread")


def _crop(predictor: Predictor, options: Options, portraits: bool, shot: Shot | FilmEnd) -> Cropped | FilmEnd | UserError:
    if isinstance(shot, FilmEnd):
        return shot
    try:
        crops = predictor.crops(shot.picture, "whole" if options.whole else "detect")
        if shot.frame is None:
            return Cropped(shot, crops or predictor.crops(shot.picture, "whole"), not crops)
    except Exception as error:  # decoders raise any class of error over broken bytes
        return problem(shot.path, error)
    without_frame = replace(shot, frame=None)
    if not options.track:
        return Cropped(without_frame, crops, False)
    pictures = [portrait(shot.frame, crop.box) for crop in crops] if portraits else []
    return Cropped(without_frame, crops, False, look(shot.frame), pictures)


def _predict(predictor: Predictor, cropped: Iterator[Cropped | FilmEnd | UserError]) -> Iterator[Result | FilmEnd | UserError]:
    while batch := list(itertools.islice(cropped, BATCH)):
        predictions = iter(predictor.predict_crops([one.crops for one in batch if isinstance(one, Cropped)]))
        for one in batch:
            if isinstance(one, Cropped):
                faces = next(predictions)
                answer = Answer(one.shot, [], faces[0]) if one.instead else Answer(one.shot, faces)
                yield Result(answer, one.look, one.portraits)
            else:
                yield one


def _follow(predicted: Iterator[Result | FilmEnd | UserError], follower: Follower) -> Iterator[Result | FilmEnd | UserError]:
    for result in predicted:
        if isinstance(result, FilmEnd):
            follower.next_film()
        if isinstance(result, Result) and result.look is not None:
            yield result._replace(answer=follower.follow(result.answer, result.look))
        else:
            yield result


def _annotate(result: Result | FilmEnd | UserError) -> Result | FilmEnd | UserError:
    if not isinstance(result, Result) or result.answer.shot.seconds is not None:
        return result
    path = result.answer.shot.path
    try:
        pixels = open_photograph(Path(path).read_bytes(), path).pixels()
    except Exception as error:  # it was readable a moment ago
        return problem(path, error)
    return result._replace(picture=annotated_answer(pixels, result.answer))


def problem(path: str, error: Exception) -> UserError:
    """Why the photograph cannot be read, as one line. Errors: the error itself when it is a fault of the machine."""
    reraise_machine_fault(error, path)
    if isinstance(error, UserError):
        return error
    return UserError(f"{path}: unreadable image: {type(error).__name__}: {error}")


def silent(_: str) -> None:
    """Logs nothing, in a walk that only counts."""


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silences Pillow's warnings about odd files that it reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
