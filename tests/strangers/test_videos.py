"""Videos of phones, browsers, cameras and screen recorders."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import with_durations
from numpy.typing import NDArray
from portraits import drawn

from affectnet.errors import UserError
from affectnet.images.formats import VIDEO_SUFFIXES
from affectnet.images.video import frames

Pixels = NDArray[np.uint8]
RATE, COUNT = 10, 30
CODECS = {
    "plain.mp4": "mp4v",
    "phone.m4v": "mp4v",
    "phone.mov": "mp4v",
    "phone.3gp": "mp4v",
    "recorder.mkv": "mp4v",
    "browser.webm": "VP80",
    "new browser.webm": "VP90",
    "camera.avi": "MJPG",
    "camera.mts": "mpg2",
    "camera.m2ts": "mpg2",
    "stream.ts": "mpg2",
    "windows.wmv": "WMV2",
    "flash.flv": "FLV1",
}
"""File → the codec that OpenCV writes into it."""

TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


def wide() -> Pixels:
    """A face left of the middle of 320 × 192 px, BGR."""
    picture = np.full((192, 320, 3), 90, np.uint8)
    picture[:, 32:224] = np.asarray(drawn(192))[:, :, ::-1]
    return picture


def write(path: Path, codec: str, picture: Pixels) -> None:
    height, width = picture.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), RATE, (width, height))
    assert writer.isOpened()
    for _ in range(COUNT):
        writer.write(picture)
    writer.release()


def turned_by_note(content: bytes, degrees: int, dimensions: tuple[int, int]) -> bytes:
    """An mp4 with a display matrix in the header of its track, as from a phone; dimensions: as stored (ISO 14496-12, 8.3.2)."""
    one, (width, height) = 1 << 16, dimensions
    matrix = {
        90: (0, one, 0, -one, 0, 0, height << 16, 0, 1 << 30),
        180: (-one, 0, 0, 0, -one, 0, width << 16, height << 16, 1 << 30),
        270: (0, -one, 0, one, 0, 0, 0, width << 16, 1 << 30),
    }[degrees]
    head = content.index(b"tkhd")
    at = head + 4 + 4 + (32 if content[head + 4] else 20) + 16
    return content[:at] + struct.pack(">9i", *matrix) + content[at + 36 :]


def stating(content: bytes, seconds: float) -> bytes:
    """A Matroska file with this stated length, in ms, and unchanged frames."""
    at = content.index(b"\x44\x89\x88") + 3
    return content[:at] + struct.pack(">d", seconds * 1000) + content[at + 8 :]


@pytest.mark.parametrize("name", CODECS)
def test_each_kind_of_video_gives_its_frames(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path, CODECS[name], wide())
    taken = list(frames(str(path), 1))
    assert path.suffix in VIDEO_SUFFIXES and [seconds for seconds, _ in taken] == [0.0, 1.0, 2.0]
    for _, frame in taken:
        assert np.abs(frame.astype(np.int16) - wide()[:, :, ::-1]).mean() < 8


@pytest.mark.parametrize("degrees", TURNS)
def test_a_phones_video_that_is_stored_turned_is_upright(degrees: int, tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    stored = np.asarray(cv2.rotate(wide(), TURNS[degrees]), np.uint8)
    write(path, "mp4v", stored)
    path.write_bytes(turned_by_note(path.read_bytes(), degrees, (stored.shape[1], stored.shape[0])))
    _, frame = next(iter(frames(str(path), 1)))
    assert frame.shape == wide().shape and np.abs(frame.astype(np.int16) - wide()[:, :, ::-1]).mean() < 8


def test_a_last_picture_that_stands_is_no_fault(tmp_path: Path) -> None:
    for name, codec in (("screen.mp4", "mp4v"), ("screen.mkv", "mp4v"), ("screen.webm", "VP80")):
        path = tmp_path / name
        write(path, codec, wide())
        whole = path.read_bytes()
        path.write_bytes(with_durations(whole, [1 / RATE] * (COUNT - 1) + [20]) if path.suffix == ".mp4" else stating(whole, 23))
        stated = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        assert stated.get(cv2.CAP_PROP_FRAME_COUNT) / stated.get(cv2.CAP_PROP_FPS) > 20, name
        stated.release()
        assert len(list(frames(str(path), 0))) == COUNT, name


@pytest.mark.parametrize(("name", "codec"), [("cut.mkv", "mp4v"), ("cut.webm", "VP80"), ("cut.avi", "MJPG"), ("cut.flv", "FLV1")])
def test_a_video_that_is_cut_is_still_one_line(name: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path, codec, wide())
    content = path.read_bytes()
    content = stating(content, 23) if path.suffix in {".mkv", ".webm"} else content
    path.write_bytes(content[: len(content) // 4])
    with pytest.raises(UserError, match=r"unreadable video: \d+ frames, up to \S+ s of the \S+ s that it states"):
        list(frames(str(path), 0))
