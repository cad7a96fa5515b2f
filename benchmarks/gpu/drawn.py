"""Faces that need no data set, and the parts of a training on them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from affectnet.models.dataset import FaceDataset
from affectnet.params import parse, read_document
from affectnet.training.distributed import Group
from affectnet.training.losses.expression_loss import Classes
from affectnet.training.trainer import Trainer
from stages.train import TrainParams

CLASSES = 8
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


def repeated(faces: FaceDataset, count: int) -> FaceDataset:
    """So many faces, repeated where there are fewer."""
    rows = torch.arange(count) % len(faces)
    return FaceDataset(faces.images[rows], faces.expression[rows], faces.valence[rows], faces.arousal[rows])


def write_jpegs(folder: Path, faces: FaceDataset, count: int) -> Path:
    """`count` files of the faces, one folder a class, as torchvision's ImageFolder reads them. The bytes of equal faces are one file."""
    for number, (image, label) in enumerate(zip(faces.images.numpy(), faces.expression.tolist(), strict=True)):
        path = folder / str(label) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=95)
        for copy in range(number + len(faces), count, len(faces)):
            path.with_name(f"{copy}.jpg").hardlink_to(path)
    return folder


def trainer_of(params: TrainParams, group: Group, faces: FaceDataset, validation: FaceDataset | None = None) -> Trainer:
    """A trainer that shows each face once an epoch."""
    counts = torch.bincount(faces.expression, minlength=CLASSES)
    classes = Classes(torch.arange(CLASSES), torch.ones(CLASSES), counts)
    return Trainer(params, group, classes, np.arange(len(faces)), faces, faces if validation is None else validation)
