"""Any photograph as an upright 8-bit grey or RGB image."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from affectnet.errors import UserError

EXIF_ORIENTATION = 0x0112
BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as most viewers show them."""


def open_photograph(content: bytes, place: str) -> Image.Image:
    """The image, its pixels not decoded yet. Errors: UserError when the bytes are no image that Pillow knows."""
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise UserError(f"{place}: no readable image: not in a format that Pillow knows") from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{place}: no readable image: {error}") from None


def shown_dimensions(image: Image.Image) -> tuple[int, int]:
    """Width and height in px as a viewer shows it: EXIF orientations 5–8 swap them."""
    width, height = image.size
    return (height, width) if image.getexif().get(EXIF_ORIENTATION, 1) in {5, 6, 7, 8} else (width, height)


def upright(image: Image.Image) -> Image.Image:
    """The pixels turned as the EXIF orientation says, in mode L or RGB.

    Grey stays grey (the caller converts after resizing, which is cheaper). Transparency is laid on white, 16-bit grey
    divided by 257 (65535 → 255), CMYK, palettes and the rest converted by Pillow. Errors: UserError for
    floating-point pixels, whose range no file states.
    """
    if image.mode in {"RGB", "L"} and EXIF_ORIENTATION not in image.getexif():
        image.load()
        return image
    turned = ImageOps.exif_transpose(image)
    if turned.mode in {"RGB", "L"}:
        return turned
    if turned.mode.startswith("I"):
        values = np.asarray(turned).astype(np.float64)
        return Image.fromarray(np.clip(np.rint(values / 257), 0, 255).astype(np.uint8))
    if turned.mode == "F":
        raise UserError("image: floating-point pixels have no stated range; convert the file to 8 or 16 bit")
    if turned.has_transparency_data:
        layer = turned.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer).convert("RGB")
    return turned.convert("L" if turned.mode == "1" else "RGB")
