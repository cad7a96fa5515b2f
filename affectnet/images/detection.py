"""Faces in a whole photograph: OpenCV's Haar cascade, which comes with it, or YuNet, whose model file the user names."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from affectnet.errors import UserError
from affectnet.images.crop_policy import Box
from affectnet.images.decode import Pixels

Detector = Callable[[Pixels], list[Box]]
"""(h, w) grey or (h, w, 3) RGB uint8 → boxes (left, top, right, bottom) in px, the largest first."""

SCALE_STEP, FINE_STEP, NEIGHBOURS = 1.1, 1.05, 3
BORDER_SHARE = 4
"""Where no face is found, it is looked for once more with a border of a quarter of the shorter side, so that one that fills the
photograph is seen: 132 of 150 such photographs then have their face found, for 106 without (docs/log.md)."""
SMALLEST_SHARE, SMALLEST_PX = 0.05, 24
"""A face is at least so large: as a share of the photograph's shorter side unless another is asked for, and in px, always."""
LONGEST_PX = 1280
"""Photographs are searched at this size, and larger where the smallest face would have less than SMALLEST_PX; the boxes are those of
the photograph itself."""
YUNET_SCORE = 0.7


def haar(smallest: float = SMALLEST_SHARE) -> Detector:
    """Frontal faces (Viola & Jones 2001). Finds no profiles, and now and then a face where there is none.

    smallest: side of the smallest face, as a share of the photograph's shorter side.
    """
    return _in_any_thread(partial(_haar, smallest))


def _haar(smallest: float) -> Detector:
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"))

    def search(grey: Pixels, step: float, border: int) -> list[Box]:
        least = max(SMALLEST_PX, round(smallest * min(grey.shape)))
        framed = cv2.copyMakeBorder(grey, border, border, border, border, cv2.BORDER_REPLICATE)
        found = np.asarray(cascade.detectMultiScale(framed, step, NEIGHBOURS, minSize=(least, least))).reshape(-1, 4)
        left_top = found[:, :2] - border
        return [(x, y, x + width, y + height) for (x, y), (width, height) in zip(left_top.tolist(), found[:, 2:].tolist(), strict=True)]

    def detect(pixels: Pixels) -> list[Box]:
        small, scale = _searched(pixels, smallest)
        grey = np.asarray(cv2.equalizeHist(small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)), np.uint8)
        found = search(grey, SCALE_STEP, 0) or search(grey, FINE_STEP, min(grey.shape) // BORDER_SHARE)
        return _as_boxes(found, pixels, scale)

    return detect


def yunet(model: Path, smallest: float = SMALLEST_SHARE) -> Detector:
    """Any pose (Wu et al. 2023). smallest: as `haar`, but a smaller face that shows is not left out.

    Errors: UserError when the file is no model of it.
    """
    if not model.is_file():
        raise UserError(f"{model}: not there; it is face_detection_yunet_2023mar.onnx of OpenCV's model zoo")
    return _in_any_thread(partial(_yunet, model, smallest))


def _in_any_thread(made: Callable[[], Detector]) -> Detector:
    """A detector for each thread that asks: OpenCV's hold the photograph that they search, and fail when two threads share one."""
    own = threading.local()
    own.detector = made()

    def detect(pixels: Pixels) -> list[Box]:
        if not hasattr(own, "detector"):
            own.detector = made()
        found: list[Box] = own.detector(pixels)
        return found

    return detect


def _yunet(model: Path, smallest: float) -> Detector:
    try:
        network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), YUNET_SCORE)
    except cv2.error as error:
        raise UserError(f"{model}: no model of YuNet: {error.err}") from None

    def detect(pixels: Pixels) -> list[Box]:
        small, scale = _searched(pixels, smallest)
        network.setInputSize((small.shape[1], small.shape[0]))
        _, found = network.detect(cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if small.ndim == 2 else cv2.COLOR_RGB2BGR))
        rows = [] if found is None else found[:, :4].tolist()
        return _as_boxes([(x, y, x + width, y + height) for x, y, width, height in rows], pixels, scale)

    return detect


def _searched(pixels: Pixels, smallest: float) -> tuple[Pixels, float]:
    """The photograph as it is searched, and its size by that."""
    shorter, longer = sorted(pixels.shape[:2])
    scale = max(1.0, min(longer / LONGEST_PX, smallest * shorter / SMALLEST_PX))
    if scale == 1:
        return pixels, scale
    width, height = (max(1, round(side / scale)) for side in (pixels.shape[1], pixels.shape[0]))
    small: Pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return small, scale


def _as_boxes(found: list[Box], pixels: Pixels, scale: float) -> list[Box]:
    """In px of the photograph, no further than its edges, the largest first."""
    height, width = pixels.shape[:2]
    boxes = [
        (max(0.0, left * scale), max(0.0, top * scale), min(float(width), right * scale), min(float(height), bottom * scale))
        for left, top, right, bottom in found
    ]
    return sorted(boxes, key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))
