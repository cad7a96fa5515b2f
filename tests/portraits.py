"""A drawn photograph, and a tiny model file that predicts it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from chain import TINY
from model_files import metadata
from PIL import Image

from affectnet.models.backbones.registry import ModelParams
from affectnet.models.checkpoint import save_model
from affectnet.models.network import build
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene

MODEL = Path("models/model.safetensors")


def write_model(**changes: Any) -> None:
    """Writes an untrained model for crops by params.yaml into the working folder. changes: fields of its metadata."""
    torch.manual_seed(3)
    described = metadata(**{"affect": True, **changes})
    save_model(MODEL, build(ModelParams.model_validate(TINY), described.outputs), described)


def drawn(side: int = 320) -> Image.Image:
    """A drawn face, which the cascade detects."""
    generator = np.random.default_rng(4)
    return draw_photograph(draw_actions("Happy", generator), generator, draw_scene(generator, side, side)).image
