"""The appearance of a person without the geometry of the face: colours, hair, glasses, beard, clothes."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

SKINS: tuple[Colour, ...] = (
    (255, 224, 200),
    (245, 208, 178),
    (233, 186, 150),
    (214, 160, 120),
    (188, 130, 92),
    (152, 100, 68),
    (118, 76, 52),
    (86, 56, 40),
)
HAIRS: tuple[Colour, ...] = (
    (28, 24, 24),
    (58, 40, 30),
    (96, 62, 38),
    (142, 92, 50),
    (206, 168, 104),
    (168, 70, 40),
    (150, 148, 146),
    (222, 220, 216),
)
EYES: tuple[Colour, ...] = ((70, 46, 30), (96, 64, 36), (90, 110, 60), (70, 110, 150), (110, 120, 130))
CLOTHES: tuple[Colour, ...] = (
    (52, 74, 110),
    (150, 60, 60),
    (70, 110, 80),
    (210, 180, 90),
    (90, 80, 120),
    (60, 60, 66),
    (225, 225, 220),
    (200, 120, 90),
)
HAIR_STYLES = ("short", "parted", "long", "bob", "curly", "afro", "bun", "fringe", "buzz", "bald", "scarf", "cap")


@dataclass(frozen=True)
class Look:
    """Colours are RGB; `beard`: 0 (none) to 1 (full); `age`: 0 to 1, deepens folds; `glasses`: the shape of the frame or ''."""

    skin: Colour
    hair: Colour
    eye: Colour
    clothes: Colour
    cover: Colour
    style: str
    volume: float
    beard: float
    moustache: bool
    glasses: str
    age: float
    freckles: int
    lipstick: float
    part: float


def draw_look(generator: np.random.Generator) -> Look:
    def one(colours: tuple[Colour, ...]) -> Colour:
        return colours[generator.integers(len(colours))]

    skin = int(generator.integers(len(SKINS)))
    dark = skin >= 5
    hair = HAIRS[generator.integers(0, 3 if dark else len(HAIRS))]
    style = str(
        generator.choice(
            HAIR_STYLES, p=[0.13, 0.13, 0.14, 0.10, 0.09, 0.08 if dark else 0.02, 0.07, 0.09, 0.07, 0.05, 0.05, 0.0 if dark else 0.06]
        )
    )
    bearded = style in {"short", "parted", "curly", "afro", "buzz", "bald", "cap"} and generator.random() < 0.35
    return Look(
        skin=SKINS[skin],
        hair=hair,
        eye=EYES[generator.integers(0, 2 if dark else len(EYES))],
        clothes=one(CLOTHES),
        cover=one(CLOTHES),
        style=style,
        volume=float(generator.uniform(0.8, 1.3)),
        beard=float(generator.uniform(0.35, 1.0)) if bearded else 0.0,
        moustache=bool(bearded and generator.random() < 0.7),
        glasses=str(generator.choice(["", "round", "square"], p=[0.8, 0.1, 0.1])),
        age=float(generator.beta(1.5, 2.5)),
        freckles=int(generator.integers(8, 30)) if skin < 3 and generator.random() < 0.2 else 0,
        lipstick=float(generator.uniform(0.3, 0.9)) if not bearded and generator.random() < 0.3 else 0.0,
        part=float(generator.uniform(-0.5, 0.5)),
    )


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour at `share` of the way from the first to the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]
