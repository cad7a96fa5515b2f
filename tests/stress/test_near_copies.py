"""Measures which copies of a photograph the difference hash recognises with the shipped number of bits, for the table."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from chain import ROOT
from PIL import Image, ImageEnhance, ImageOps
from tally import Tally

from affectnet.cleaning.inspection import difference_hash
from affectnet.expressions import EXPRESSIONS
from affectnet.params import read_document
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene

BITS = read_document(ROOT / "params.yaml")["clean"]["near_duplicate_bits"]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, share: float) -> Image.Image:
    return image.resize((round(image.width * share), round(image.height * share)))


def cut(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(width * share), round(height * share), round(width * (1 - share)), round(height * (1 - share))))


COPIES: dict[str, tuple[Callable[[Image.Image], Image.Image], float, float]] = {
    "JPEG at quality 85": (lambda image: jpeg(image, 85), 0.95, 1),
    "JPEG at quality 40": (lambda image: jpeg(image, 40), 0.85, 1),
    "in grey": (lambda image: image.convert("L"), 1, 1),
    "a tenth smaller, JPEG at quality 75": (lambda image: jpeg(scaled(image, 0.9), 75), 0.9, 1),
    "half as large": (lambda image: scaled(image, 0.5), 0.9, 1),
    "twice as large": (lambda image: scaled(image, 2), 0.95, 1),
    "a tenth brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.1), 0.8, 1),
    "cut by 2 % on each side": (lambda image: cut(image, 0.02), 0.2, 0.8),
    "cut by 5 % on each side": (lambda image: cut(image, 0.05), 0, 0.1),
    "turned by 2°": (lambda image: image.rotate(2), 0, 0.3),
    "mirrored": (ImageOps.mirror, 0, 0.1),
    "another person": (lambda image: image, 0, 0.02),
}
"""How a copy is made, and the range of the share of such copies that is recognised."""


@pytest.mark.stress
def test_copies_that_are_seen_and_copies_that_are_not(tally: Tally) -> None:
    shots = []
    for number in range(120):
        generator = np.random.default_rng(number)
        scene = draw_scene(generator, 200, 400)
        shots.append(jpeg(draw_photograph(draw_actions(EXPRESSIONS[number % 8], generator), generator, scene).image, 92))
    hashes = [int.from_bytes(difference_hash(shot)) for shot in shots]
    for name, (copy, least, most) in COPIES.items():
        copies = [int.from_bytes(difference_hash(copy(shot))) for shot in shots]
        if name == "another person":
            copies = copies[1:] + copies[:1]
        seen = sum((a ^ b).bit_count() <= BITS for a, b in zip(hashes, copies, strict=True))
        assert least <= seen / len(shots) <= most, (name, seen)
        for outcome, count in (("seen", seen), ("not seen", len(shots) - seen)):
            if count:
                tally(f"copies of drawn photographs, 200 to 400 px: {name}", outcome, count)
