"""Videos by OpenCV: their frames at the requested interval, and new ones."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.images.decode import Pixels
from affectnet.images.opencv import opencv

SLACK_S, SLACK_SHARE = 2.0, 0.05
"""How much before the stated end the last frame may come: the sound of a video may be longer than its frames."""

MATROSKA, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""First bytes of the two elements of an mkv or webm file (RFC 9559)."""

LONGEST_HEAD = 4096
HALF_A_MS = 0.0005

CODEC, USUAL_RATE, HIGHEST_RATE = "mp4v", 25.0, 60.0
"""Of videos that are written: MPEG-4, the one that each OpenCV writes; frames per second of a video that states none, and at most."""


def frames(path: str, every: float) -> Iterator[tuple[float, Pixels]]:
    """Time in seconds and (h, w, 3) RGB uint8 of the first frame in each `every` seconds; of each frame when that is 0.

    Times are those of the file, so they are right for videos of a variable rate. Errors: UserError when OpenCV is missing or cannot read
    the video, and after the last frame when it comes too early and the file lacks frames. A last frame that is shown for long, as in a
    recording of a screen, is not an error.
    """
    cv2 = opencv(path)
    with _opened(path) as video:
        count = video.get(cv2.CAP_PROP_FRAME_COUNT)
        number, due, seconds = 0, 0.0, 0.0
        while video.grab():
            seconds = round(video.get(cv2.CAP_PROP_POS_MSEC) / 1000, 3)
            if seconds + HALF_A_MS >= due:
                decoded, picture = video.retrieve()
                if not decoded:
                    raise UserError(f"{path}: unreadable video: its frame at {seconds:.3f} s is broken")
                yield seconds, np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
                due = (np.floor((seconds + HALF_A_MS) / every) + 1) * every if every else 0.0
            number += 1
        stated = _stated_end(video, cv2) or 0.0
        early = stated - seconds > max(SLACK_S, SLACK_SHARE * stated)
        if not number or (early and number < count and not _is_whole_matroska(path)):
            raise UserError(f"{path}: unreadable video: {number:,} frames, up to {seconds:.1f} s of the {stated:.1f} s that it states")


def frame_rate(path: str) -> float:
    """Frames per second that a copy needs: as the file states, USUAL_RATE without a statement. Errors: UserError as `frames`."""
    with _opened(path) as video:
        rate = float(video.get(opencv(path).CAP_PROP_FPS))
    return min(rate, HIGHEST_RATE) if rate > 0 else USUAL_RATE


def stated_end(path: str) -> float | None:
    """Seconds from the video's beginning to its end, as its file states them; None without a statement, or where it cannot be opened."""
    with suppress(UserError), _opened(path) as video:
        return _stated_end(video, opencv(path))
    return None


@contextmanager
def writing_video(path: Path, rate: float, dimensions: tuple[int, int]) -> Iterator[Callable[[Pixels], None]]:
    """Yields a function that appends a frame, (h, w, 3) RGB uint8, to an mp4 file without sound.

    dimensions: width and height of all frames. Errors: UserError when OpenCV cannot write it.
    """
    cv2 = opencv(str(path))
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "video.mp4"  # OpenCV takes the format from the name, and refuses names that are not UTF-8
        link.symlink_to(path.absolute())
        writer = cv2.VideoWriter(str(link), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODEC), rate, dimensions)
        try:
            if not writer.isOpened():
                raise UserError(
                    f"{path}: OpenCV cannot write a video of {dimensions[0]} × {dimensions[1]} px at {rate:g} frames per second"
                )
            yield lambda frame: writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        finally:
            writer.release()


def _stated_end(video: Any, cv2: Any) -> float | None:
    rate, count = float(video.get(cv2.CAP_PROP_FPS)), float(video.get(cv2.CAP_PROP_FRAME_COUNT))
    return count / rate if rate > 0 and count > 0 else None


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """The video by its absolute path, which FFmpeg cannot take for a URL; by a link for a name that is not UTF-8, which OpenCV refuses."""
    cv2 = opencv(path)
    with ExitStack() as stack:
        try:
            stack.enter_context(open(path, "rb"))  # noqa: PTH123 (its error states the reason, OpenCV's does not)
        except OSError as error:
            reraise_machine_fault(error, path)
            raise UserError(f"{path}: {error.strerror}") from None
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 (leaves links as they are)
        if os.fsencode(absolute).decode("utf-8", "replace") != str(absolute):
            link = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "video"
            link.symlink_to(absolute)
            absolute = link
        video = cv2.VideoCapture(str(absolute), cv2.CAP_FFMPEG)
        stack.callback(video.release)
        if not video.isOpened():
            raise UserError(f"{path}: unreadable video: not in a format that OpenCV knows")
        yield video


def _is_whole_matroska(path: str) -> bool:
    """Whether it is an mkv or webm file that is not shorter than its header states; these formats state no number of frames."""
    with open(path, "rb") as file:  # noqa: PTH123 (the path as it is)
        head, length = file.read(LONGEST_HEAD), os.fstat(file.fileno()).st_size
    end = 0
    for name in (MATROSKA, SEGMENT):
        first = head[end + 4 : end + 5]
        if head[end : end + 4] != name or first in {b"", b"\0"}:
            return False
        width = 9 - first[0].bit_length()
        most = (1 << 7 * width) - 1
        size = int.from_bytes(head[end + 4 : end + 4 + width], "big") & most
        if size == most:  # unknown: the recording was not closed
            return False
        end += 4 + width + size
    return end <= length
