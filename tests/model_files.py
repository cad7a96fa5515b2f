"""A tiny model and its metadata, for tests to change."""

from pathlib import Path
from typing import Any

import torch
from chain import ROOT, TINY

from affectnet.expressions import EXPRESSIONS
from affectnet.images.crop_policy import CropPolicy
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.checkpoint import save_model
from affectnet.models.metadata import ModelMetadata
from affectnet.models.network import build
from affectnet.params import read_document
from affectnet.tables.face_shards import read_policy


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


def write_model(labels: tuple[str, ...] = EXPRESSIONS, seed: int = 0, **changes: Any) -> None:
    """Writes models/model.safetensors for the crops in data/faces, and its learning curve, as `train` would."""
    torch.manual_seed(seed)
    described = metadata(**{"labels": labels, "temperature": 2.0, "crop": read_policy(Path("data/faces"), "test"), **changes})
    save_model(Path("models/model.safetensors"), build(ModelParams.model_validate(TINY), described.outputs), described)
    curve = Path("metrics/train/plots/metrics/train/loss.tsv")
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.write_text("step\ttrain/loss\n0\t2.0\n1\t1.5\n")
