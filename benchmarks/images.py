"""verify compared with plain decoding, and crop with the crops of other libraries: images per second on one core.

The crop is the middle 80 % of a drawn photograph to 224 px, JPEG of quality 95 without chroma
subsampling, from a file to bytes. Ours is what the stage does for a chunk: the hash is checked, the table is made.
"""

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg
from PIL import Image

from affectnet.cleaning.inspection import inspect_file
from affectnet.params import parse, read_document
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene
from affectnet.tables.annotations import ANNOTATIONS, LANDMARKS
from benchmarks.timing import ABSENT, Row, Scale, installed, medians
from stages.crop import CropParams, _cut_chunk

SIDES = (350, 1000)
TARGET = 224
SIZES: dict[Scale, tuple[int, tuple[int, int], int]] = {
    "smallest": (2, (2, 2), 1),
    "small": (12, (252, 24), 5),
    "full": (32, (256, 64), 11),
}
"""Drawn photographs per side, how often those of each side are read per round, and rounds."""
SCALED = {350: 1, 1000: 2}
"""Side → by how much its JPEG can be decoded smaller with the crop still larger than its target."""


def rows(folder: Path, scale: Scale) -> Iterator[Row]:
    cv2.setNumThreads(1)
    count, reads, rounds = SIZES[scale]
    for side, times in zip(SIDES, reads, strict=True):
        paths = write_photographs(folder / str(side), side, count) * (times // count)
        yield _verify(paths, side, rounds)
        yield _crop(paths, side, rounds)


def write_photographs(folder: Path, side: int, count: int) -> list[Path]:
    """Drawn faces of this side in px as JPEG of quality 90."""
    folder.mkdir(parents=True)
    paths = []
    for number in range(count):
        generator = np.random.default_rng([number, side])
        shot = draw_photograph(draw_actions("Happy", generator), generator, draw_scene(generator, side, side))
        paths.append(folder / f"{number}.jpg")
        shot.image.save(paths[-1], quality=90)
    return paths


def _verify(paths: list[Path], side: int, rounds: int) -> Row:
    decoders: dict[str, Callable[[Path], object]] = {
        "ours": lambda path: inspect_file(path, "image", False),
        "Pillow decodes": lambda path: Image.open(io.BytesIO(path.read_bytes())).load(),
        "libjpeg-turbo decodes": lambda path: simplejpeg.decode_jpeg(path.read_bytes()),
    }
    return Row(f"verify, {side} px", "images/s", _rates(decoders, paths, rounds), 0.95)


def _crop(paths: list[Path], side: int, rounds: int) -> Row:
    margin, shrink = side // 10, SCALED[side]
    box = (margin, margin, side - margin, side - margin)
    policy = parse(read_document(), "crop", CropParams).policy
    chunk = _annotations(paths, box)
    libraries: dict[str, Callable[[Path], object]] = {
        "OpenCV": partial(_opencv, box, shrink),
        "libjpeg-turbo + OpenCV": partial(_turbo, box, shrink, side),
        "Pillow": partial(_pillow, box, shrink),
    }
    libraries |= {"libvips": partial(_vips, box)} if installed("pyvips") else {}
    cases: dict[str, Callable[[], object]] = {"ours": lambda: _cut_chunk(paths[0].parent, policy, chunk)}
    for name, library in libraries.items():
        cases[name] = partial(_each, library, paths)
    taken = medians(cases, rounds, time.process_time)
    rates = {name: len(paths) / seconds for name, seconds in taken.items()}
    return Row(f"crop, {side} px", "images/s", {**rates, "libvips": rates.get("libvips", ABSENT)}, 0.9)


def _rates(cases: dict[str, Callable[[Path], object]], paths: list[Path], rounds: int) -> dict[str, float]:
    taken = medians({name: partial(_each, case, paths) for name, case in cases.items()}, rounds, time.process_time)
    return {name: len(paths) / seconds for name, seconds in taken.items()}


def _each(work: Callable[[Path], object], paths: list[Path]) -> None:
    for path in paths:
        work(path)


def _annotations(paths: list[Path], box: tuple[int, int, int, int]) -> pa.Table:
    """The photographs as rows of the stage's input."""
    count = len(paths)
    edges = {name: pa.array([edge] * count, pa.float32()) for name, edge in zip(("left", "top", "right", "bottom"), box, strict=True)}
    return pa.table(
        {
            "image": [path.name for path in paths],
            "sha256": pa.array([hashlib.sha256(path.read_bytes()).digest() for path in paths], pa.binary(32)),
            **edges,
            "expression": pa.array([1] * count, pa.int8()),
            **{name: pa.nulls(count, ANNOTATIONS.schema.field(name).type) for name in ("valence", "soft_label")},
            "arousal": pa.nulls(count, pa.float32()),
            "landmarks": pa.nulls(count, LANDMARKS),
            "list": ["training.csv"] * count,
            "row": list(range(1, count + 1)),
        }
    )


def _opencv(box: tuple[int, int, int, int], shrink: int, path: Path) -> bytes:
    left, top, right, bottom = (edge // shrink for edge in box)
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_REDUCED_COLOR_2 if shrink == 2 else cv2.IMREAD_COLOR)
    assert pixels is not None
    face = cv2.resize(pixels[top:bottom, left:right], (TARGET, TARGET), interpolation=cv2.INTER_AREA)
    how = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", face, how)[1].tobytes()


def _turbo(box: tuple[int, int, int, int], shrink: int, side: int, path: Path) -> bytes:
    left, top, right, bottom = (edge // shrink for edge in box)
    pixels = simplejpeg.decode_jpeg(path.read_bytes(), min_height=side // shrink, min_width=side // shrink)
    face = cv2.resize(pixels[top:bottom, left:right], (TARGET, TARGET), interpolation=cv2.INTER_AREA)
    encoded: bytes = simplejpeg.encode_jpeg(face, 95, colorsubsampling="444")
    return encoded


def _pillow(box: tuple[int, int, int, int], shrink: int, path: Path) -> bytes:
    left, top, right, bottom = (edge / shrink for edge in box)
    image: Image.Image = Image.open(path)
    image.draft(None, (image.width // shrink, image.height // shrink))
    face = image.resize((TARGET, TARGET), Image.Resampling.BOX, box=(left, top, right, bottom))
    buffer = io.BytesIO()
    face.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _vips(box: tuple[int, int, int, int], path: Path) -> bytes:
    import pyvips  # noqa: PLC0415 (only for benchmarks, not installed with the rest)

    left, top, right, bottom = box
    image = pyvips.Image.new_from_file(str(path)).crop(left, top, right - left, bottom - top)
    encoded: bytes = image.thumbnail_image(TARGET).jpegsave_buffer(Q=95, subsample_mode="off")
    return encoded
