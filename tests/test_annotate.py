"""Annotated copies: labels that fit, thin frames, and colours that everybody can tell apart."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from affectnet.expressions import EXPRESSIONS
from affectnet.images.crop_policy import Box
from affectnet.predict.annotate import MOST_LINE_SHARE, annotated, annotated_answer
from affectnet.predict.colours import COLOURS, colour, ink, luminance
from affectnet.predict.paths import Shot
from affectnet.predict.predictor import Face
from affectnet.predict.writers import Answer

Pixels = NDArray[np.uint8]

DICHROMACY = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""What people with each kind of colour blindness see, on linear RGB (Machado, Oliveira & Fernandes 2009)."""

XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
WHITE = np.array([0.95047, 1, 1.08883])
DISTINCT = 15.0
"""Distance in CIELAB; of two neighbouring areas a difference of 2 is just noticeable."""


def face(box: Box, expression: str | None = "Surprise", affect: bool = True) -> Face:
    probabilities = {} if expression is None else {expression: 0.876}
    return Face(box, expression, probabilities, *((0.61, -0.52) if affect else (None, None)))


def drawn_on(photograph: Pixels, *faces: Face) -> Pixels:
    return annotated_answer(photograph, Answer(Shot("a.png", "a.png"), faces))


def rgb(expression: str | None) -> NDArray[np.int16]:
    code = colour(expression)
    return np.array([int(code[at : at + 2], 16) for at in (1, 3, 5)], np.int16)


def plain(width: int, height: int) -> Pixels:
    return np.full((height, width, 3), (90, 60, 40), np.uint8)


def of_colour(copy: Pixels, expression: str | None) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(copy.astype(np.int16) - rgb(expression)).max(2) < 12
    return near


def lab(expression: str, seen: str) -> NDArray[np.float64]:
    share = rgb(expression) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ np.clip(np.array(DICHROMACY[seen]) @ linear, 0, 1) / WHITE)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", DICHROMACY)
def test_colours_stay_distinct_with_each_kind_of_colour_blindness(seen: str) -> None:
    assert tuple(COLOURS) == EXPRESSIONS
    for one, other in combinations(EXPRESSIONS, 2):
        assert np.linalg.norm(lab(one, seen) - lab(other, seen)) > DISTINCT, (one, other)


@pytest.mark.parametrize("expression", [*EXPRESSIONS, None])
def test_letters_stand_out_from_their_background(expression: str | None) -> None:
    light, dark = sorted([luminance(colour(expression)), luminance(ink(colour(expression)))], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("side", [16, 24, 32, 48, 64, 100, 160, 240, 400])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_name_is_never_cut_off(expression: str, side: int) -> None:
    """Around the letters there is background on all sides, so none of them reaches the edge of the photograph."""
    for box in ((0, 0, side, side), (side * 0.7, side * 0.1, side * 0.95, side * 0.4), (0, side * 0.8, side * 0.2, side)):
        photograph = plain(side, side)
        copy = drawn_on(photograph, face(box, expression))
        assert copy.shape == photograph.shape
        letters = np.abs(copy.astype(np.int16) - (255 if ink(colour(expression)) == "#FFFFFF" else 0)).max(2) < 100
        background = of_colour(copy, expression)
        rows, columns = np.nonzero(letters & _surrounded(background))
        assert len(rows) and columns.min() > 0 and columns.max() < side - 1 and rows.min() > 0 and rows.max() < side - 1


def _surrounded(background: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Px with background somewhere to the left and to the right."""
    left = np.logical_or.accumulate(background, 1)
    right = np.logical_or.accumulate(background[:, ::-1], 1)[:, ::-1]
    return left & right


@pytest.mark.parametrize("side", [6, 12, 30, 60, 200])
def test_a_frame_is_at_most_a_share_of_the_face(side: int) -> None:
    copy = drawn_on(plain(2000, 1500), face((900, 700, 900 + side, 700 + side), "Anger"))
    middle = of_colour(copy, "Anger")[700 + side // 2, 890 : 900 + side // 2]
    assert 1 <= middle.sum() <= max(1, MOST_LINE_SHARE * side)
    assert np.array_equal(copy[700 + side // 2, 900 + side // 2], (90, 60, 40))


def test_a_label_covers_no_other_face_where_there_is_room() -> None:
    above, below = (100.0, 20.0, 200.0, 140.0), (100.0, 142.0, 200.0, 300.0)
    copy = drawn_on(plain(400, 340), face(below, "Happy"), face(above, "Sad"))
    assert not of_colour(copy, "Happy")[22:140, 104:196].any() and not of_colour(copy, "Sad")[145:298, 104:196].any()
    assert of_colour(copy, "Happy").sum() > 1000 and of_colour(copy, "Sad").sum() > 1000


def test_valence_and_arousal_stand_in_the_label_where_there_is_room() -> None:
    def width(*faces: Face) -> int:
        return int(of_colour(drawn_on(plain(800, 600), *faces), "Happy").any(0).sum())

    box = (300.0, 200.0, 500.0, 400.0)
    assert width(face(box, "Happy")) > 1.3 * width(face(box, "Happy", affect=False)) >= 200


def test_a_model_of_affect_only_and_names_of_the_caller_are_written_too() -> None:
    box = (100.0, 100.0, 300.0, 300.0)
    affect, number = drawn_on(plain(400, 400), face(box, None)), annotated(plain(400, 400), [face(box)], [["7"]])
    assert of_colour(affect, None)[60:100].sum() > of_colour(number, "Surprise")[60:100].sum() > 100


def test_a_grey_photograph_gets_colours() -> None:
    copy = drawn_on(np.full((200, 200), 80, np.uint8), face((50, 50, 150, 150), "Disgust"))
    assert copy.shape == (200, 200, 3) and of_colour(copy, "Disgust").any()
