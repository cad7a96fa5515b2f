import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from affectnet.expressions import EXPRESSIONS
from affectnet.images.crop import crop_face
from affectnet.images.crop_policy import Box, CropPolicy, face_region, target_dimensions
from affectnet.images.decode import EXIF_ORIENTATION
from affectnet.params import parse, read_document

SHIPPED: dict[str, Any] = {
    "image_px": 64, "margin": 0.0, "square": True, "align": False, "padding": "edge", "enlarge": False, "format": "png", "quality": 95
}  # fmt: skip


def policy(**changes: Any) -> CropPolicy:
    return CropPolicy.model_validate({**SHIPPED, **changes})


def photograph(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(width: int = 200, height: int = 160) -> np.ndarray:
    """Red is x, green is y, so that a crop shows where it comes from."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_box_of_the_wanted_size_is_cut_pixel_for_pixel() -> None:
    crop = crop_face(photograph(ramp()), (30, 20, 94, 84), None, policy(), "x")
    assert np.array_equal(pixels(crop.content), ramp()[20:84, 30:94]) and (crop.width, crop.height) == (64, 64)


def test_the_margin_is_added_in_sides_of_the_box() -> None:
    region = face_region((400, 400), (100, 120, 200, 200), None, policy(margin=0.1, square=False))
    assert region.box == pytest.approx((90, 112, 210, 208))
    assert face_region((400, 400), (100, 120, 200, 200), None, policy()).box == pytest.approx((100, 110, 200, 210))


def test_a_small_face_keeps_its_pixels_unless_it_is_to_be_enlarged() -> None:
    region = face_region((200, 160), (10, 10, 40, 40), None, policy())
    assert target_dimensions(region, policy()) == (30, 30)
    assert target_dimensions(region, policy(enlarge=True)) == (64, 64)


@pytest.mark.parametrize(("padding", "outside"), [("edge", (0, 12, 0)), ("black", (0, 0, 0)), ("mean", (100, 80, 0))])
def test_what_lies_outside_is_filled_as_the_policy_says(padding: str, outside: tuple[int, int, int]) -> None:
    crop = crop_face(photograph(ramp()), (0, 0, 40, 80), None, policy(padding=padding, image_px=80), "x")
    assert pixels(crop.content).shape == (80, 80, 3)
    assert pixels(crop.content)[12, 5].tolist() == list(outside)
    assert pixels(crop.content)[12, 25].tolist() == [5, 12, 0]


def test_shrink_cuts_off_what_lies_outside() -> None:
    crop = crop_face(photograph(ramp()), (0, 0, 40, 80), None, policy(padding="shrink", image_px=80), "x")
    assert (crop.width, crop.height) == (60, 80) and np.array_equal(pixels(crop.content), ramp()[:80, :60])


def test_boxes_are_in_the_frame_that_a_viewer_shows() -> None:
    stored, exif = np.rot90(ramp(), 1), Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    crop = crop_face(photograph(np.ascontiguousarray(stored), exif=exif), (30, 20, 94, 84), None, policy(), "x")
    assert np.array_equal(pixels(crop.content), ramp()[20:84, 30:94])


def test_a_photograph_that_is_its_own_crop_passes_byte_for_byte() -> None:
    content = photograph(ramp(64, 64), "JPEG", quality=61)
    assert crop_face(content, None, None, policy(format="jpeg"), "x").content == content
    assert crop_face(content, (0, 0, 64, 64), None, policy(format="jpeg"), "x").passed_through
    for other in (policy(), policy(format="jpeg", image_px=32)):
        assert not crop_face(content, None, None, other, "x").passed_through


def test_a_photograph_with_a_transparent_colour_is_no_crop_as_it_is() -> None:
    face = ramp(64, 64)
    assert crop_face(photograph(face), None, None, policy(), "x").passed_through
    crop = crop_face(photograph(face, transparency=tuple(map(int, face[5, 7]))), None, None, policy(), "x")
    clear = (face == face[5, 7]).all(2)
    assert not crop.passed_through and (pixels(crop.content)[clear] == 255).all()
    assert np.array_equal(pixels(crop.content)[~clear], face[~clear])


def test_a_large_jpeg_is_decoded_small_and_still_cut_at_the_right_place() -> None:
    large = np.asarray(Image.fromarray(ramp(200, 160)).resize((3200, 2560), Image.Resampling.BILINEAR))
    crop = crop_face(photograph(large, "JPEG", quality=95), (480, 320, 1504, 1344), None, policy(), "x")
    expected = Image.fromarray(ramp()).crop((30, 20, 94, 84))
    assert np.abs(pixels(crop.content).astype(int) - np.asarray(expected)).max() <= 4


@pytest.mark.parametrize("sides", [(1000, 900), (2103, 1999)])
@pytest.mark.parametrize("padding", ["edge", "shrink"])
def test_landmarks_stay_on_the_face_when_a_jpeg_is_decoded_small_and_the_box_is_odd(sides: tuple[int, int], padding: str) -> None:
    width, height = sides
    at = np.array([0.4 * width + 3, 0.5 * height + 1])
    image = Image.new("L", sides)
    ImageDraw.Draw(image).ellipse([*(at - 20.5), *(at + 19.5)], fill=255)
    points = np.tile(at, (68, 1)).astype(np.float32)
    content = photograph(np.asarray(image.convert("RGB")), "JPEG", quality=95)
    box = (0.1 * width + 1.3, -7.0, 0.9 * width - 4.6, 0.8 * height + 0.7)
    crop = crop_face(content, box, points, policy(image_px=128, padding=padding), "x")
    light = pixels(crop.content)[:, :, 0].astype(float)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]] + 0.5
    assert crop.landmarks is not None
    centroid = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
    assert np.abs(centroid - crop.landmarks[0]).max() < 0.1


def marked(points: np.ndarray, turn: float) -> tuple[bytes, np.ndarray]:
    """A photograph with a white dot at each point, rotated about its centre, and the rotated points."""
    centre = np.array([150.0, 150.0])
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    turned = (points - centre) @ rotation + centre
    image = Image.new("L", (300, 300))
    for x, y in turned[[36, 45, 48, 54]]:
        ImageDraw.Draw(image).ellipse([x - 3.5, y - 3.5, x + 2.5, y + 2.5], fill=255)
    return photograph(np.asarray(image)), turned.astype(np.float32)


FACE = np.full((68, 2), 150.0)
FACE[36:42], FACE[42:48], FACE[48:54], FACE[54:] = (120, 130), (180, 130), (135, 190), (165, 190)


@pytest.mark.parametrize("turn", [0.0, 0.3, -0.5, 3.0])
@pytest.mark.parametrize("scale", [1, 2])
def test_alignment_levels_the_eyes_and_landmarks_stay_on_the_face(turn: float, scale: int) -> None:
    content, points = marked(FACE, turn)
    crop = crop_face(content, (0, 0, 10, 10), points, policy(align=True, image_px=150 * scale, enlarge=True), "x")
    assert crop.aligned and crop.landmarks is not None
    assert crop.landmarks[36, 1] == pytest.approx(crop.landmarks[45, 1], abs=0.01)
    assert crop.landmarks[45, 0] > crop.landmarks[36, 0] and crop.landmarks[48, 1] > crop.landmarks[36, 1]
    for x, y in crop.landmarks[[36, 45, 48, 54]]:
        near = pixels(crop.content)[round(float(y)) - 3 : round(float(y)) + 3, round(float(x)) - 3 : round(float(x)) + 3]
        assert near.mean() > 120


def test_without_landmarks_alignment_falls_back_to_the_box() -> None:
    crop = crop_face(photograph(ramp()), (30, 20, 94, 84), None, policy(align=True), "x")
    assert not crop.aligned and np.array_equal(pixels(crop.content), ramp()[20:84, 30:94])


BOXES = st.tuples(*[st.floats(-100, 300)] * 2, *[st.floats(2, 300)] * 2).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@settings(max_examples=150)
@given(
    box=BOXES.filter(lambda b: b[2] >= 1 and b[3] >= 1 and b[0] <= 199 and b[1] <= 159),
    margin=st.floats(-0.3, 1),
    square=st.booleans(),
    padding=st.sampled_from(["edge", "black", "mean", "shrink"]),
    enlarge=st.booleans(),
)
def test_any_box_that_touches_the_photograph_gives_a_face(box: Box, margin: float, square: bool, padding: str, enlarge: bool) -> None:
    changed = policy(margin=margin, square=square, padding=padding, enlarge=enlarge)
    crop = crop_face(photograph(ramp()), box, None, changed, "x")
    assert pixels(crop.content).shape[:2] == (crop.height, crop.width) and 1 <= max(crop.width, crop.height) <= 64
    if square and padding != "shrink":
        assert crop.width == crop.height


def test_the_shipped_policy_is_a_policy() -> None:
    section = dict(read_document()["crop"])
    assert section.pop("rows_per_shard") > 0 and len(EXPRESSIONS) == 8
    assert parse({"crop": section}, "crop", CropPolicy).image_px == 224


def test_landmarks_far_from_the_photograph_align_nothing() -> None:
    near = np.tile(np.array([[40, 40]], np.float32), (68, 1))
    near[42:48], near[48:] = (80, 50), (60, 90)
    expected = crop_face(photograph(ramp()), (30, 20, 94, 84), None, policy(align=True), "x")
    assert crop_face(photograph(ramp()), (30, 20, 94, 84), near, policy(align=True), "x").aligned
    for far in (1e29, -1e29, 5000.0):
        crop = crop_face(photograph(ramp()), (30, 20, 94, 84), np.where(near > 80, np.float32(far), near), policy(align=True), "x")
        assert not crop.aligned and crop.content == expected.content


@pytest.mark.parametrize(("x", "y"), [(0, 0), (60, 50), (-90, -90)])
def test_landmarks_that_are_one_point_align_nothing(x: float, y: float) -> None:
    expected = crop_face(photograph(ramp()), (30, 20, 94, 84), None, policy(align=True), "x")
    crop = crop_face(photograph(ramp()), (30, 20, 94, 84), np.full((68, 2), (x, y), np.float32), policy(align=True), "x")
    assert not crop.aligned and crop.content == expected.content


@pytest.mark.parametrize("padding", ["edge", "mean"])
def test_a_strip_becomes_a_square_without_the_memory_of_one(padding: str) -> None:
    """60,000 px squared are 3.6 GB; the strip is shrunk first, and keeps its colour."""
    crop = crop_face(photograph(np.full((200, 60_000), 77, np.uint8)), None, None, policy(padding=padding), "x")
    assert (crop.width, crop.height) == (64, 64) and set(pixels(crop.content).ravel().tolist()) == {77}


def test_a_strip_that_is_thinned_keeps_its_places() -> None:
    strip = np.repeat(np.arange(200, dtype=np.uint8)[None], 40, axis=0).repeat(300, axis=1)
    crop = pixels(crop_face(photograph(strip), None, None, policy(square=False), "x").content)
    assert crop.shape == (1, 64) and np.abs(crop[0].astype(float) - (np.arange(64) * 200 / 64 + 1)).max() < 2
