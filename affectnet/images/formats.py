"""The formats of photographs and videos, and the suffixes of their files: one table for every walk, reader and rule."""

from types import MappingProxyType

PHOTOGRAPHS = MappingProxyType(
    {
        "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),  # the MPO of a phone begins with a plain JPEG of the photograph
        "PNG": (".png", ".apng"),
        "GIF": (".gif",),
        "BMP": (".bmp",),
        "DIB": (".dib",),
        "TIFF": (".tif", ".tiff"),
        "WEBP": (".webp",),
        "AVIF": (".avif",),
        "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
        "ICO": (".ico",),
        "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
        "HEIF": (".heic", ".heif", ".hif"),
    }
)
"""Format, as Pillow names it → suffixes. Pillow knows more: EPS is left out, since it is a program that Pillow runs by Ghostscript."""

SUFFIX_FORMATS = MappingProxyType({suffix: name for name, suffixes in PHOTOGRAPHS.items() for suffix in suffixes})
"""Suffix → format."""

IMAGE_SUFFIXES = frozenset(SUFFIX_FORMATS)

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".wmv", ".flv", ".ogv")
)
"""Suffixes of videos that OpenCV's FFmpeg reads."""

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")

START_FORMATS = MappingProxyType(
    {
        b"\xff\xd8\xff": "JPEG",
        b"\x89PNG\r\n\x1a\n": "PNG",
        b"BM": "BMP",
        b"GIF8": "GIF",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"RIFF": "WEBP",
        b"\0\0\0\x0cjP  ": "JPEG2000",
        b"\xff\x4f\xff\x51": "JPEG2000",
    }
)
"""First bytes of the image formats; `brand` recognises HEIF and AVIF."""

STARTS = tuple(START_FORMATS)


def brand(content: bytes) -> str | None:
    """`HEIF` or `AVIF` by the first box of the file; None for any other format."""
    box, name = content[4:8], content[8:12]
    if box != b"ftyp":
        return None
    length = int.from_bytes(content[:4], "big")
    brands = {name, *(content[at : at + 4] for at in range(16, min(length, 256), 4))}  # files of both kinds may begin with mif1
    if brands.intersection(AVIF_BRANDS):
        return "AVIF"
    return "HEIF" if brands.intersection(HEIF_BRANDS) else None


def suffix_by_content(content: bytes) -> str:
    """The first suffix of the format that the first bytes show, as `.jpg` for JPEG; empty when they are not those of an image."""
    kind = brand(content) or next((kind for start, kind in START_FORMATS.items() if content.startswith(start)), None)
    return PHOTOGRAPHS[kind][0] if kind else ""
