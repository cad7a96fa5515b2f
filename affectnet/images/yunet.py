"""YuNet (Wu et al. 2023): a network of 54,000 weights that detects faces in any pose, run by ONNX Runtime."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from affectnet.errors import UserError, first_line
from affectnet.images.crop_policy import Box
from affectnet.images.decode import Pixels

SCORE = 0.5
"""Least score of a face. Of 600 photographs 0.5 to 0.6 found the same; at 0.4 some pictures of backgrounds have a face, at 0.7 a few faces
are missed (docs/log.md)."""

STRIDES = (8, 16, 32)
"""Px of the searched photograph per cell of the network's three grids."""

SMALLEST_PX = 12
"""Side of the smallest face in px of the photograph."""

SEARCHED_PX = 32
"""Side of the smallest face in the searched photograph. Of faces of 40 px 94 % are found, of 32 px 75 %, of 24 px 15 % (docs/log.md)."""

ENLARGED_PX = 256
"""Photographs with a shorter longer side are enlarged to it: of FER2013's faces of 48 px it finds 98 % for 80 % (docs/log.md)."""

COARSEST_PX = 320
"""The search is repeated at half the size until the longer side has at most so many px: faces of more than 500 px are missed."""

TILE_PX, TILE_OVERLAP_PX = 1280, 128
"""Larger photographs are searched in overlapping tiles, so that memory is bounded. A face that a border cuts is found in the next tile,
or at half the size."""

OVERLAP, CONTAINED = 0.3, 0.5
"""Of two boxes the one with the lower score is left out when they share more of their union, or of the smaller of both: at a fine
scale, parts of a large face have boxes of their own."""

MOST_BOXES = 1000
"""Per tile, the best by score, before overlapping ones are left out."""

MOST_GROWTH = 5.0
"""Bound of the logarithm of a box's side in cells, so that no weights lead to an overflow."""

Scored = NDArray[np.float32]
"""(n, 5): left, top, right, bottom, score."""


class YuNet:
    """A detector of faces in any pose."""

    def __init__(self, content: bytes, name: str, smallest: float, source: str = "") -> None:
        """content: of the ONNX file; smallest: side of the smallest face, as a share of the photograph's shorter side.

        source: of the content, in messages. Errors: UserError when the content is not a model of YuNet.
        """
        self.name, self.smallest = name, smallest
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # photographs are spread over threads, not parts of one
        options.enable_mem_pattern = False  # where dimensions vary it takes a third more memory (measured)
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self._input = self._session.get_inputs()[0]
            self._side = _fixed_side(self._input.shape)
            self._boxes(np.zeros((STRIDES[-1], STRIDES[-1], 3), np.uint8))
        except Exception as error:  # ONNX Runtime raises many classes
            raise UserError(f"{source or name}: not a model of YuNet: {first_line(error)}") from None

    def scale(self, dimensions: tuple[int, int]) -> float:
        """How many times smaller a photograph of this width and height is when it is searched; below 1 it is enlarged."""
        return min(max(1.0, self.smallest * min(dimensions) / SEARCHED_PX), max(dimensions) / ENLARGED_PX)

    def __call__(self, pixels: Pixels) -> list[Box]:
        """(h, w) grey or (h, w, 3) RGB uint8 → boxes in px."""
        height, width = pixels.shape[:2]
        boxes = without_overlapping(np.concatenate([self._search(smaller) * factors for smaller, factors in self._scales(pixels)]))
        least = max(SMALLEST_PX, self.smallest * min(width, height))
        large = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) >= least**2
        return [(left, top, right, bottom) for left, top, right, bottom in boxes[large, :4].tolist()]

    def _scales(self, pixels: Pixels) -> Iterator[tuple[Pixels, NDArray[np.float32]]]:
        """The photograph as it is searched, then halves of it, and the factors from its boxes to those of the photograph."""
        height, width = pixels.shape[:2]
        pixels = _resized(pixels, self.scale((width, height)))
        while True:
            across, down = width / pixels.shape[1], height / pixels.shape[0]
            yield pixels, np.array((across, down, across, down, 1), np.float32)
            if max(pixels.shape[:2]) <= COARSEST_PX:
                return
            pixels = _resized(pixels, 2)

    def _search(self, pixels: Pixels) -> Scored:
        height, width = pixels.shape[:2]
        tile = self._side or TILE_PX
        corners = product(_starts(height, tile), _starts(width, tile))
        return np.concatenate([self._boxes(pixels[y : y + tile, x : x + tile]) + np.array((x, y, x, y, 0), np.float32) for y, x in corners])

    def _boxes(self, pixels: Pixels) -> Scored:
        """The faces in one tile, parts of the same face included."""
        height, width = pixels.shape[:2]
        down, across = (self._side or -(-side // STRIDES[-1]) * STRIDES[-1] for side in (height, width))
        padded = np.zeros((1, 3, down, across), np.float32)
        padded[0, :, :height, :width] = pixels if pixels.ndim == 2 else pixels[:, :, ::-1].transpose(2, 0, 1)  # BGR
        names = [f"{kind}_{stride}" for stride in STRIDES for kind in ("cls", "obj", "bbox")]
        outputs = iter(self._session.run(names, {self._input.name: padded}))
        cells = [_decoded(next(outputs)[0], next(outputs)[0], next(outputs)[0], stride, across) for stride in STRIDES]
        boxes = np.concatenate(cells)
        return boxes[np.argsort(-boxes[:, 4], kind="stable")[:MOST_BOXES]]


def _fixed_side(shape: list[Any]) -> int | None:
    """The side in px of the input, None for any. Errors: ValueError when it is not a square of whole cells."""
    height, width = shape[2:]
    if isinstance(height, str) and isinstance(width, str):
        return None
    if height != width or not 0 < height <= TILE_PX or height % STRIDES[-1]:
        raise ValueError(f"input of shape {shape}")
    return int(height)


def _resized(pixels: Pixels, scale: float) -> Pixels:
    if scale == 1:
        return pixels
    size = max(1, round(pixels.shape[1] / scale)), max(1, round(pixels.shape[0] / scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin that cover the length, with the overlap."""
    count = 1 + max(0, math.ceil((length - tile) / (tile - TILE_OVERLAP_PX)))
    return [round(number * (length - tile) / (count - 1)) for number in range(count)] if count > 1 else [0]


def _decoded(classes: Any, objectness: Any, offsets: Any, stride: int, across: int) -> Scored:
    """The boxes of one grid whose score is at least SCORE. classes, objectness: (cells, 1) in 0–1; offsets: (cells, 4)."""
    scores = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objectness[:, 0], 0, 1))
    cells = np.flatnonzero(scores >= SCORE)
    rows, columns = np.divmod(cells, across // stride)
    x, y = (columns + offsets[cells, 0]) * stride, (rows + offsets[cells, 1]) * stride
    half_w, half_h = np.exp(np.clip(offsets[cells, 2:4], -MOST_GROWTH, MOST_GROWTH)).T * (stride / 2)
    return np.stack([x - half_w, y - half_h, x + half_w, y + half_h, scores[cells]], axis=1).astype(np.float32)


def without_overlapping(boxes: Scored) -> Scored:
    """The boxes, the best first, without those that overlap a better one (non-maximum suppression)."""
    left = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept = []
    while len(left):
        best = left[0]
        kept.append(best)
        sides = np.minimum(best[2:4], left[:, 2:4]) - np.maximum(best[:2], left[:, :2])
        common = sides.clip(0).prod(axis=1)
        area, areas = (best[2:4] - best[:2]).prod(), (left[:, 2:4] - left[:, :2]).prod(axis=1)
        apart = (common <= OVERLAP * (area + areas - common)) & (common <= CONTAINED * np.minimum(area, areas))
        apart[0] = False
        left = left[apart]
    return np.array(kept, np.float32).reshape(-1, 5)
