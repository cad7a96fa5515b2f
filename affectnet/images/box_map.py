"""The map from a detector's box to the box that annotators drew, from which the training crops were cut.

A crop that differs from those of the training costs 10 to 15 points of accuracy (py-feat, cross-tool methodology), and each detector
draws its boxes in its own way: libfacedetection from the forehead to the chin, Haar as a square around the eyes and the mouth.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from affectnet.errors import UserError, first_line
from affectnet.images.crop_policy import Box

DECIMALS = 2
"""Of a fitted map: finer differences move no edge by a px, and would change the bytes from one processor to another."""

Shift = Annotated[float, Field(ge=-0.5, le=0.5)]
Factor = Annotated[float, Field(ge=0.3, le=3)]

Boxes = NDArray[np.float64]
"""(n, 4): left, top, right, bottom."""


@dataclass(frozen=True)
class BoxMap:
    """right, down: shift of the centre, as shares of the box's width and height; width, height: their factors.

    The bounds leave part of each mapped box within the box that was detected.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    right: Shift
    down: Shift
    width: Factor
    height: Factor

    def mapped(self, box: Box) -> Box:
        """The box as annotators would have drawn it; it may reach outside the photograph."""
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        x, y = (left + right) / 2 + self.right * width, (top + bottom) / 2 + self.down * height
        half_w, half_h = self.width * width / 2, self.height * height / 2
        return x - half_w, y - half_h, x + half_w, y + half_h

    @classmethod
    def fitted(cls, detected: Boxes, annotated: Boxes) -> "BoxMap":
        """The medians over boxes of the same faces, within the bounds: a few wrong pairs change little."""
        sides, target = detected[:, 2:] - detected[:, :2], annotated[:, 2:] - annotated[:, :2]
        shifts = (annotated[:, :2] + annotated[:, 2:] - detected[:, :2] - detected[:, 2:]) / 2 / sides
        right, down = (np.median(shifts, axis=0).clip(-0.5, 0.5).round(DECIMALS) + 0.0).tolist()  # -0.0 becomes 0.0
        width, height = np.median(target / sides, axis=0).clip(0.3, 3).round(DECIMALS).tolist()
        return cls(right, down, width, height)

    def __str__(self) -> str:
        return f"{self.width:g} × width, {self.height:g} × height, {self.right:+g} to the right, {self.down:+g} down"


def read_box_maps(path: Path) -> dict[str, BoxMap]:
    """By name of a detector, as the stage `detect` wrote them. Errors: UserError when the file is missing or not its own."""
    try:
        return _BOX_MAPS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: not the maps of boxes that `detect` writes: {first_line(error)}; run `dvc repro detect`") from None


_BOX_MAPS = TypeAdapter(dict[str, BoxMap])


def overlap(box: Box, other: Box) -> float:
    """The common area of two boxes as a share of their union, 0–1."""
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    areas = sum((right - left) * (bottom - top) for left, top, right, bottom in (box, other))
    return width * height / (areas - width * height)
