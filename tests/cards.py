"""The card of a tiny model, for tests to change."""

from typing import Any

from chain import TINY

from affectnet.expressions import EXPRESSIONS
from affectnet.modelfile import FORMAT, Card


def card(**changes: Any) -> Card:
    """Of TINY as it is after its second epoch of three. changes: fields with another value."""
    content: dict[str, Any] = {
        "model": TINY,
        "labels": EXPRESSIONS,
        "affect": False,
        "temperature": 1.5,
        "image_px": 32,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
        "grey": False,
        "crop": {"image_px": 224},
        "data": "00",
        "training": {"epoch": 2, "epochs": 3, "score": 0.5, "validation/macro_f1": 0.5},
        "versions": {"torch": "x"},
        "format": FORMAT,
    }
    return Card(**{**content, **changes})
