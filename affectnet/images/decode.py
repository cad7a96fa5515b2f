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
"""The colour behind transparent pixels: white, as in most viewers."""

FORMATS = tuple(name for name in PHOTOGRAPHS if name != "HEIF")
"""Formats that Pillow opens by itself; HEIF needs the package pillow-heif."""

HEIF_UNREAD = "HEIC or HEIF, as iPhones store photographs; convert it to JPEG, or `pip install pillow-heif`"

MOST_PIXELS = 64_000_000
"""Photographs with more pixels are refused: decoded they take 200 MB and more."""

TOO_LARGE = f"more than {MOST_PIXELS // 1_000_000} million px; make it smaller"

MOST_BYTES = 256 << 20
"""Files with more bytes are refused: MOST_PIXELS pixels of four bytes need no more, uncompressed."""

MOST_SCANS = 500
"""A JPEG with more scans is refused: each scan covers the whole image, and a small file can hold scans for hours of decoding."""

JPEG, START_OF_SCAN = b"\xff\xd8\xff", 0xDA
BASELINE = {0xC0, 0xC1}
FRAMES = BASELINE | {0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xDA)}
"""Second bytes of JPEG's markers: of frames without progression, of all frames, and of markers that no length follows."""

MOST_SEGMENTS = 10_000
"""Segments before the image at most; a broken file may hold millions."""

FILL = re.compile(rb"\xff*")
NOT_PLAIN = (b"Exif\0\0", b"MPF\0")
"""First bytes of segments of a JPEG that may be rotated, or that holds several images: Pillow reads these files."""

XMP, XMP_TURNED = b"http:/", re.compile(rb"tiff:Orientation(?:=\"|>)[2-8]")
"""First bytes of an XMP segment, and the entry for a rotated photograph: Pillow reads these files, too."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photograph:
    """A photograph whose pixels are not decoded yet.

    name: in messages; dimensions: width and height in px as a viewer shows it; jpeg: whether it can be decoded smaller;
    plain_format: `jpeg` or `png` when it is stored upright in RGB or grey, without transparency, else None; image: Pillow's, None for
    a plain JPEG.
    """

    content: bytes
    name: str
    dimensions: tuple[int, int]
    jpeg: bool
    plain_format: str | None
    grey: bool
    image: Image.Image | None

    def pixels(self, shrink: int = 1) -> Pixels:
        """(h, w) grey or (h, w, 3) RGB uint8, upright. shrink: 1, 2, 4 or 8 times smaller, sides rounded up; only for JPEG.

        Errors: UserError when the image is broken.
        """
        if self.image is None:
            try:
                return decode_plain(self.content, self.dimensions, self.grey, shrink)
            except ValueError:  # stricter than Pillow, which decides what is readable
                pass
        try:
            image = open_image(self.content)
            if shrink > 1:
                image.draft(None, (max(1, image.width // shrink), max(1, image.height // shrink)))
            return np.asarray(upright(image))
        except Exception as error:  # decoders raise errors of any kind for broken bytes
            reraise_machine_fault(error, self.name)
            raise UserError(f"{self.name}: unreadable image: {error}") from None


def open_photograph(content: bytes, name: str) -> Photograph:
    """The photograph in the bytes. name: in messages. Errors: UserError when Pillow cannot open it, or it has more than MOST_PIXELS."""
    plain = plain_jpeg(content)
    if plain is None:
        return _by_pillow(content, name)
    width, height, grey = plain
    _refuse_too_large(width, height, name)
    return Photograph(content, name, (width, height), jpeg=True, plain_format="jpeg", grey=grey, image=None)


def _refuse_too_large(width: int, height: int, name: str) -> None:
    if width * height > MOST_PIXELS:
        raise UserError(f"{name}: {width:,} × {height:,} px, {TOO_LARGE}")


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
    """Width, height and whether it is grey, of a JPEG with one upright image in YCbCr or grey; None for anything else."""
    segments = _segments(content) if content.startswith(JPEG) else []
    if not segments or segments[-1][0] != START_OF_SCAN or any(start.startswith(NOT_PLAIN) for _, start in segments):
        return None
    if any(start == XMP for _, start in segments) and XMP_TURNED.search(content):
        return None
    if _has_too_many_scans(content, segments):
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
    pixels: Pixels = simplejpeg.decode_jpeg(content, "GRAY" if grey else "RGB", min_height=height, min_width=width)
    return pixels[:, :, 0] if grey else pixels


def shrink_within(most: float) -> int:
    """The largest factor by which a JPEG can be decoded smaller, 8, 4, 2 or 1, that is at most `most`."""
    return next((factor for factor in (8, 4, 2) if factor <= most), 1)


def _segments(content: bytes) -> list[tuple[int, bytes]]:
    """The marker and first bytes of each segment of a JPEG; the last one starts the image, unless the file is broken before it."""
    segments: list[tuple[int, bytes]] = []
    at = 2
    while len(segments) < MOST_SEGMENTS and at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] not in WITHOUT_LENGTH:
        if content[at + 1] == 0xFF and (fill := FILL.match(content, at)):
            at = fill.end() - 1
            continue
        segments.append((content[at + 1], content[at + 4 : at + 10]))
        if content[at + 1] == START_OF_SCAN:
            break
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return segments


def _has_too_many_scans(content: bytes, segments: Sequence[tuple[int, bytes]]) -> bool:
    """Whether a JPEG has more than MOST_SCANS scans.

    A count takes 6 % of the decoding time. It is left out for a frame without progression with all components in the first scan:
    decoders read no further scan there.
    """
    frames = [(marker, start[5:]) for marker, start in segments if marker in FRAMES]
    components = segments[-1][1][:1] if segments and segments[-1][0] == START_OF_SCAN else None
    if len(frames) == 1 and frames[0][0] in BASELINE and frames[0][1] == components:
        return False
    return content.count(bytes([0xFF, START_OF_SCAN])) > MOST_SCANS


def open_image(content: bytes) -> Image.Image:
    """Pillow's image of one of FORMATS, or of HEIF with pillow-heif. Errors: of many kinds, for any other bytes."""
    if content.startswith(JPEG) and _has_too_many_scans(content, _segments(content)):
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
    """The format of an opened image, by its name in PHOTOGRAPHS."""
    return "JPEG" if image.format == "MPO" else image.format or ""


def _by_pillow(content: bytes, name: str) -> Photograph:
    try:
        image = open_image(content)
        _refuse_too_large(*image.size, name)  # before EXIF is read, for which a PNG is decoded
        orientation = exif_orientation(image)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning, where the user turns warnings into errors
        raise UserError(f"{name}: {TOO_LARGE}") from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: unreadable image: in none of the formats {', '.join(FORMATS)}") from None
    except Exception as error:  # parsers raise errors of any kind for broken bytes
        reraise_machine_fault(error, name)
        raise UserError(f"{name}: unreadable image: {error}") from None
    plain = (image.format or "").lower() if _is_opaque(image) and orientation == 1 else None
    return Photograph(content, name, shown_dimensions(image), image.format == "JPEG", plain, image.mode == "L", image)


def exif_orientation(image: Image.Image) -> object:
    """The orientation in EXIF, or in XMP where EXIF has none; 1 for upright; in broken files a value of any type.

    Errors: of many kinds, when the EXIF data are broken.
    """
    return image.getexif().get(EXIF_ORIENTATION, 1)


def shown_dimensions(image: Image.Image) -> tuple[int, int]:
    """Width and height of the image as a viewer shows it. Errors: of many kinds, when the EXIF data are broken."""
    width, height = image.size
    already_exchanged = EXIF_ORIENTATION in getattr(image, "tag_v2", ())  # Pillow does so for a TIFF
    return (height, width) if exif_orientation(image) in SIDEWAYS and not already_exchanged else (width, height)


def _is_opaque(image: Image.Image) -> bool:
    """Whether the image is in mode L or RGB and has no transparent colour, as a PNG or GIF may have."""
    return image.mode in {"RGB", "L"} and not image.has_transparency_data


def _shorten_clear_colour(image: Image.Image) -> None:
    """The transparent colour of an unread PNG with 16 bits per channel, at the high bytes: Pillow reads no more of its pixels."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and any("16B" in str(part.args) for part in getattr(image, "tile", ())):
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def upright(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB, rotated by its orientation in EXIF, or in XMP where EXIF has none.

    Grey stays grey (the caller converts after resizing, which is cheaper). Transparent pixels become white, 16-bit grey
    is divided by 257 (65535 → 255), and Pillow converts CMYK, palettes and other modes. Errors: UserError for pixels of
    32 bit, whole numbers or floating-point, whose range no file states.
    """
    if _is_opaque(image) and EXIF_ORIENTATION not in image.getexif():
        image.load()
        return image
    _shorten_clear_colour(image)
    turned = ImageOps.exif_transpose(image)
    if _is_opaque(turned):
        return turned
    if turned.mode in {"I", "F"}:
        kind = "floating-point" if turned.mode == "F" else "32-bit"
        raise UserError(f"image: {kind} pixels have no stated range; convert the file to 8 or 16 bit")
    if turned.mode.startswith("I"):
        values = np.clip(np.asarray(turned), 0, 65535).astype(np.uint32)
        if "transparency" in turned.info:
            values[values == turned.info["transparency"]] = 65535
        values += 128  # as integers and in place: as floating point a large photograph takes 2 GB
        values //= 257
        return Image.fromarray(values.astype(np.uint8))
    if turned.has_transparency_data:
        layer = turned.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer).convert("RGB")
    return turned.convert("L" if turned.mode == "1" else "RGB")
