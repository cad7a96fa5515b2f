"""Broken images: truncated, with flipped bits, overwritten, swapped, with a wrong size in the header, or not images."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from affectnet.images.decode import MOST_SCANS

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpg": ("JPEG", {"quality": 90}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "exif.jpg": ("JPEG", {"exif": True}),
    "png": ("PNG", {}),
    "exif.png": ("PNG", {"exif": True}),
    "bmp": ("BMP", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "webp": ("WEBP", {}),
    "gif": ("GIF", {}),
}
"""End of a name → Pillow's format and options."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def sound(name: str, seed: int, side: int = 72) -> bytes:
    """Smooth noise in one of KINDS."""
    kind, options = KINDS[name]
    if options.get("exif"):
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "turned"
        options = {**options, "exif": exif}
    cells = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


def flipped(content: bytes, first: int, last: int, count: int, draw: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for at in draw.integers(first, min(last, len(content)), count):
        changed[at] ^= int(draw.integers(1, 256))
    return bytes(changed)


def inserted(content: bytes, draw: np.random.Generator) -> bytes:
    at = int(draw.integers(2, len(content)))
    return content[:at] + draw.bytes(int(draw.integers(1, 40))) + content[at:]


def swapped(content: bytes, draw: np.random.Generator) -> bytes:
    """Swaps two neighbouring pieces."""
    first, middle, last = sorted(int(at) for at in draw.choice(np.arange(2, len(content)), 3, replace=False))
    return content[:first] + content[middle:last] + content[first:middle] + content[last:]


def lying(content: bytes, draw: np.random.Generator, side: int = 72) -> bytes:
    """Replaces every number in the header that could be the side, in either byte order."""
    other = int(draw.choice([0, 1, side - 1, side + 1, 5000, 65535]))
    head, rest = content[:700], content[700:]
    for form in (">H", "<H"):
        head = head.replace(struct.pack(form, side), struct.pack(form, other))
    return head + rest


FAULTS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "cut in its first bytes": lambda content, draw: content[: int(draw.integers(1, 12))],
    "cut in its header": lambda content, draw: content[: int(draw.integers(12, 200))],
    "cut in its middle": lambda content, draw: content[: int(draw.integers(len(content) // 4, len(content) * 3 // 4))],
    "cut by a byte": lambda content, _: content[:-1],
    "one bit of its header": lambda content, draw: flipped(content, 2, 60, 1, draw),
    "bytes of its header": lambda content, draw: flipped(content, 2, 200, 8, draw),
    "one byte of its body": lambda content, draw: flipped(content, len(content) // 3, len(content), 1, draw),
    "bytes of its body": lambda content, draw: flipped(content, len(content) // 3, len(content), 20, draw),
    "bytes anywhere": lambda content, draw: flipped(content, 0, len(content), 50, draw),
    "filled": inserted,
    "swapped": swapped,
    "a lying size": lying,
    "a second picture behind it": lambda content, _: content + content,
    "zeros from its middle on": lambda content, _: content[: len(content) // 2] + bytes(len(content) // 2),
}


def fuzzed(seed: int) -> Iterator[tuple[str, bytes]]:
    """Each fault in each kind, as (name, content); another seed gives other bytes."""
    for number, (kind, (fault, break_it)) in enumerate((kind, fault) for kind in KINDS for fault in FAULTS.items()):
        draw = np.random.default_rng([seed, number])
        yield f"{fault.replace(' ', '_')}.{kind}", break_it(sound(kind, seed * 1000 + number), draw)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG without pixels, whose header has this size."""
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + b"".join(chunks) + chunk(b"IEND", b"")


def resized_header(name: str, width: int, height: int) -> bytes:
    """A valid image with another size in its header."""
    content = bytearray(sound(name, 1))
    if name == "jpg":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height, width)
    elif name == "bmp":
        content[18:26] = struct.pack("<ii", width, height)
    elif name == "gif":
        content[6:10] = struct.pack("<HH", width, height)
    else:
        image, buffer = Image.new("1", (width, 1)), io.BytesIO()
        image.save(buffer, "TIFF")
        content = bytearray(buffer.getvalue().replace(struct.pack("<HHII", 257, 4, 1, 1), struct.pack("<HHII", 257, 4, 1, height)))
    return bytes(content)


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan stands there `count` times."""
    content = sound("progressive.jpg", 3)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + content[-2:]


def split_scans(count: int) -> bytes:
    """A JPEG without progression whose first scan holds only the brightness, `count` times."""
    content = sound("jpg", 3)
    start = content.index(b"\xff\xda")
    length = int.from_bytes(content[start + 2 : start + 4], "big")
    scan = b"\xff\xda\x00\x08\x01" + content[start + 5 : start + 7] + b"\x00\x3f\x00" + content[start + 2 + length : -2]
    return content[:start] + scan * count + content[-2:]


def hidden_scans(count: int) -> bytes:
    """`scans` after a marker without a length, whose next bytes look like the length of a harmless segment."""
    content, harmless = scans(count), sound("jpg", 3)
    frame = harmless.index(b"\xff\xc0")
    length = int.from_bytes(content[2:4], "big")
    return content[:2] + b"\xff\xd0" + content[2:] + bytes(length) + harmless[frame:]


def large(mode: str, kind: str, width: int, height: int) -> bytes:
    """A valid image of one colour, which is a small file."""
    buffer = io.BytesIO()
    Image.new(mode, (width, height), 77 if mode != "RGBA" else (9, 8, 7, 6)).save(
        buffer, kind, **({"compress_level": 1} if kind == "PNG" else {})
    )
    return buffer.getvalue()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n(PATH) (w) file closefile\nshowpage\n"

SPECIAL: dict[str, Callable[[], bytes]] = {
    "empty.jpg": lambda: b"",
    "one_byte.jpg": lambda: b"\xff",
    "newline.png": lambda: b"\n",
    "page.jpg": lambda: b"<!doctype html><title>404</title>",
    "drawing.jpg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='50000' height='50000'/>",
    "program.jpg": lambda: EPS,
    "archive.png": lambda: b"PK\x03\x04" + bytes(60),
    "zeros.bmp": lambda: bytes(4096),
    "fill.jpg": lambda: b"\xff\xd8" + b"\xff" * 3_000_000,
    "segments.jpg": lambda: b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100_000,
    "riff.webp": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff",
    "bomb.png": lambda: png(50_000, 50_000, chunk(b"IDAT", zlib.compress(bytes(50_000)))),
    "bomb_of_the_largest_number.png": lambda: png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", b"")),
    "no_side.png": lambda: png(0, 0, chunk(b"IDAT", b"")),
    "bomb.jpg": lambda: resized_header("jpg", 50_000, 50_000),
    "bomb.bmp": lambda: resized_header("bmp", 50_000, 50_000),
    "negative.bmp": lambda: resized_header("bmp", -50_000, 72),
    "bomb.gif": lambda: resized_header("gif", 65_535, 65_535),
    "bomb.tif": lambda: resized_header("tif", 50_000, 50_000),
    "text_bomb.png": lambda: png(
        8, 8, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 24), 9))] * 8, chunk(b"IDAT", zlib.compress(bytes(200)))
    ),
    "text_bomb_behind.png": lambda: png(
        8, 8, chunk(b"IDAT", zlib.compress(bytes(200))), chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(1 << 26), 9))
    ),
    "scans.jpg": lambda: scans(MOST_SCANS),
    "many_scans.jpg": lambda: scans(20_000),
    "split_scans.jpg": lambda: split_scans(20_000),
    "hidden_scans.jpg": lambda: hidden_scans(20_000),
    "exif_of_nothing.jpg": lambda: b"\xff\xd8\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff" + sound("jpg", 5)[2:],
}
"""Name → one broken image."""

LARGE: dict[str, Callable[[], bytes]] = {
    "alpha.png": lambda: large("RGBA", "PNG", 8000, 8000),
    "deep.png": lambda: large("I;16", "PNG", 8000, 8000),
    "long.png": lambda: large("RGB", "PNG", 60_000, 1000),
    "line.png": lambda: large("L", "PNG", 2_000_000, 1),
    "tall.jpg": lambda: large("L", "JPEG", 100, 65_000),
}
"""Name → a valid image that needs as much memory as any that is accepted."""
