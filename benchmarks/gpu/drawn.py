"""Faces that need no data set, and the parts of a training on them."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from affectnet.models.dataset import FaceDataset
from affectnet.params import parse, read_document
from affectnet.training.distributed import Group
from affectnet.training.losses.expression_loss import Classes
from affectnet.training.trainer import Trainer
from benchmarks.training import CLASSES
from stages.train import TrainParams

SEED = 3

FROM_DRAWN_WEIGHTS = {"weights": "none", "freeze_epochs": 0, "lr_factor": 1.0, "dropout": 0.0}
"""Of every entry of `models` here. No dropout, whose draws differ between the processor and a GPU."""


def training_params(model: str, optimizer: str = "sgd", *, train: Mapping[str, Any], **entry: Any) -> TrainParams:
    """The params of params.yaml for this entry of `models` with the loss `plain`; `entry` changes the entry, `train` the section."""
    document = read_document()
    document |= {"model": model, "optimizer": optimizer, "loss": "plain", "task": "expression"}
    document["models"][model] |= {**FROM_DRAWN_WEIGHTS, **entry}
    document["train"] |= {"epochs": 8, **train}
    return parse(document, "train", TrainParams)


def draw_faces(count: int, px: int, seed: int = SEED) -> FaceDataset:
    """Smooth random patterns, one per expression, under noise: (count, px, px, 3) uint8 that a network learns in a few epochs."""
    generator = np.random.default_rng(seed)
    coarse = np.random.default_rng(SEED).integers(60, 196, (CLASSES, 6, 6, 3), dtype=np.uint8)
    patterns = np.stack([np.asarray(Image.fromarray(pattern).resize((px, px), Image.Resampling.BICUBIC)) for pattern in coarse])
    labels = np.arange(count) % CLASSES
    images = np.empty((count, px, px, 3), np.uint8)
    for row, label in enumerate(labels):
        noise = generator.integers(0, 50, (px, px, 3), dtype=np.uint8)
        images[row] = patterns[label] // 2 + noise + generator.integers(0, 60, dtype=np.uint8)
    missing = torch.full((count,), torch.nan)
    return FaceDataset(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), missing, missing)


def jpegs(faces: FaceDataset) -> list[bytes]:
    """Each face as a JPEG file."""
    contents = []
    for image in faces.images.numpy():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=95)
        contents.append(buffer.getvalue())
    return contents


def trainer_of(params: TrainParams, group: Group, faces: FaceDataset, validation: FaceDataset | None = None) -> Trainer:
    """A trainer that shows each face once an epoch."""
    counts = torch.bincount(faces.expression, minlength=CLASSES)
    classes = Classes(torch.arange(CLASSES), torch.ones(CLASSES), counts)
    return Trainer(params, group, classes, np.arange(len(faces)), faces, faces if validation is None else validation)
