"""Small films of drawn people who move, hide and change their expression."""

import struct
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.timeline_picture import person as draw_person

Pixels = NDArray[np.uint8]
SIDE = 180
"""Of the picture of one person, px."""


@cache
def person(seed: int, first: str = "Neutral", second: str = "Neutral", share: float = 0.0) -> Image.Image:
    """As `draw_person`, SIDE px."""
    return draw_person(seed, SIDE, first, second, share)


def frame(*people: tuple[Image.Image, float, float], width: int = 640, height: int = 240, shade: str = "#7a8a99") -> Pixels:
    """(height, width, 3) RGB: people at the positions of their left upper corners, the last one in front."""
    picture = Image.new("RGB", (width, height), shade)
    for one, left, top in people:
        picture.paste(one, (round(left), round(top)))
    return np.asarray(picture)


def write_film(path: Path, pictures: Iterable[Pixels], rate: float = 10) -> None:
    """An mp4 file at a constant rate."""
    writer = None
    for picture in pictures:
        if writer is None:
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), rate, picture.shape[1::-1])
        writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
    assert writer is not None and writer.isOpened()
    writer.release()


def with_durations(content: bytes, seconds: Sequence[float]) -> bytes:
    """An mp4 film of a constant rate whose frames now last these times: another table of times, and larger boxes around it."""
    body = bytearray(content)
    table = body.index(b"stts")
    entries, count, _ = struct.unpack(">3I", body[table + 8 : table + 20])
    assert (entries, count) == (1, len(seconds)) and body.index(b"mdat") < body.index(b"moov")
    scale_at = body.index(b"mdhd") + 16
    (scale,) = struct.unpack(">I", body[scale_at : scale_at + 4])
    ticks = [round(each * scale) for each in seconds]
    body[scale_at + 4 : scale_at + 8] = struct.pack(">I", sum(ticks))
    edit, film = body.index(b"elst") + 12, body.index(b"mvhd") + 16  # the edit list ends the film, in the film's own units
    (film_scale,) = struct.unpack(">I", body[film : film + 4])
    body[edit : edit + 4] = struct.pack(">I", round(sum(seconds) * film_scale))
    times = [number for tick in ticks for number in (1, tick)]
    body[table + 8 : table + 20] = struct.pack(f">{1 + len(times)}I", len(ticks), *times)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        at = body.index(name) - 4
        (size,) = struct.unpack(">I", body[at : at + 4])
        body[at : at + 4] = struct.pack(">I", size + 8 * (len(ticks) - 1))
    return bytes(body)
