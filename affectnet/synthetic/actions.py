"""Expressions as facial action units (Ekman & Friesen 1978), with valence and arousal that follow them."""

from dataclasses import dataclass

import numpy as np

from affectnet.expressions import CLASS_MEANS, CODES, EXPRESSIONS

PROTOTYPES: dict[str, dict[str, float]] = {
    "Neutral": {},
    "Happy": {"AU6": 0.9, "AU12L": 1.0, "AU12R": 1.0, "AU25": 0.6},
    "Sad": {"AU1": 1.0, "AU4": 0.45, "AU15": 1.0, "AU17": 0.5, "AU43": 0.35},
    "Surprise": {"AU1": 1.0, "AU2": 1.0, "AU5": 1.0, "AU27": 0.9},
    "Fear": {"AU1": 0.9, "AU2": 0.5, "AU4": 0.6, "AU5": 1.0, "AU20": 1.0, "AU25": 1.0, "AU26": 0.35},
    "Disgust": {"AU4": 0.5, "AU7": 0.7, "AU9": 1.0, "AU10": 1.0, "AU17": 0.4, "AU15": 0.3},
    "Anger": {"AU4": 1.0, "AU5": 0.5, "AU7": 0.4, "AU23": 0.9, "AU24": 0.6},
    "Contempt": {"AU12L": 0.85, "AU14L": 1.0, "AU2L": 0.6, "AU43": 0.2},
}
"""Units at full intensity, after the prototypes of EMFACS (Friesen & Ekman 1983). L and R are sides of the photograph; only contempt
is one-sided, and its side is drawn at random."""

VARIANTS: dict[str, tuple[dict[str, float], ...]] = {
    "Happy": ({}, {"AU25": -0.6}, {"AU26": 0.6}),
    "Sad": ({}, {"AU25": 0.3}),
    "Surprise": ({}, {"AU27": -0.4, "AU26": 0.5}),
    "Fear": ({}, {"AU26": 0.35}),
    "Disgust": ({}, {"AU25": 0.6, "AU17": -0.4}),
    "Anger": ({}, {"AU23": -0.9, "AU24": -0.6, "AU10": 0.5, "AU25": 0.9, "AU20": 0.4}),
    "Contempt": ({}, {"AU2L": -0.6}),
}
"""Ways in which people show the same expression: one of them, drawn per face, is added to the prototype."""

WEAKEST, MEAN_INTENSITY = 0.25, 0.66


@dataclass(frozen=True)
class Actions:
    """An expression as shown: its name, its intensity (0–1) and the intensity of each action unit (0–1)."""

    expression: str
    intensity: float
    units: dict[str, float]

    def __getitem__(self, unit: str) -> float:
        """Intensity of a unit; for one side of a unit, as `AU12L`, plus that of the unit without a side."""
        intensity = self.units.get(unit, 0.0)
        return intensity + self.units.get(unit[:-1], 0.0) if unit[-1] in "LR" else intensity


def draw_actions(expression: str, generator: np.random.Generator, intensity: float | None = None) -> Actions:
    """The expression as one person shows it: a variant of its prototype at a random intensity, with noise on each unit."""
    if intensity is None:
        intensity = float(WEAKEST + (1 - WEAKEST) * generator.beta(2.0, 1.7))
    variants = VARIANTS.get(expression, ({},))
    variant = variants[generator.integers(len(variants))]
    units = {name: PROTOTYPES[expression].get(name, 0.0) + variant.get(name, 0.0) for name in {**PROTOTYPES[expression], **variant}}
    units = {name: float(np.clip(value * intensity * generator.uniform(0.65, 1.25), 0, 1)) for name, value in sorted(units.items())}
    for name in ("AU1", "AU2", "AU4", "AU15", "AU25", "AU43", "AU12L", "AU12R"):
        units[name] = min(1.0, units.get(name, 0.0) + float(generator.exponential(0.05)))
    if expression == "Contempt" and generator.random() < 0.5:
        units = {f"{name[:-1]}R" if name in {"AU12L", "AU14L", "AU2L"} else name: value for name, value in units.items() if name != "AU12R"}
    return Actions(expression, intensity, units)


def valence_arousal(actions: Actions, generator: np.random.Generator) -> tuple[float, float]:
    """Valence and arousal in the unit disc: the expression's mean, scaled by its intensity, with an annotator's noise (σ 0.07)."""
    if actions.expression not in EXPRESSIONS:
        raise ValueError(actions.expression)
    mean = np.array(CLASS_MEANS[CODES[actions.expression]])
    strength = 1.0 if actions.expression == "Neutral" else 1 + 0.45 * (actions.intensity - MEAN_INTENSITY) / MEAN_INTENSITY
    point = mean * strength + generator.normal(0, 0.07, 2)
    point /= max(1.0, float(np.hypot(*point)))
    return float(point[0]), float(point[1])
