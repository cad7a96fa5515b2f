"""The crop policy: which part of a photograph the network sees.

The policy is stored in the model file, so that predictions use the crops of the training: a mismatch costs 10 to 15 points of
accuracy (py-feat, cross-tool methodology).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from affectnet.params import Section

Box = tuple[float, float, float, float]
Points = NDArray[np.float32]

Resampling = Literal["area", "bicubic"]
"""`area`: OpenCV's average over areas to shrink, its bicubic to enlarge; `bicubic`: Pillow's, antialiased, at half the speed."""

LEFT_EYE, RIGHT_EYE, MOUTH = slice(36, 42), slice(42, 48), slice(48, 68)
"""Points of the iBUG 300-W scheme, from 0; left and right as seen in the photograph."""

EYE_SPAN, EYE_TO_MOUTH = 2.6, 2.3
"""Side of an aligned crop in distances between the eyes and from eyes to mouth; the larger counts, so that a turned head keeps its size."""

LEAST_ALIGNED_PX = 4
"""Side of an aligned crop in the photograph: landmarks that are closer together are none."""


class CropPolicy(Section):
    """How a face is cropped; params.yaml explains each field.

    A field that is added later has a default that keeps the earlier behaviour, so that older model files stay readable.
    """

    image_px: int = Field(ge=16, le=1024)
    margin: float = Field(ge=-0.4, le=2)
    square: bool
    align: bool
    padding: Literal["edge", "black", "mean", "shrink"]
    enlarge: bool
    format: Literal["jpeg", "png"]
    quality: int = Field(ge=50, le=100)
    resampling: Resampling = "area"


@dataclass(frozen=True)
class Region:
    """A rectangle of the photograph: centre, width and height in px, rotated by `angle` (radians, clockwise as shown)."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    @property
    def box(self) -> Box:
        """Left, top, right, bottom of the rectangle before the rotation."""
        return self.x - self.width / 2, self.y - self.height / 2, self.x + self.width / 2, self.y + self.height / 2

    @property
    def bounds(self) -> Box:
        """The upright box around the rotated rectangle."""
        cos, sin = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        half_w, half_h = (self.width * cos + self.height * sin) / 2, (self.width * sin + self.height * cos) / 2
        return self.x - half_w, self.y - half_h, self.x + half_w, self.y + half_h

    def divided(self, factor: int) -> "Region":
        """The region in px of a photograph that is `factor` times smaller."""
        return Region(self.x / factor, self.y / factor, self.width / factor, self.height / factor, self.angle)

    def snapped(self, grid: int) -> "Region":
        """The nearest upright region whose edges are on multiples of `grid` px; a square stays square."""
        left, top, *_ = self.box
        width, height = (max(grid, grid * round(side / grid)) for side in (self.width, self.height))
        return Region(grid * round(left / grid) + width / 2, grid * round(top / grid) + height / 2, width, height)


def can_align(dimensions: tuple[int, int], landmarks: Points | None, policy: CropPolicy) -> bool:
    """Whether the policy aligns the face and its landmarks are plausible.

    They are at most one side length outside the photograph, with the face's centre in it, and eyes and mouth are apart: lists hold
    placeholders, such as 0 for each.
    """
    if landmarks is None or not policy.align:
        return False
    longest = max(dimensions)
    if (landmarks < -longest).any() or (landmarks > 2 * longest).any():
        return False
    face = _aligned_region(landmarks)
    return face.width >= LEAST_ALIGNED_PX and 0 <= face.x <= dimensions[0] and 0 <= face.y <= dimensions[1]


def face_region(dimensions: tuple[int, int], box: Box | None, landmarks: Points | None, policy: CropPolicy) -> Region:
    """The part of a photograph of these dimensions that the policy cuts for this box and these landmarks."""
    width, height = dimensions
    if landmarks is not None and can_align(dimensions, landmarks, policy):
        return _grown(_aligned_region(landmarks), policy)
    if box is None:
        region = Region(width / 2, height / 2, width, height)
        grown = _grown(region, policy.model_copy(update={"margin": 0.0}))  # no box, so nothing to add a margin to
    else:
        left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
        grown = _grown(Region((left + right) / 2, (top + bottom) / 2, right - left, bottom - top), policy)
    if policy.padding == "shrink":
        left, top, right, bottom = grown.box
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        return Region((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return grown


def target_dimensions(region: Region, policy: CropPolicy) -> tuple[int, int]:
    """Width and height of the crop in px: the longer side is image_px, or less when the face is smaller and not enlarged."""
    longest = max(region.width, region.height)
    side = policy.image_px if policy.enlarge else min(policy.image_px, max(1, round(longest)))
    return max(1, round(side * region.width / longest)), max(1, round(side * region.height / longest))


def crop_points(points: Points, region: Region, width: int, height: int) -> Points:
    """(68, 2) points of the photograph in px of the crop."""
    cos, sin = math.cos(region.angle), math.sin(region.angle)
    offset = points.astype(np.float64) - (region.x, region.y)
    level = offset @ np.array([[cos, -sin], [sin, cos]])
    points_in_crop: Points = ((level / (region.width, region.height) + 0.5) * (width, height)).astype(np.float32)
    return points_in_crop


def _aligned_region(landmarks: Points) -> Region:
    """A square that levels the eyes, centred between eyes and mouth."""
    points = landmarks.astype(np.float64)
    left, right, mouth = points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0), points[MOUTH].mean(0)
    eyes = (left + right) / 2
    side = max(EYE_SPAN * np.hypot(*(right - left)), EYE_TO_MOUTH * np.hypot(*(mouth - eyes)))
    x, y = eyes + 0.5 * (mouth - eyes)
    return Region(float(x), float(y), float(side), float(side), math.atan2(right[1] - left[1], right[0] - left[0]))


def _grown(region: Region, policy: CropPolicy) -> Region:
    width, height = (side * (1 + 2 * policy.margin) for side in (region.width, region.height))
    if policy.square:
        width = height = max(width, height)
    return Region(region.x, region.y, width, height, region.angle)
