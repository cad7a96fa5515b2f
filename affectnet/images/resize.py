"""Resizing: of the crops that are stored, by the crop policy, and of stored crops to the side that the network takes."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectnet.images.crop_policy import Resampling
from affectnet.images.opencv import opencv


def resized(pixels: NDArray[np.uint8], width: int, height: int, resampling: Resampling = "bicubic") -> NDArray[np.uint8]:
    """(h, w) or (h, w, 3) uint8 → (height, width, …). Errors: UserError when the resampling needs OpenCV, and it is missing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if resampling == "bicubic":
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    cv2 = opencv("crop.resampling area")
    smaller = width * height < pixels.shape[0] * pixels.shape[1]
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8)


def open_crop(content: bytes) -> Image.Image:
    """One crop in its stored size and mode, not yet decoded."""
    return Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))


def decode_face(content: bytes, image_px: int) -> NDArray[np.uint8]:
    """One crop as the network sees it: (image_px, image_px, 3) uint8 RGB."""
    return resize_face(open_crop(content), image_px)


def resize_face(image: Image.Image, image_px: int) -> NDArray[np.uint8]:
    """A crop resized to the network's input: (image_px, image_px, 3) uint8 RGB, antialiased bicubic."""
    image = image.convert("RGB")
    if image.size != (image_px, image_px):
        image = image.resize((image_px, image_px), Image.Resampling.BICUBIC)
    return np.asarray(image)
