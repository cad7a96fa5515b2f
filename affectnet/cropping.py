"""The crop: which part of a photograph becomes the face that the network sees, and how.

The policy is stored in the model file, so that whoever predicts later cuts just as the training crops were cut: a
mismatch costs this field 10 to 15 points of accuracy (py-feat, cross-tool methodology).
"""

import io
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from affectnet.params import Section
from affectnet.photograph import EXIF_ORIENTATION, open_photograph, shown_dimensions, upright

Box = tuple[float, float, float, float]
Points = NDArray[np.float32]

DRAFT_GAP = 1.5
"""JPEG may be decoded at 1/2, 1/4 or 1/8 as long as the crop is still this many times wider than its target."""

LEFT_EYE, RIGHT_EYE, MOUTH = slice(36, 42), slice(42, 48), slice(48, 68)
"""Points of the iBUG 300-W scheme, from 0; left and right as seen in the photograph."""

EYE_SPAN, EYE_TO_MOUTH = 2.6, 2.3
"""Side of an aligned crop in distances between the eyes and from eyes to mouth; the larger counts, so that a turned head keeps its size."""


class CropPolicy(Section):
    """How a face is cut; see params.yaml for each field's meaning."""

    image_px: int = Field(ge=16, le=1024)
    margin: float = Field(ge=-0.4, le=2)
    square: bool
    align: bool
    padding: Literal["edge", "black", "mean", "shrink"]
    enlarge: bool
    format: Literal["jpeg", "png"]
    quality: int = Field(ge=50, le=100)


@dataclass(frozen=True)
class Region:
    """A rectangle of the photograph: centre, width and height in px, turned by `angle` (radians, clockwise as shown)."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    @property
    def box(self) -> Box:
        """Left, top, right, bottom of the rectangle before it is turned."""
        return self.x - self.width / 2, self.y - self.height / 2, self.x + self.width / 2, self.y + self.height / 2

    @property
    def bounds(self) -> Box:
        """The upright box around the turned rectangle."""
        cos, sin = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        half_w, half_h = (self.width * cos + self.height * sin) / 2, (self.width * sin + self.height * cos) / 2
        return self.x - half_w, self.y - half_h, self.x + half_w, self.y + half_h


@dataclass(frozen=True)
class Crop:
    """An encoded face, its dimensions in px, the landmarks in its own px (or None), and whether the bytes are the photograph's own."""

    content: bytes
    width: int
    height: int
    landmarks: Points | None
    passed_through: bool
    aligned: bool


def cut(content: bytes, box: Box | None, landmarks: Points | None, policy: CropPolicy, place: str) -> Crop:
    """The face in the photograph's bytes. box: in px of the photograph as shown, None for all of it; landmarks: (68, 2) px or None.

    A box partly outside is clipped to the photograph before the margin is added; a margin that reaches outside is filled
    as `padding` says. A photograph that is its own crop already is passed through byte for byte.
    """
    image = open_photograph(content, place)
    dimensions = shown_dimensions(image)
    region = face_region(dimensions, box, landmarks, policy)
    width, height = target_dimensions(region, policy)
    if _needs_no_change(image, region, (width, height), policy):
        return Crop(content, width, height, landmarks, passed_through=True, aligned=False)
    face = extract(image, region, (width, height), policy)
    points = None if landmarks is None else crop_points(landmarks, region, width, height)
    return Crop(encode(face, policy), width, height, points, passed_through=False, aligned=region.angle != 0 or _aligns(landmarks, policy))


def face_region(dimensions: tuple[int, int], box: Box | None, landmarks: Points | None, policy: CropPolicy) -> Region:
    """The part of a photograph of these dimensions that the policy cuts for this box and these landmarks."""
    width, height = dimensions
    if landmarks is not None and _aligns(landmarks, policy):
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


def extract(image: Image.Image, region: Region, target: tuple[int, int], policy: CropPolicy) -> Image.Image:
    """The region of the undecoded image, resized to the target (Lanczos), in RGB or grey."""
    full_width, full_height = shown_dimensions(image)
    if image.format == "JPEG":
        scale = min(region.width / target[0], region.height / target[1]) / DRAFT_GAP
        image.draft(None, (int(image.width / max(scale, 1)), int(image.height / max(scale, 1))))
    photograph = upright(image)
    across, down = photograph.width / full_width, photograph.height / full_height
    scaled = Region(region.x * across, region.y * down, region.width * across, region.height * down, region.angle)
    photograph, scaled = _padded(photograph, scaled, policy)
    if not scaled.angle:
        left, top, right, bottom = scaled.box
        inside = (max(left, 0.0), max(top, 0.0), min(right, photograph.width), min(bottom, photograph.height))
        return photograph.resize(target, Image.Resampling.LANCZOS, box=inside)
    turned = _turned(photograph, scaled)
    return turned.resize(target, Image.Resampling.LANCZOS)


def crop_points(points: Points, region: Region, width: int, height: int) -> Points:
    """(68, 2) points of the photograph in px of the crop."""
    cos, sin = math.cos(region.angle), math.sin(region.angle)
    offset = points.astype(np.float64) - (region.x, region.y)
    level = offset @ np.array([[cos, -sin], [sin, cos]])
    points_in_crop: Points = ((level / (region.width, region.height) + 0.5) * (width, height)).astype(np.float32)
    return points_in_crop


def encode(face: Image.Image, policy: CropPolicy) -> bytes:
    """The crop's bytes: JPEG without chroma subsampling (eyes and lips are small), or PNG; no metadata."""
    buffer = io.BytesIO()
    if policy.format == "jpeg":
        face.save(buffer, "JPEG", quality=policy.quality, subsampling=0)
    else:
        face.save(buffer, "PNG")
    return buffer.getvalue()


def _aligns(landmarks: Points | None, policy: CropPolicy) -> bool:
    return policy.align and landmarks is not None


def _aligned_region(landmarks: Points) -> Region:
    """A square that levels the eyes, centred between eyes and mouth."""
    points = landmarks.astype(np.float64)
    left, right, mouth = points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0), points[MOUTH].mean(0)
    eyes = (left + right) / 2
    side = max(EYE_SPAN * np.hypot(*(right - left)), EYE_TO_MOUTH * np.hypot(*(mouth - eyes)), 1.0)
    x, y = eyes + 0.5 * (mouth - eyes)
    return Region(float(x), float(y), float(side), float(side), math.atan2(right[1] - left[1], right[0] - left[0]))


def _grown(region: Region, policy: CropPolicy) -> Region:
    width, height = (side * (1 + 2 * policy.margin) for side in (region.width, region.height))
    if policy.square:
        width = height = max(width, height)
    return Region(region.x, region.y, width, height, region.angle)


def _needs_no_change(image: Image.Image, region: Region, target: tuple[int, int], policy: CropPolicy) -> bool:
    """Whether the file is its own crop: the right format, upright, whole, and of the right dimensions."""
    return (
        image.format == policy.format.upper()
        and image.mode in {"RGB", "L"}
        and image.getexif().get(EXIF_ORIENTATION, 1) == 1
        and not region.angle
        and np.allclose(region.box, (0, 0, *image.size), atol=0.5)
        and target == image.size
    )


def _padded(photograph: Image.Image, region: Region, policy: CropPolicy) -> tuple[Image.Image, Region]:
    """The photograph with what lies outside filled as far as the region reaches, and the region moved with it."""
    left, top, right, bottom = region.bounds
    before = (max(0, math.ceil(-top)), max(0, math.ceil(-left)))
    after = (max(0, math.ceil(bottom - photograph.height)), max(0, math.ceil(right - photograph.width)))
    if not any((*before, *after)):
        return photograph, region
    pixels = np.asarray(photograph)
    widths = [(before[0], after[0]), (before[1], after[1]), *([(0, 0)] if pixels.ndim == 3 else [])]
    if policy.padding in {"edge", "shrink"}:
        padded = np.pad(pixels, widths, mode="edge")
    else:
        padded = np.zeros([extent + sum(width) for extent, width in zip(pixels.shape, widths, strict=True)], np.uint8)
        if policy.padding == "mean":
            padded[:] = np.rint(pixels.mean((0, 1))).astype(np.uint8)
        padded[before[0] : before[0] + pixels.shape[0], before[1] : before[1] + pixels.shape[1]] = pixels
    return Image.fromarray(padded), Region(region.x + before[1], region.y + before[0], region.width, region.height, region.angle)


def _turned(photograph: Image.Image, region: Region) -> Image.Image:
    """The turned region, upright, at the photograph's own scale (bicubic); the caller resizes it with antialiasing."""
    width, height = max(1, round(region.width)), max(1, round(region.height))
    cos, sin = math.cos(region.angle), math.sin(region.angle)
    x0 = region.x - cos * width / 2 + sin * height / 2
    y0 = region.y - sin * width / 2 - cos * height / 2
    return photograph.transform((width, height), Image.Transform.AFFINE, (cos, -sin, x0, sin, cos, y0), Image.Resampling.BICUBIC)
