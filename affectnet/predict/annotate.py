"""Photographs and frames with the faces framed and named."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from affectnet.images.crop_policy import Box
from affectnet.images.decode import Pixels
from affectnet.predict.colours import colour, ink
from affectnet.predict.predictor import Face
from affectnet.predict.writers import Answer, label

LINE_SHARE, LEAST_LINE_PX, MOST_LINE_SHARE = 1 / 250, 2, 1 / 24
"""Width of a frame: as a share of the photograph's shorter side, in px, and at most as a share of the face's shorter side."""

TEXT_SHARE, TEXT_OF_FACE = 1 / 28, 1 / 6
"""Size of the letters: as a share of the photograph's shorter side, at most as a share of the face's height."""

TEXT_PX, TEXT_OF_PHOTOGRAPH, LEAST_TEXT_PX = 13, 1 / 6, 8
"""Letters are readable from this size on; on small photographs from a share of its shorter side on, at least LEAST_TEXT_PX."""

WIDTH_OF_FACE = 1.8
"""Width of a label: as a share of the face's, unless none of its texts is as short."""

PADDING, LEADING = 0.3, 0.2
"""Between letters and the edge of their background, and between lines, as shares of the letters' size."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in px, right and bottom exclusive."""


def annotated_answer(pixels: Pixels, answer: Answer) -> Pixels:
    """As `annotated`. The label begins with the face's number in its film, or with `whole` where the whole photograph is answered."""
    if answer.instead is not None:
        return annotated(pixels, [answer.instead], [_texts(answer.instead, "whole: ")])
    numbers = [""] * len(answer.faces) if answer.tracks is None else [f"{number}: " for number in answer.tracks]
    return annotated(pixels, answer.faces, [_texts(face, number) for face, number in zip(answer.faces, numbers, strict=True)])


def annotated(pixels: Pixels, faces: Sequence[Face], texts: Sequence[Sequence[str]]) -> Pixels:
    """(h, w, 3) RGB uint8: the photograph with each face framed and labelled in the colour of its expression.

    texts: of each face, the longest first; the first that fits is written. It stands above or below the frame or inside it, where it
    covers the least of other faces and labels, and always within the photograph.
    """
    image = Image.fromarray(pixels).convert("RGB")
    brush = ImageDraw.Draw(image)
    frames = [_inside(face.box, image.size) for face in faces]
    for face, frame in reversed([*zip(faces, frames, strict=True)]):  # the largest is on top
        _frame(brush, frame, image.size, colour(face.expression, face.probabilities))
    taken = list[Rectangle]()
    for number, (face, frame) in enumerate(zip(faces, frames, strict=True)):
        others = [other for at, other in enumerate(frames) if at != number]
        taken.append(_write(brush, image.size, texts[number], frame, [*others, *taken], colour(face.expression, face.probabilities)))
    return np.asarray(image)


def _texts(face: Face, before: str) -> list[str]:
    """The label in one line and in two, and shorter ones. before: begins each."""
    name, *affect = label(face, "\n").split("\n")
    texts = [" ".join([name, *affect]), f"{name}\n{' '.join(affect)}"] if affect else [name]
    return [f"{before}{text}" for text in ([*texts, name, face.expression] if face.expression else texts)]


def _inside(box: Box, size: tuple[int, int]) -> Rectangle:
    """The box in whole px of the photograph, at least one wide and high."""
    width, height = size
    left, top = min(max(0, round(box[0])), width - 1), min(max(0, round(box[1])), height - 1)
    return left, top, min(max(left + 1, round(box[2])), width), min(max(top + 1, round(box[3])), height)


def _inclusive(rectangle: Rectangle) -> Rectangle:
    """As Pillow draws it: with the last px."""
    left, top, right, bottom = rectangle
    return left, top, right - 1, bottom - 1


def _frame(brush: ImageDraw.ImageDraw, frame: Rectangle, size: tuple[int, int], shade: str) -> None:
    """Draws the frame; a hairline of black or white around it lets it stand out from a photograph of its own colour."""
    left, top, right, bottom = _inclusive(frame)
    line = max(1, min(max(LEAST_LINE_PX, round(LINE_SHARE * min(size))), int(MOST_LINE_SHARE * min(right - left, bottom - top))))
    if line > 1:
        brush.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=ink(shade))
    brush.rectangle((left, top, right, bottom), outline=shade, width=line)


def _write(
    brush: ImageDraw.ImageDraw, size: tuple[int, int], texts: Sequence[str], frame: Rectangle, taken: Sequence[Rectangle], background: str
) -> Rectangle:
    """Writes the text that fits, where it covers the least of what is taken; returns the background's rectangle."""
    text, px = _fitting(texts, size, frame)
    extent = _extent(text, px)
    spot = min(
        _spots(frame, (min(extent[0], size[0]), min(extent[1], size[1])), size),
        key=lambda one: sum(_overlap(one, other) for other in taken),
    )
    brush.rectangle(_inclusive(spot), fill=background)
    left, top, right, bottom = spot
    brush.multiline_text(((left + right) / 2, (top + bottom) / 2), text, ink(background), _font(px), anchor="mm", spacing=LEADING * px)
    return spot


def _fitting(texts: Sequence[str], size: tuple[int, int], frame: Rectangle) -> tuple[str, int]:
    """A text and the size of its letters, px: the first of the texts that is readable and hardly wider than the frame, else the first

    that is readable within the photograph, else the last, as small as it has to be.
    """
    readable = round(min(TEXT_PX, max(LEAST_TEXT_PX, TEXT_OF_PHOTOGRAPH * min(size))))
    best = max(readable, round(min(TEXT_SHARE * min(size), TEXT_OF_FACE * (frame[3] - frame[1]))))
    for widest in (min(size[0], WIDTH_OF_FACE * (frame[2] - frame[0])), size[0]):
        for text in texts:
            for px in range(best, readable - 1, -1):
                width, height = _extent(text, px)
                if width <= widest and height <= size[1]:
                    return text, px
    fits = (px for px in range(readable, 1, -1) if _extent(texts[-1], px)[0] <= size[0])
    return texts[-1], next(fits, 1)


def _extent(text: str, px: int) -> tuple[int, int]:
    """Width and height of the text's background."""
    lines = text.split("\n")
    width = max(_font(px).getlength(line) for line in lines)
    return round(width + 2 * PADDING * px), round((len(lines) * (1 + LEADING) - LEADING + 2 * PADDING) * px)


@cache
def _font(px: int) -> Font:
    return ImageFont.load_default(px)


def _spots(frame: Rectangle, extent: tuple[int, int], size: tuple[int, int]) -> list[Rectangle]:
    """Where the label may stand, the best first: above the frame, below it, and in its corners at the top and at the bottom."""
    (left, top, right, bottom), (width, height) = frame, extent
    x = min(left, size[0] - width)
    end = max(0, right - width)
    corners = [(x, top - height), (x, bottom), (end, top - height), (end, bottom), (x, top), (x, bottom - height)]
    inside = [(x, y) for x, y in corners if 0 <= y <= size[1] - height] or [(x, min(max(0, top), size[1] - height))]
    return [(x, y, x + width, y + height) for x, y in inside]


def _overlap(one: Rectangle, other: Rectangle) -> int:
    """Px of their intersection."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)
