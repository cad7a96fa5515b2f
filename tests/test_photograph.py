import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from affectnet.errors import UserError
from affectnet.images.decode import MOST_BYTES, Photograph, open_photograph, read_photograph

RNG = np.random.default_rng(0)


def stored(image: Image.Image, kind: str = "PNG", **options: object) -> Photograph:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return open_photograph(buffer.getvalue(), "test")


def test_an_orientation_that_is_text_turns_nothing() -> None:
    pixels = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    text = b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 2, b"6\0", 0)  # one entry, of the type ASCII
    photograph = stored(Image.fromarray(pixels), exif=text)
    assert photograph.dimensions == (6, 4) and np.array_equal(photograph.pixels(), pixels)


def test_each_exif_orientation_is_turned_upright_without_loss() -> None:
    pixels = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    # The operation of a viewer on the stored pixels, by the EXIF standard.
    shown = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }
    for orientation, expected in shown.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = stored(Image.fromarray(pixels), exif=exif)
        assert image.dimensions == (expected.shape[1], expected.shape[0])
        assert np.array_equal(image.pixels(), expected), orientation


def test_transparency_lies_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert stored(image).pixels().tolist() == [[[200, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("mode", "kind", "seen", "clear"),
    [
        ("RGB", "PNG", (200, 0, 0), (0, 90, 0)),
        ("L", "PNG", 200, 90),
        ("L", "GIF", 200, 90),
        ("1", "PNG", 255, 0),
        ("I;16", "PNG", 51400, 90),
    ],
)
def test_a_transparent_colour_becomes_white_also_turned(mode: str, kind: str, seen: Any, clear: Any) -> None:
    image = Image.new(mode, (2, 1), seen)
    image.putpixel((1, 0), clear)
    turned = Image.Exif()
    turned[0x0112] = 3
    for options, column in (({}, 1), ({"exif": turned}, 0))[: 1 + (kind == "PNG")]:
        photograph = stored(image, kind, transparency=clear, **options)
        pixels = photograph.pixels().reshape(2, -1).tolist()
        assert set(pixels[column]) == {255} and photograph.plain_format is None
        assert pixels[1 - column] == [200, 0, 0] if mode == "RGB" else set(pixels[1 - column]) == {min(seen, 255) if mode == "1" else 200}


def test_a_transparent_colour_of_16_bits_per_channel_becomes_white() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + struct.pack(">6H", 30000, 30000, 30000, 51400, 0, 0)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    clear = struct.pack(">3H", 30000, 30000, 30000)
    parts = (chunk(b"IHDR", header), chunk(b"tRNS", clear), chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b""))
    photograph = open_photograph(b"\x89PNG\r\n\x1a\n" + b"".join(parts), "deep.png")
    assert photograph.pixels().tolist() == [[[255, 255, 255], [200, 0, 0]]]


def test_sixteen_bits_become_eight_by_their_range() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert stored(Image.fromarray(values)).pixels().tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize(
    ("mode", "kind", "expected"), [("1", "PNG", "L"), ("L", "PNG", "L"), ("P", "PNG", "RGB"), ("CMYK", "TIFF", "RGB"), ("LA", "PNG", "RGB")]
)
def test_every_mode_ends_as_grey_or_rgb(mode: str, kind: str, expected: str) -> None:
    grey = Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8))
    assert stored(grey.convert("RGB").convert(mode), kind).pixels().shape == (8, 8, 3)[: {"L": 2, "RGB": 3}[expected]]


@pytest.mark.parametrize(("kind", "named"), [(np.float32, "floating-point"), (np.int32, "32-bit")])
def test_pixels_of_32_bit_have_no_range_and_are_refused(kind: type, named: str) -> None:
    with pytest.raises(UserError, match=f"image: {named} pixels have no stated range; convert the file to 8 or 16 bit"):
        stored(Image.fromarray(np.full((2, 2), 200, kind)), "TIFF").pixels()


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n"]
)
def test_bytes_that_are_no_image_are_one_line(content: bytes) -> None:
    with pytest.raises(UserError, match=r"here\.jpg: unreadable image"):
        open_photograph(content, "here.jpg")


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def smooth(height: int, width: int, mode: str = "RGB") -> np.ndarray:
    cells = Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC).convert(mode))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
def test_a_plain_jpeg_has_the_pixels_that_pillow_sees_at_every_scale(mode: str, shrink: int) -> None:
    content = jpeg(smooth(101, 143, mode), quality=95)
    photograph = open_photograph(content, "test")
    assert (photograph.image, photograph.plain_format, photograph.dimensions) == (None, "jpeg", (143, 101))
    image = Image.open(io.BytesIO(content))
    image.draft(None, (143 // shrink, 101 // shrink))
    pixels = photograph.pixels(shrink)
    assert pixels.shape == np.asarray(image).shape and pixels.shape[:2] == (-(-101 // shrink), -(-143 // shrink))
    assert np.abs(pixels.astype(int) - np.asarray(image)).max() <= 3


@pytest.mark.parametrize("shrink", [1, 2])
def test_a_jpeg_that_is_stored_turned_is_seen_whatever_precedes_its_orientation(shrink: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = smooth(60, 100)
    content = jpeg(pixels, exif=exif, quality=95)
    comment = b"\xff\xfe\x00\x08filled"
    for stored_bytes in (content, content[:2] + comment + b"\xff\xff" + content[2:]):
        photograph = open_photograph(stored_bytes, "test")
        assert photograph.image is not None and photograph.plain_format is None and photograph.dimensions == (60, 100)
        expected = np.rot90(np.asarray(Image.fromarray(pixels).reduce(shrink)), -1)
        assert np.abs(photograph.pixels(shrink).astype(int) - expected).mean() < 2


def test_a_jpeg_with_stray_bytes_that_pillow_reads_is_read() -> None:
    content = jpeg(smooth(40, 40))
    photograph = open_photograph(content[:-2] + b"\0\1\2\3" + content[-2:], "test")
    assert np.array_equal(photograph.pixels(), np.asarray(Image.open(io.BytesIO(content))))


def test_a_picture_cut_short_is_one_line() -> None:
    photograph = open_photograph(jpeg(smooth(80, 80))[:-100], "here.jpg")
    with pytest.raises(UserError, match=r"here\.jpg: unreadable image: .*truncated"):
        photograph.pixels()


def claiming(width: int, height: int, kind: str) -> bytes:
    """A small image with these dimensions in its header."""
    if kind == "png":
        buffer = io.BytesIO()
        Image.new("L", (8, 8)).save(buffer, "PNG")
        content = buffer.getvalue()
        head = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
    whole = jpeg(smooth(8, 8))
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", height, width) + whole[at + 4 :]


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize(("width", "height"), [(8000, 8001), (9000, 12_000), (30_000, 20_000)])
def test_a_photograph_of_too_many_pixels_is_one_line(width: int, height: int, kind: str) -> None:
    with pytest.raises(UserError, match=r"^vast: .*more than 64 million px; make it smaller$"):
        open_photograph(claiming(width, height, kind), "vast")


def test_a_photograph_of_the_most_pixels_is_read() -> None:
    assert open_photograph(claiming(8000, 8000, "jpeg"), "large").dimensions == (8000, 8000)


def test_a_file_that_no_photograph_fills_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "film.png").open("wb") as sparse:
        sparse.truncate(MOST_BYTES + 1)
    with pytest.raises(UserError, match=r"film\.png: 268,435,457 bytes, more than 256 MiB; give a photograph"):
        read_photograph(tmp_path / "film.png")
