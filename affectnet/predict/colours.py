"""A fixed colour per expression, for annotated copies and timelines."""

import itertools
from collections.abc import Iterable

from affectnet.expressions import EXPRESSIONS

COLOURS = dict(zip(EXPRESSIONS, ("#CCCCCC", "#F0E442", "#0072B2", "#56B4E9", "#CC79A7", "#009E73", "#D55E00", "#E69F00"), strict=True))
"""The palette of Okabe & Ito (2008), light grey in place of its black. With each kind of colour blindness, all pairs stay distinct."""

UNNAMED = "#56B4E9"
"""For faces of a model without expressions."""

LINEAR_BELOW = 0.04045
WEIGHTS = (0.2126, 0.7152, 0.0722)


def colours_of(labels: Iterable[str]) -> dict[str, str]:
    """`#rrggbb` per label: its fixed colour, and for labels that are not AffectNet's those that none of these labels has, in their order.

    After the last of them the whole palette follows, again and again.
    """
    names = list(dict.fromkeys(labels))
    free = [colour for label, colour in COLOURS.items() if label not in names]
    others = itertools.chain(free, itertools.cycle(COLOURS.values()))
    return {name: COLOURS[name] if name in COLOURS else next(others) for name in names}


def colour(expression: str | None, labels: Iterable[str] = ()) -> str:
    """`#rrggbb` of an expression among the model's labels, and of a face without one."""
    return UNNAMED if expression is None else colours_of([*labels, expression])[expression]


def ink(background: str) -> str:
    """Black or white, whichever is easier to read on the background, `#rrggbb`: the larger contrast by WCAG 2, at least 4.5."""
    light = luminance(background)
    return "#000000" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "#FFFFFF"


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, 0 … 1 (WCAG 2)."""
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (share / 12.92 if share <= LINEAR_BELOW else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return sum(weight * share for weight, share in zip(WEIGHTS, linear, strict=True))
