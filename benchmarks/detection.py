"""Face detectors on real photographs: `python -m benchmarks.detection ROOT`, where ROOT holds a data set in AffectNet's layout of 2017.

Its licence forbids to keep any of it here. Prints one row per detector: the share of photographs in which it finds a face, and the mean
overlap of its best box with the annotated one; the photographs with several boxes, and those with a second box on a face; the tiles of
background in which it sees a face; the share of faces of 160 to 40 px that it finds on a canvas of 640 px; and the processor's time for
these photographs, and for some enlarged to 3,000 px. A tile is a corner of a photograph outside the annotated box, enlarged. Minutes.
"""

import argparse
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from affectnet.errors import UserError, exit_code
from affectnet.images.box_map import overlap
from affectnet.images.crop_policy import Box
from affectnet.images.decode import open_photograph
from affectnet.images.detection import DETECTORS, Detector, detect, load_detector
from affectnet.sources.registry import open_layout
from affectnet.sources.source import Source
from affectnet.tables.source_pointer import Pointer

PHOTOGRAPHS, TILES, SMALL_FACES, ROOMY = 600, 96, 150, 1500
CORNER_PX, TILE_PX = 40, 320
CANVAS_PX, FACE_SIDES = 640, (160, 96, 64, 40)
BICUBIC = Image.Resampling.BICUBIC

ONE_FACE = 0.6
"""A box of which so much lies in a larger one is a second box on the same face."""

LARGE_FACE_PX = 150
LARGE_PHOTOGRAPH_PX, LARGE_PHOTOGRAPHS = 3000, 20
COLUMNS = (
    "detector",
    "found",
    "overlap",
    "several boxes",
    "second box",
    f"of {TILES} tiles",
    *(f"{side} px" for side in FACE_SIDES),
    "ms",
    "ms at 3,000 px",
)

Photograph = tuple[bytes, Image.Image, Box]
"""Its file's bytes, its pixels, and the annotated box."""


@dataclass(frozen=True)
class Pictures:
    """What every detector sees."""

    photographs: list[Photograph]
    tiles: list[bytes]
    canvases: dict[int, list[tuple[bytes, Box]]]
    large: list[bytes]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--detectors", nargs="+", default=[name for name in DETECTORS if name != "yunet"], help="names or model files")
    arguments = parser.parse_args()
    pictures = _pictures(arguments.root, np.random.default_rng(1))
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for name in arguments.detectors:
        print(f"| {' | '.join(_cells(load_detector(name), pictures))} |", flush=True)


def _cells(detector: Detector, pictures: Pictures) -> Iterator[str]:
    yield detector.name
    started = time.process_time()
    boxes = [_boxes(content, detector) for content, *_ in pictures.photographs]
    taken = (time.process_time() - started) / len(boxes)
    annotated = [box for *_, box in pictures.photographs]
    yield f"{np.mean([bool(each) for each in boxes]):.3f}"
    best = [max((overlap(one, box) for one in each), default=0.0) for each, box in zip(boxes, annotated, strict=True)]
    yield f"{np.mean([value for value in best if value]):.2f}"
    yield str(sum(len(each) > 1 for each in boxes))
    yield str(sum(_has_second(each) for each in boxes))
    yield str(sum(bool(_boxes(tile, detector)) for tile in pictures.tiles))
    for canvases in pictures.canvases.values():
        yield f"{np.mean([any(_inside(_middle(box), face) for box in _boxes(content, detector)) for content, face in canvases]):.2f}"
    yield f"{taken * 1e3:.1f}"
    started = time.process_time()
    for content in pictures.large:
        _boxes(content, detector)
    yield f"{(time.process_time() - started) / len(pictures.large) * 1e3:.0f}"


def _boxes(content: bytes, detector: Detector) -> list[Box]:
    return detect(open_photograph(content, "photograph"), detector)


def _has_second(boxes: Sequence[Box]) -> bool:
    """Whether a box lies in a larger one; the boxes come the largest first."""
    return any(_common(one, other) >= ONE_FACE * _area(one) for number, one in enumerate(boxes) for other in boxes[:number])


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _common(one: Box, other: Box) -> float:
    return max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(0.0, min(one[3], other[3]) - max(one[1], other[1]))


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _inside(point: tuple[float, float], box: Box) -> bool:
    return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]


def _pictures(root: Path, generator: np.random.Generator) -> Pictures:
    rows = _training_rows(root)
    order = [rows[number] for number in generator.permutation(len(rows))]
    photographs = [_photograph(root, row) for row in order[:PHOTOGRAPHS]]
    roomy = [photograph for photograph in (_photograph(root, row) for row in order[:ROOMY]) if _has_large_face(photograph)]
    corners = [corner for photograph in roomy for corner in _corners(photograph)]
    tiles = [_encoded(corners[number].resize((TILE_PX, TILE_PX), BICUBIC)) for number in generator.permutation(len(corners))[:TILES]]
    canvases = {side: [_canvas(photograph, side, generator) for photograph in roomy[:SMALL_FACES]] for side in FACE_SIDES}
    large = [_encoded(image.resize((LARGE_PHOTOGRAPH_PX,) * 2, BICUBIC)) for _, image, _ in roomy[:LARGE_PHOTOGRAPHS]]
    return Pictures(photographs, tiles, canvases, large)


def _training_rows(root: Path) -> list[dict[str, Any]]:
    """Rows of the training list with a box, each photograph once."""
    layout = open_layout(Pointer("affectnet2017", str(root)))
    if not isinstance(layout, Source):
        raise UserError(f"{root}: not a data set of AffectNet's layout of 2017")
    table = pa.Table.from_batches(layout.rows())
    table = table.filter(pc.and_(pc.equal(table["split"], "train"), pc.is_valid(table["left"])))
    return list({row["image"]: row for row in table.select(["image", "left", "top", "right", "bottom"]).to_pylist()}.values())


def _photograph(root: Path, row: dict[str, Any]) -> Photograph:
    content = (root / row["image"]).read_bytes()
    pixels = open_photograph(content, row["image"]).pixels()
    return content, Image.fromarray(pixels).convert("RGB"), (row["left"], row["top"], row["right"], row["bottom"])


def _has_large_face(photograph: Photograph) -> bool:
    """Whether a face of at least LARGE_FACE_PX, but not all of the photograph, is annotated."""
    _, image, box = photograph
    return min(box[2] - box[0], box[3] - box[1]) >= LARGE_FACE_PX and box[0] > 0 and box[1] > 0 and box[2] < image.width


def _corners(photograph: Photograph) -> Iterator[Image.Image]:
    """The corners of the photograph that lie outside the annotated box, but for a few px."""
    _, image, box = photograph
    for left in (0, image.width - CORNER_PX):
        for top in (0, image.height - CORNER_PX):
            corner = (left, top, left + CORNER_PX, top + CORNER_PX)
            if not _inside((left + CORNER_PX / 2, top + CORNER_PX / 2), box):
                yield image.crop(corner)


def _canvas(photograph: Photograph, side: int, generator: np.random.Generator) -> tuple[bytes, Box]:
    """The photograph on a grey canvas, so small that its face has the side, and the face's box."""
    _, image, box = photograph
    scale = side / np.sqrt(_area(box))
    small = image.resize((round(image.width * scale), round(image.height * scale)), BICUBIC)
    left, top = (int(generator.integers(0, CANVAS_PX - length + 1)) for length in small.size)
    canvas = Image.new("RGB", (CANVAS_PX, CANVAS_PX), "grey")
    canvas.paste(small, (left, top))
    return _encoded(canvas), (left + box[0] * scale, top + box[1] * scale, left + box[2] * scale, top + box[3] * scale)


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
