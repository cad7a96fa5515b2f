"""Writers of model files in past formats."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

COMMON: dict[str, Any] = {
    "labels": ["Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt"],
    "affect": False,
    "temperature": 1.5,
    "image_px": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "crop": {
        "image_px": 224,
        "margin": 0.0,
        "square": True,
        "align": False,
        "padding": "edge",
        "enlarge": False,
        "format": "jpeg",
        "quality": 95,
    },
    "data": "00",
    "training": {"epoch": 2, "epochs": 3, "score": 0.5, "validation/macro_f1": 0.5},
    "versions": {"torch": "x"},
}
"""Fields that no format has changed since 3; the crop policy as it was then."""


def write_format_3(path: Path, network: nn.Module, model: dict[str, Any]) -> None:
    """Of 25 to 29 November 2026. model: an entry of today; format 3 wrote these eight settings for every network."""
    eight = {
        "architecture": model["architecture"],
        "width": model.get("width", 1.0),
        "weights": "none",
        "head": model.get("head", "original"),
        "dropout": model["dropout"],
        "stochastic_depth": model.get("stochastic_depth", 0.0),
        "image_px": model["image_px"],
        "freeze_epochs": 0,
    }
    content = {**COMMON, "model": eight, "image_px": model["image_px"], "grey": False, "format": 3}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.state_dict().items())}
    path.write_bytes(save(weights, metadata={"affectnet": json.dumps(content, sort_keys=True)}))


WRITERS = {3: write_format_3}
"""Format → writer, from migrations.OLDEST to the one before the current."""
