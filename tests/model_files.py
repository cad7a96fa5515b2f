"""The metadata of a tiny model, for tests to change."""

from typing import Any

from chain import ROOT, TINY

from affectnet.expressions import EXPRESSIONS
from affectnet.images.crop_policy import CropPolicy
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.metadata import ModelMetadata
from affectnet.params import read_document


def metadata(**changes: Any) -> ModelMetadata:
    """The metadata of TINY after its second epoch of three, with the shipped crop policy.

    changes: fields with another value; `model` is an entry of `models`.
    """
    section, model = read_document(ROOT / "params.yaml")["crop"], changes.pop("model", TINY)
    content: dict[str, Any] = {
        "model": ModelParams.model_validate(model).network,
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
    }
    return ModelMetadata(**{**content, **changes})
