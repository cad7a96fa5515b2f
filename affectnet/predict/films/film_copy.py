"""The annotated copy of a film at its rate, with the faces of the frames that were analysed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from affectnet.errors import UserError
from affectnet.images.decode import Pixels
from affectnet.images.video import frame_rate, frames, writing_video
from affectnet.predict.annotate import annotated_answer
from affectnet.predict.paths import FilmEnd
from affectnet.predict.predictor import Face
from affectnet.predict.writers import Answer


def write_annotated(film: FilmEnd, answers: Sequence[Answer], path: Path) -> int:
    """Writes an mp4 file without sound, at a constant rate: a frame of a variable rate is repeated for as long as it is shown.

    Returns how many frames of the film are not in the copy, as they are shown for a shorter time than its own. answers: for the analysed
    frames, in their order; until the next, a frame has the faces of the last, and faces that are followed move in between. Of a film
    that ends with a problem the readable part is copied. Errors: UserError when it cannot be read or written.
    """
    read = 0

    def readable() -> Iterator[tuple[float, Pixels]]:
        nonlocal read
        try:
            for one in _annotated(film.path, answers):
                read += 1
                yield one
        except UserError:
            if film.problem is None:
                raise

    rate = frame_rate(film.path)
    pictures = at_constant_rate(readable(), rate)
    first = next(pictures)
    written, last = 1, first
    with writing_video(path, rate, (first.shape[1], first.shape[0])) as write:
        write(first)
        for picture in pictures:
            written += picture is not last  # a frame that is repeated is the same array
            last = picture
            write(picture)
    return read - written


def at_constant_rate(frames_of_film: Iterable[tuple[float, Pixels]], rate: float) -> Iterator[Pixels]:
    """The frame that is shown in each 1 / rate seconds, from the first frame's time to the last's."""
    count, start, shown = 0, 0.0, None
    for seconds, frame in frames_of_film:
        if shown is None:
            start = seconds
        else:
            due = round((seconds - start) * rate)
            for _ in range(due - count):
                yield shown
            count = max(count, due)
        shown = frame
    if shown is not None:
        yield shown


def _annotated(path: str, answers: Sequence[Answer]) -> Iterator[tuple[float, Pixels]]:
    at = 0
    for seconds, frame in frames(path, 0):
        while at + 1 < len(answers) and _time(answers[at + 1]) <= seconds:
            at += 1
        following = answers[at + 1] if at + 1 < len(answers) else answers[at]
        yield seconds, annotated_answer(frame, _between(answers[at], following, seconds))


def _between(last: Answer, following: Answer, seconds: float) -> Answer:
    """The last answer, in which each face that is followed has moved towards its place in the following one."""
    if last.tracks is None or following.tracks is None or last is following:
        return last
    share = (seconds - _time(last)) / (_time(following) - _time(last))
    later = dict(zip(following.tracks, following.faces, strict=True))
    faces = [_moved(face, later.get(track, face), share) for track, face in zip(last.tracks, last.faces, strict=True)]
    return replace(last, faces=faces)


def _moved(face: Face, later: Face, share: float) -> Face:
    left, top, right, bottom = (one + share * (other - one) for one, other in zip(face.box, later.box, strict=True))
    return replace(face, box=(left, top, right, bottom))


def _time(answer: Answer) -> float:
    return answer.shot.seconds or 0.0
