"""Frames of a video, at the requested interval."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.images.decode import Pixels

SLACK_S, SLACK_SHARE = 2.0, 0.05
"""How much before the stated end the last frame may come: the sound of a video may be longer than its frames."""

MATROSKA, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""First bytes of the two elements of an mkv or webm file (RFC 9559)."""

LONGEST_HEAD = 4096
HALF_A_MS = 0.0005


def frames(path: str, every: float) -> Iterator[tuple[float, Pixels]]:
    """Time in seconds and (h, w, 3) RGB uint8 of the first frame in each `every` seconds; of each frame when that is 0.

    Errors: UserError when OpenCV cannot read the video, and after the last frame when it comes too early and the file lacks frames.
    A last frame that is shown for long, as in a recording of a screen, is not an error.
    """
    with _opened(path) as video:
        rate, count = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
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
        stated = count / rate if rate > 0 and count > 0 else 0.0
        early = stated - seconds > max(SLACK_S, SLACK_SHARE * stated)
        if not number or (early and number < count and not _is_whole_matroska(path)):
            raise UserError(f"{path}: unreadable video: {number:,} frames, up to {seconds:.1f} s of the {stated:.1f} s that it states")


@contextmanager
def _opened(path: str) -> Iterator[cv2.VideoCapture]:
    """The video by its absolute path, which FFmpeg cannot take for a URL; by a link for a name that is not UTF-8, which OpenCV refuses."""
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
