"""What the demo says about a face in addition to its labels, as AffectNet+ does: soft label, subset, age, gender and pose.

Everything but the gender follows from what was drawn. The gender is drawn by itself and changes no pixel: scores by it should not differ.
"""

import numpy as np
from numpy.typing import NDArray

from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.sources.drawn import COLUMNS
from affectnet.synthetic.actions import MEAN_INTENSITY, PROTOTYPES, VARIANTS, Actions
from affectnet.synthetic.photograph import Photograph
from affectnet.tables.annotations import SUBSETS

SPREAD = 0.4
"""Distance of intensities at which two expressions are still taken for each other."""

EASY, CHALLENGING = 0.75, 0.6
"""Least share that the soft label gives the expression of the list in the first and in the second subset."""

YOUNGEST, OLDEST = 8.0, 85.0
"""Age in years of a face drawn with the fewest and with the deepest folds."""

HEADER = ",".join(("image", *COLUMNS))


def further_line(image: str, shot: Photograph, label: str, generator: np.random.Generator) -> str:
    """The line of the second list about a drawn face. image: its path in the first list; label: there."""
    shares = soft_label(shot.actions)
    age = YOUNGEST + (OLDEST - YOUNGEST) * shot.look.age
    woman = generator.uniform()
    angles = (shot.scene.yaw, shot.scene.pitch, shot.scene.roll)
    cells = [image, *(f"{share:.4f}" for share in shares)]
    return ",".join(
        [*cells, subset(shares, label), f"{age:.1f}", f"{woman:.4f}", f"{1 - woman:.4f}", *(f"{angle:.1f}" for angle in angles)]
    )


def soft_label(actions: Actions) -> NDArray[np.float64]:
    """(8,) shares: the nearer a face's action units are to an expression at the mean intensity, the larger its share.

    So a weak expression is partly Neutral, and two expressions that share units are partly each other.
    """
    distances = np.array([_distance(actions, name) for name in EXPRESSIONS])
    logits = -((distances / SPREAD) ** 2) / 2
    shares = np.exp(logits - logits.max())
    normalised: NDArray[np.float64] = shares / shares.sum()
    return normalised


def subset(shares: NDArray[np.float64], label: str) -> str:
    """By the share of the list's expression; a label that is no expression has none."""
    share = shares[CODES[label]] if label in CODES else 0.0
    return SUBSETS[0 if share >= EASY else 1 if share >= CHALLENGING else 2]


def _distance(actions: Actions, expression: str) -> float:
    """To the nearest variant of the expression, over all units, on the side of the face that fits better."""
    return min(
        float(np.linalg.norm([actions.units.get(unit, 0.0) - intensities.get(unit, 0.0) for unit in {*actions.units, *intensities}]))
        for intensities in _variants(expression)
    )


def _variants(expression: str) -> list[dict[str, float]]:
    variants = []
    for change in VARIANTS.get(expression, ({},)):
        units = {name: PROTOTYPES[expression].get(name, 0.0) + change.get(name, 0.0) for name in {**PROTOTYPES[expression], **change}}
        scaled = {name: MEAN_INTENSITY * value for name, value in units.items()}
        variants += [scaled, {_other_side(name): value for name, value in scaled.items()}]
    return variants


def _other_side(unit: str) -> str:
    return unit[:-1] + {"L": "R", "R": "L"}.get(unit[-1], unit[-1])
