"""Face detection in a whole photograph: OpenCV's Haar cascade, which comes with OpenCV, or YuNet with a model file of the user."""

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
"""Where no face is found, the search is repeated with a border of a quarter of the shorter side, which finds faces that fill the
photograph: in 132 of 150 such photographs, against 106 without it (docs/log.md)."""

SMALLEST_SHARE, SMALLEST_PX = 0.05, 24
"""Side of the smallest face: as a share of the photograph's shorter side by default, and in px always."""

LONGEST_PX = 1280
"""Longer side at which photographs are searched; larger where the smallest face would otherwise have less than SMALLEST_PX."""

YUNET_SCORE = 0.7


def haar(smallest: float = SMALLEST_SHARE) -> Detector:
    """A detector of frontal faces (Viola & Jones 2001). It misses profiles and has some false detections.

    smallest: side of the smallest face, as a share of the photograph's shorter side.
    """
    return _per_thread(partial(_haar, smallest))


def _haar(smallest: float) -> Detector:
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"))

    def search(grey: Pixels, step: float, border: int) -> list[Box]:
        least = max(SMALLEST_PX, round(smallest * min(grey.shape)))
        framed = cv2.copyMakeBorder(grey, border, border, border, border, cv2.BORDER_REPLICATE)
        boxes = np.asarray(cascade.detectMultiScale(framed, step, NEIGHBOURS, minSize=(least, least))).reshape(-1, 4)
        left_top = boxes[:, :2] - border
        return [(x, y, x + width, y + height) for (x, y), (width, height) in zip(left_top.tolist(), boxes[:, 2:].tolist(), strict=True)]

    def detect(pixels: Pixels) -> list[Box]:
        small, scale = _scaled(pixels, smallest)
        grey = np.asarray(cv2.equalizeHist(small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)), np.uint8)
        boxes = search(grey, SCALE_STEP, 0) or search(grey, FINE_STEP, min(grey.shape) // BORDER_SHARE)
        return _in_photograph(boxes, pixels, scale)

    return detect


def yunet(model: Path, smallest: float = SMALLEST_SHARE) -> Detector:
    """A detector of faces in any pose (Wu et al. 2023). smallest: as in `haar`, but it may also find smaller faces.

    Errors: UserError when the file is not a model of YuNet.
    """
    if not model.is_file():
        raise UserError(f"{model}: not there; it is face_detection_yunet_2023mar.onnx of OpenCV's model zoo")
    return _per_thread(partial(_yunet, model, smallest))


def _per_thread(build: Callable[[], Detector]) -> Detector:
    """One detector per thread: OpenCV's detectors hold the photograph that they search, and fail when two threads share one."""
    local = threading.local()
    local.detector = build()

    def detect(pixels: Pixels) -> list[Box]:
        if not hasattr(local, "detector"):
            local.detector = build()
        boxes: list[Box] = local.detector(pixels)
        return boxes

    return detect


def _yunet(model: Path, smallest: float) -> Detector:
    try:
        network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), YUNET_SCORE)
    except cv2.error as error:
        raise UserError(f"{model}: not a model of YuNet: {error.err}") from None

    def detect(pixels: Pixels) -> list[Box]:
        small, scale = _scaled(pixels, smallest)
        network.setInputSize((small.shape[1], small.shape[0]))
        _, faces = network.detect(cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if small.ndim == 2 else cv2.COLOR_RGB2BGR))
        rows = [] if faces is None else faces[:, :4].tolist()
        return _in_photograph([(x, y, x + width, y + height) for x, y, width, height in rows], pixels, scale)

    return detect


def _scaled(pixels: Pixels, smallest: float) -> tuple[Pixels, float]:
    """The photograph at the size at which it is searched, and how many times larger the original is."""
    shorter, longer = sorted(pixels.shape[:2])
    scale = max(1.0, min(longer / LONGEST_PX, smallest * shorter / SMALLEST_PX))
    if scale == 1:
        return pixels, scale
    width, height = (max(1, round(side / scale)) for side in (pixels.shape[1], pixels.shape[0]))
    small: Pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return small, scale


def _in_photograph(boxes: list[Box], pixels: Pixels, scale: float) -> list[Box]:
    """The boxes in px of the photograph, clipped to it, the largest first."""
    height, width = pixels.shape[:2]
    clipped = [
        (max(0.0, left * scale), max(0.0, top * scale), min(float(width), right * scale), min(float(height), bottom * scale))
        for left, top, right, bottom in boxes
    ]
    return sorted(clipped, key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))
