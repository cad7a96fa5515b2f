"""Any photograph as an upright 8-bit grey or RGB image."""

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.images.formats import PHOTOGRAPHS, brand

EXIF_ORIENTATION = 0x0112
SIDEWAYS = {5, 6, 7, 8}
"""Orientations that exchange width and height."""

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as most viewers show them."""


FORMATS = tuple(name for name in PHOTOGRAPHS if name != "HEIF")
"""What Pillow opens by itself; HEIF needs pillow-heif beside it."""

HEIF_UNREAD = "HEIC or HEIF, as iPhones store photographs; convert it to JPEG, or `pip install pillow-heif`"

MOST_PIXELS = 64_000_000
"""Photographs of more pixels are refused: decoded they would take 200 MB and more."""

TOO_LARGE = f"more than {MOST_PIXELS // 1_000_000} million px; make it smaller"

MOST_BYTES = 256 << 20
"""Files of more bytes are no photographs: MOST_PIXELS take no more in four bytes each, uncompressed."""

MOST_SCANS = 500
"""A JPEG of more scans is refused: each of them passes over the whole picture, and a small file can hold hours of them."""

JPEG, START_OF_SCAN = b"\xff\xd8\xff", 0xDA
BASELINE = {0xC0, 0xC1}
FRAMES = BASELINE | {0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
BARE = {0x00, 0x01, *range(0xD0, 0xDA)}
"""Second bytes of JPEG's markers: of the frames without progression, of all frames, and of what no length follows."""

MOST_SEGMENTS = 10_000
"""Before the picture; a file may hold millions that say nothing."""

FILL = re.compile(rb"\xff*")
NOT_PLAIN = (b"Exif\0\0", b"MPF\0")
"""How the segments begin of a JPEG that may be stored turned, or that holds several pictures: Pillow reads those."""

XMP, XMP_TURNED = b"http:/", re.compile(rb"tiff:Orientation(?:=\"|>)[2-8]")
"""How the segment of XMP begins, and what says there that the photograph is stored turned: Pillow reads those, too."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photograph:
    """A photograph whose pixels are not decoded yet.

    place: its name in messages; dimensions: width and height in px as a viewer shows it; jpeg: whether it can be decoded
    smaller; plain_format: `jpeg` or `png` when it is stored upright in RGB or grey; image: Pillow's, None for a plain JPEG.
    """

    content: bytes
    place: str
    dimensions: tuple[int, int]
    jpeg: bool
    plain_format: str | None
    grey: bool
    image: Image.Image | None

    def pixels(self, shrink: int = 1) -> Pixels:
        """(h, w) grey or (h, w, 3) RGB uint8, upright. shrink: 1, 2, 4 or 8 times smaller, sides rounded up; JPEG alone.

        Errors: UserError when the picture is broken.
        """
        if self.image is None:
            try:
                return decode_plain(self.content, self.dimensions, self.grey, shrink)
            except ValueError:  # stricter than Pillow, which has the last word on what is readable
                pass
        try:
            image = open_image(self.content)
            if shrink > 1:
                image.draft(None, (max(1, image.width // shrink), max(1, image.height // shrink)))
            return np.asarray(upright(image))
        except Exception as error:  # a decoder that stumbles over broken bytes raises what it likes
            reraise_machine_fault(error, self.place)
            raise UserError(f"{self.place}: unreadable image: {error}") from None


def open_photograph(content: bytes, place: str) -> Photograph:
    """The photograph in the bytes. Errors: UserError when they are no image that Pillow knows, or one of more than MOST_PIXELS."""
    plain = plain_jpeg(content)
    if plain is None:
        return _by_pillow(content, place)
    width, height, grey = plain
    _refuse_too_large(width, height, place)
    return Photograph(content, place, (width, height), jpeg=True, plain_format="jpeg", grey=grey, image=None)


def _refuse_too_large(width: int, height: int, place: str) -> None:
    if width * height > MOST_PIXELS:
        raise UserError(f"{place}: {width:,} × {height:,} px, {TOO_LARGE}")


def read_photograph(path: Path) -> bytes:
    """The file's bytes. Errors: UserError when it cannot be read, or is larger than a photograph can be."""
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length > MOST_BYTES:
                raise UserError(f"{path}: {length:,} bytes, more than {MOST_BYTES >> 20} MiB; give a photograph")
            return file.read()
    except OSError as error:
        reraise_machine_fault(error, path)
        raise UserError(f"{path}: {error.strerror}; give the path of a photograph") from None


def plain_jpeg(content: bytes) -> tuple[int, int, bool] | None:
    """Width, height and whether it is grey, of a JPEG that is one picture, upright, in YCbCr or grey; None for anything else."""
    segments = _segments(content) if content.startswith(JPEG) else []
    if not segments or segments[-1][0] != START_OF_SCAN or any(start.startswith(NOT_PLAIN) for _, start in segments):
        return None
    if any(start == XMP for _, start in segments) and XMP_TURNED.search(content):
        return None
    if _endless(content, segments):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    return (width, height, colours == "Gray") if colours in {"YCbCr", "Gray"} else None


def decode_plain(content: bytes, dimensions: tuple[int, int], grey: bool, shrink: int) -> Pixels:
    """(h, w) grey or (h, w, 3) RGB uint8 of a plain JPEG of these dimensions, `shrink` times smaller, sides rounded up.

    Errors: ValueError when anything about it is irregular.
    """
    width, height = (-(-side // shrink) for side in dimensions)
    found: Pixels = simplejpeg.decode_jpeg(content, "GRAY" if grey else "RGB", min_height=height, min_width=width)
    return found[:, :, 0] if grey else found


def shrink_within(room: float) -> int:
    """By how much a JPEG can be decoded smaller, 8, 4, 2 or 1, and not by more than `room`."""
    return next((by for by in (8, 4, 2) if by <= room), 1)


def _segments(content: bytes) -> list[tuple[int, bytes]]:
    """The marker and first bytes of each segment of a JPEG; the last one starts the picture, unless they cannot be followed so far."""
    found: list[tuple[int, bytes]] = []
    at = 2
    while len(found) < MOST_SEGMENTS and at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] not in BARE:
        if content[at + 1] == 0xFF and (fill := FILL.match(content, at)):
            at = fill.end() - 1
            continue
        found.append((content[at + 1], content[at + 4 : at + 10]))
        if content[at + 1] == START_OF_SCAN:
            break
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return found


def _endless(content: bytes, segments: Sequence[tuple[int, bytes]]) -> bool:
    """Whether a JPEG has more than MOST_SCANS scans.

    They are not counted, which takes 6 % of decoding, where the first scan is the last that is decoded: in a frame without
    progression whose components are all in it.
    """
    frames = [(marker, start[5:]) for marker, start in segments if marker in FRAMES]
    components = segments[-1][1][:1] if segments and segments[-1][0] == START_OF_SCAN else None
    if len(frames) == 1 and frames[0][0] in BASELINE and frames[0][1] == components:
        return False
    return content.count(bytes([0xFF, START_OF_SCAN])) > MOST_SCANS


def open_image(content: bytes) -> Image.Image:
    """Pillow's image of one of FORMATS, or of HEIF with pillow-heif. Errors: of many kinds, when the bytes are none."""
    if content.startswith(JPEG) and _endless(content, _segments(content)):
        raise ValueError(f"a JPEG of more than {MOST_SCANS} scans")
    if brand(content) == "HEIF":
        return _open_heif(content)
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _open_heif(content: bytes) -> Image.Image:
    if pillow_heif() is None:
        raise ValueError(HEIF_UNREAD)
    import_module("pillow_heif").register_heif_opener()
    return Image.open(io.BytesIO(content), formats=("HEIF",))


def pillow_heif() -> str | None:
    """The version of pillow-heif, which is optional; None where it is not installed."""
    try:
        return version("pillow-heif")
    except PackageNotFoundError:
        return None


def format_name(image: Image.Image) -> str:
    """The format of an opened image, as the table of formats names it."""
    return "JPEG" if image.format == "MPO" else image.format or ""


def _by_pillow(content: bytes, place: str) -> Photograph:
    try:
        image = open_image(content)
        _refuse_too_large(*image.size, place)  # before EXIF is asked for, for which a PNG is decoded
        turn = orientation(image)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning where the user has made them errors
        raise UserError(f"{place}: {TOO_LARGE}") from None
    except UnidentifiedImageError:
        raise UserError(f"{place}: unreadable image: in none of the formats {', '.join(FORMATS)}") from None
    except Exception as error:  # a parser that stumbles over broken bytes raises what it likes
        reraise_machine_fault(error, place)
        raise UserError(f"{place}: unreadable image: {error}") from None
    plain = (image.format or "").lower() if image.mode in {"RGB", "L"} and turn == 1 else None
    return Photograph(content, place, shown_dimensions(image), image.format == "JPEG", plain, image.mode == "L", image)


def orientation(image: Image.Image) -> object:
    """As EXIF has it, or XMP where EXIF has none; 1 for upright; foul data may hold no number.

    Errors: of many kinds, when the EXIF data are broken.
    """
    return image.getexif().get(EXIF_ORIENTATION, 1)


def shown_dimensions(image: Image.Image) -> tuple[int, int]:
    """Width and height of the image as a viewer shows it. Errors: of many kinds, when the EXIF data are broken."""
    width, height = image.size
    by_pillow = EXIF_ORIENTATION in getattr(image, "tag_v2", ())  # of a TIFF, whose sides it has exchanged by itself
    return (height, width) if orientation(image) in SIDEWAYS and not by_pillow else (width, height)


def upright(image: Image.Image) -> Image.Image:
    """The pixels turned as EXIF says, or XMP where EXIF does not, in mode L or RGB.

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
        values = np.clip(np.asarray(turned), 0, 65535).astype(np.uint32)
        values += 128  # whole numbers and in place: as floating point a large photograph would take 2 GB
        values //= 257
        return Image.fromarray(values.astype(np.uint8))
    if turned.mode == "F":
        raise UserError("image: floating-point pixels have no stated range; convert the file to 8 or 16 bit")
    if turned.has_transparency_data:
        layer = turned.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer).convert("RGB")
    return turned.convert("L" if turned.mode == "1" else "RGB")
