"""Face detection in a whole photograph: the detectors by name, and what they have in common."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from affectnet.errors import UserError, brief
from affectnet.images.crop_policy import Box
from affectnet.images.decode import Photograph, Pixels, shrink_within
from affectnet.images.haar import Haar
from affectnet.images.yunet import YuNet
from affectnet.images.yunet_files import PACKAGED, fetched, is_of_the_zoo, read_network

DEFAULT = "libfacedetection"

SMALLEST_SHARE = 0.05
"""Side of the smallest face by default, as a share of the photograph's shorter side."""


class Detector(Protocol):
    """Finds the faces of a photograph; threads may share one.

    name: stands next to each box in the results, and selects the model file's map of its boxes.
    """

    name: str

    def __call__(self, pixels: Pixels) -> Sequence[Box]:
        """(h, w) grey or (h, w, 3) RGB uint8 → boxes in px, in any order; they may reach outside the photograph."""

    def scale(self, dimensions: tuple[int, int]) -> float:
        """How many times smaller a photograph of this width and height is when it is searched."""


def _libfacedetection(smallest: float) -> Detector:
    return YuNet(read_network(PACKAGED), DEFAULT, smallest)


def _yunet(smallest: float) -> Detector:
    path = fetched()
    return YuNet(read_network(path), "yunet", smallest)


DETECTORS: dict[str, Callable[[float], Detector]] = {DEFAULT: _libfacedetection, "haar": Haar, "yunet": _yunet}
"""Name → the detector for a smallest share. `libfacedetection` is in this package, `haar` in OpenCV before 5; `yunet` is downloaded."""


def load_detector(name: str | Path | None = None, smallest: float = SMALLEST_SHARE) -> Detector:
    """name: one of DETECTORS, or the path of a model file of YuNet; None for DEFAULT.

    smallest: side of the smallest face, as a share of the photograph's shorter side. Errors: UserError when there is no such detector
    or file, or it cannot be used here.
    """
    if name is None or str(name) in DETECTORS:
        return DETECTORS[str(name or DEFAULT)](smallest)
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"detector: {brief(str(name))} is neither a file nor one of {', '.join(DETECTORS)}; give a model file of YuNet or a name"
        )
    content = read_network(path)
    return YuNet(content, _name_of(content, path), smallest, str(path))


def _name_of(content: bytes, path: Path) -> str:
    """That of a built-in detector for its content, else the file's. Errors: UserError when another file has such a name."""
    if is_of_the_zoo(content):
        return "yunet"
    if content == PACKAGED.read_bytes():
        return DEFAULT
    if path.stem in DETECTORS:
        raise UserError(f"detector: {path}: not the detector {path.stem}; give the file another name")
    return path.stem


def detect(photograph: Photograph, detector: Detector) -> list[Box]:
    """The boxes (left, top, right, bottom) in px of the photograph, clipped to it, the largest first; to a tenth of a px.

    A JPEG is decoded no larger than it is searched. Errors: UserError when the photograph is broken.
    """
    width, height = photograph.dimensions
    shrink = shrink_within(detector.scale(photograph.dimensions)) if photograph.jpeg else 1
    pixels = photograph.pixels(shrink)
    across, down = width / pixels.shape[1], height / pixels.shape[0]
    boxes = [(left * across, top * down, right * across, bottom * down) for left, top, right, bottom in detector(pixels)]
    finite = [box for box in boxes if all(map(math.isfinite, box))]
    clipped = [(max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)) for left, top, right, bottom in finite]
    inside = [box for box in clipped if box[2] - box[0] >= 1 and box[3] - box[1] >= 1]
    rounded = [(round(left, 1), round(top, 1), round(right, 1), round(bottom, 1)) for left, top, right, bottom in inside]
    return sorted(rounded, key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))
