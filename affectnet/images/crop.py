"""The crop: the face cut out of a photograph's bytes, resized and encoded."""

import io
import math
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from affectnet.images.crop_policy import Box, CropPolicy, Points, Region, can_align, crop_points, face_region, target_dimensions
from affectnet.images.decode import MOST_PIXELS, Photograph, Pixels, open_photograph, shrink_within
from affectnet.images.opencv import opencv
from affectnet.images.resize import resized

DECODE_GAP = 1.5
"""A JPEG is decoded at 1/2, 1/4 or 1/8 when the crop is then still this many times wider than its target."""

MOST_SIDE = 32_000
"""Px of a region's longer side at most while it is cut, padding included: OpenCV rotates no longer one."""


@dataclass(frozen=True)
class Crop:
    """An encoded face: its dimensions in px, landmarks (68, 2) in its px or None; passed_through: the bytes are the photograph's."""

    content: bytes
    width: int
    height: int
    landmarks: Points | None
    passed_through: bool
    aligned: bool


def crop_face(content: bytes, box: Box | None, landmarks: Points | None, policy: CropPolicy, name: str) -> Crop:
    """The face in the photograph's bytes. box: in px of the photograph as shown, None for all of it; landmarks: (68, 2) px or None.

    A box partly outside is clipped to the photograph before the margin is added; a margin that reaches outside is filled
    by the method `padding`. An upright region begins and ends at whole px of the decoded photograph. A photograph that already is
    its own crop is passed through byte for byte. Errors: UserError when the bytes are not a readable image.
    """
    photograph = open_photograph(content, name)
    region = face_region(photograph.dimensions, box, landmarks, policy)
    width, height = target_dimensions(region, policy)
    if photograph.plain_format == policy.format and is_its_own_crop(photograph, policy, region):
        return Crop(content, width, height, landmarks, passed_through=True, aligned=False)
    shrink = _shrink(photograph, region, (width, height))
    region = region if region.angle else region.snapped(shrink)
    pixels, thinned = _thinned(photograph.pixels(shrink), region.divided(shrink), policy)
    part = _extracted(pixels, region.divided(shrink * thinned), policy)
    points = None if landmarks is None else crop_points(landmarks, region, width, height)
    aligned = can_align(photograph.dimensions, landmarks, policy)
    return Crop(
        encode(resized(part, width, height, policy.resampling), policy), width, height, points, passed_through=False, aligned=aligned
    )


def encode(face: Pixels, policy: CropPolicy) -> bytes:
    """The crop's bytes: JPEG without chroma subsampling (eyes and lips are small), or PNG; no metadata."""
    if policy.format == "jpeg":
        grey = face.ndim == 2
        colours = ("GRAY", "Gray") if grey else ("RGB", "444")
        content: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(face[:, :, None] if grey else face), policy.quality, colorspace=colours[0], colorsubsampling=colours[1]
        )
        return content
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "PNG")
    return buffer.getvalue()


def is_its_own_crop(photograph: Photograph, policy: CropPolicy, region: Region | None = None) -> bool:
    """Whether the crop is the whole photograph at its own dimensions, in any format. region: the part that is cut; default: all."""
    region = region or face_region(photograph.dimensions, None, None, policy)
    return (
        not region.angle
        and target_dimensions(region, policy) == photograph.dimensions
        and np.allclose(region.box, (0, 0, *photograph.dimensions), atol=0.5)
    )


def _shrink(photograph: Photograph, region: Region, target: tuple[int, int]) -> int:
    """The factor by which the photograph is decoded smaller: 1, 2, 4 or 8."""
    room = min(region.width / target[0], region.height / target[1]) / DECODE_GAP
    return shrink_within(room) if photograph.jpeg else 1


def _thinned(pixels: Pixels, region: Region, policy: CropPolicy) -> tuple[Pixels, int]:
    """The photograph, shrunk by a whole factor, and the factor: 1 unless the region with its padding takes too much memory.

    It does for a strip of 60,000 × 1,000 px as a square, or for a large face with a margin of twice its size.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = region.bounds
    across, down = max(right, width) - min(left, 0), max(bottom, height) - min(top, 0)
    factor = math.ceil(max(math.sqrt(across * down / MOST_PIXELS), across / MOST_SIDE, down / MOST_SIDE))
    if factor == 1:
        return pixels, 1
    return resized(pixels, max(1, width // factor), max(1, height // factor), policy.resampling), factor


def _extracted(pixels: Pixels, region: Region, policy: CropPolicy) -> Pixels:
    """The region of the decoded photograph, upright, at the same scale; outside the photograph it is filled."""
    pixels, region = _padded(pixels, region, policy)
    if region.angle:
        return _rotated(pixels, region)
    left, top, right, bottom = map(round, region.box)
    return pixels[top:bottom, left:right]


def _padded(pixels: Pixels, region: Region, policy: CropPolicy) -> tuple[Pixels, Region]:
    """The photograph, padded as far as the region reaches, and the region in its px."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = region.bounds
    before_x, before_y = max(0, math.ceil(-left)), max(0, math.ceil(-top))
    after_x, after_y = max(0, math.ceil(right - width)), max(0, math.ceil(bottom - height))
    if not any((before_x, before_y, after_x, after_y)):
        return pixels, region
    rows, columns = (before_y, after_y), (before_x, after_x)
    if policy.padding in {"edge", "shrink"}:
        padded = np.pad(pixels, (rows, columns, (0, 0))[: pixels.ndim], "edge")
    else:
        fill = np.rint(pixels.mean((0, 1))).astype(np.uint8) if policy.padding == "mean" else np.uint8(0)
        padded = np.empty((height + sum(rows), width + sum(columns), *pixels.shape[2:]), np.uint8)
        padded[:] = fill
        padded[before_y : before_y + height, before_x : before_x + width] = pixels
    return padded, Region(region.x + before_x, region.y + before_y, region.width, region.height, region.angle)


def _rotated(pixels: Pixels, region: Region) -> Pixels:
    """The rotated region, upright, at the photograph's scale (bicubic); the caller resizes it."""
    cv2 = opencv("crop.align")
    width, height = max(1, round(region.width)), max(1, round(region.height))
    cos, sin = math.cos(region.angle), math.sin(region.angle)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    rotation = np.array([[cos, -sin], [sin, cos]])
    corner = np.array([region.x, region.y]) - 0.5 - rotation @ middle  # OpenCV's origin is the centre of the first px
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    transform = np.column_stack([rotation, corner])
    return np.asarray(cv2.warpAffine(pixels, transform, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)
