"""The cascade of Haar features (Viola & Jones 2001) that comes with OpenCV before version 5."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from affectnet.errors import UserError
from affectnet.images.crop_policy import Box
from affectnet.images.decode import Pixels
from affectnet.images.opencv import opencv

CASCADE = "haarcascade_frontalface_alt2.xml"
SCALE_STEP, FINE_STEP, NEIGHBOURS = 1.1, 1.05, 3
BORDER_SHARE = 4
"""Where no face is found, the search is repeated with a border of a quarter of the shorter side, which finds faces that fill the
photograph: in 132 of 150 such photographs, against 106 without it (docs/log.md)."""

SMALLEST_PX = 24
"""Side of the smallest face when it is searched: the cascade's window has 20 px."""

LONGEST_PX = 1280
"""Longer side at which photographs are searched; larger where the smallest face would otherwise have less than SMALLEST_PX."""

REMEDY = "pip install 'opencv-python-headless<5', or leave out --detector haar"


class Haar:
    """A detector of frontal faces. It misses profiles and has some false detections."""

    name = "haar"

    def __init__(self, smallest: float) -> None:
        """smallest: side of the smallest face, as a share of the photograph's shorter side. Errors: UserError without a fitting OpenCV."""
        self.smallest = smallest
        self._cv2 = opencv("detector haar")
        self._cascades = threading.local()  # a cascade holds the photograph that it searches: threads cannot share one
        self._cascades.cascade = self._cascade()

    def _cascade(self) -> Any:
        path = Path(self._cv2.__file__).parent / "data" / CASCADE
        if not hasattr(self._cv2, "CascadeClassifier") or not path.is_file():
            raise UserError(f"detector haar: OpenCV {self._cv2.__version__} comes without cascades; {REMEDY}")
        return self._cv2.CascadeClassifier(str(path))

    def scale(self, dimensions: tuple[int, int]) -> float:
        """How many times smaller a photograph of this width and height is when it is searched."""
        return max(1.0, min(max(dimensions) / LONGEST_PX, self.smallest * min(dimensions) / SMALLEST_PX))

    def __call__(self, pixels: Pixels) -> list[Box]:
        """(h, w) grey or (h, w, 3) RGB uint8 → boxes in px."""
        cv2, scale = self._cv2, self.scale((pixels.shape[1], pixels.shape[0]))
        if scale > 1:
            width, height = (max(1, round(side / scale)) for side in (pixels.shape[1], pixels.shape[0]))
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.equalizeHist(pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)), np.uint8)
        boxes = self._search(grey, SCALE_STEP, 0) or self._search(grey, FINE_STEP, min(grey.shape) // BORDER_SHARE)
        return [(left * scale, top * scale, right * scale, bottom * scale) for left, top, right, bottom in boxes]

    def _search(self, grey: Pixels, step: float, border: int) -> list[Box]:
        if not hasattr(self._cascades, "cascade"):
            self._cascades.cascade = self._cascade()
        least = max(SMALLEST_PX, round(self.smallest * min(grey.shape)))
        framed = self._cv2.copyMakeBorder(grey, border, border, border, border, self._cv2.BORDER_REPLICATE)
        boxes = np.asarray(self._cascades.cascade.detectMultiScale(framed, step, NEIGHBOURS, minSize=(least, least))).reshape(-1, 4)
        left_top = boxes[:, :2] - border
        return [(x, y, x + width, y + height) for (x, y), (width, height) in zip(left_top.tolist(), boxes[:, 2:].tolist(), strict=True)]
