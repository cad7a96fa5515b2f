"""The card of a tiny model, for tests to change."""

from typing import Any

from chain import ROOT, TINY

from affectnet.expressions import EXPRESSIONS
from affectnet.framing import CropPolicy
from affectnet.modelfile import FORMAT, Card
from affectnet.params import read_document


def card(**changes: Any) -> Card:
    """Of TINY as it is after its second epoch of three, with the shipped crop policy. changes: fields with another value."""
    section = read_document(ROOT / "params.yaml")["crop"]
    content: dict[str, Any] = {
        "model": TINY,
        "labels": EXPRESSIONS,
        "affect": False,
        "temperature": 1.5,
        "image_px": 32,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
        "grey": False,
        "crop": {name: section[name] for name in CropPolicy.model_fields},
        "data": "00",
        "training": {"epoch": 2, "epochs": 3, "score": 0.5, "validation/macro_f1": 0.5},
        "versions": {"torch": "x"},
        "format": FORMAT,
    }
    return Card(**{**content, **changes})
