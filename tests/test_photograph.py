import io

import numpy as np
import pytest
from PIL import Image

from affectnet.errors import UserError
from affectnet.photograph import open_photograph, shown_dimensions, upright

RNG = np.random.default_rng(0)


def stored(image: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return open_photograph(buffer.getvalue(), "test")


def test_each_exif_orientation_is_turned_upright_without_loss() -> None:
    pixels = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    # What a viewer does to the stored pixels, by the EXIF standard.
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
        assert shown_dimensions(image) == (expected.shape[1], expected.shape[0])
        assert np.array_equal(np.asarray(upright(image)), expected), orientation


def test_transparency_lies_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert np.asarray(upright(stored(image))).tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_sixteen_bits_become_eight_by_their_range() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    found = upright(stored(Image.fromarray(values)))
    assert found.mode == "L" and np.asarray(found).tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize(
    ("mode", "kind", "expected"), [("1", "PNG", "L"), ("L", "PNG", "L"), ("P", "PNG", "RGB"), ("CMYK", "TIFF", "RGB"), ("LA", "PNG", "RGB")]
)
def test_every_mode_ends_as_grey_or_rgb(mode: str, kind: str, expected: str) -> None:
    grey = Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8))
    assert upright(stored(grey.convert("RGB").convert(mode), kind)).mode == expected


def test_floating_point_pixels_have_no_range_and_are_refused() -> None:
    with pytest.raises(UserError, match="floating-point"):
        upright(stored(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xd8\xff"])
def test_bytes_that_are_no_image_are_one_line(content: bytes) -> None:
    with pytest.raises(UserError, match=r"here\.jpg: no readable image"):
        open_photograph(content, "here.jpg")
