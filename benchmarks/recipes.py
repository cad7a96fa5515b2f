"""What decides the result of a benchmark's training, as one key: its params, the bytes of its files, torch and this project's code."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from affectnet.models.device import select_precision
from affectnet.running.provenance import named_weights
from affectnet.training.recipe import TrainerParams
from affectnet.training.resume import resume_key

UNDECISIVE = {"stop_after", "stored_precision"}
"""Params of a training that leave its epochs as they are."""


def recipe_key(params: TrainerParams, device: torch.device, files: Sequence[Path], others: Mapping[str, Any] | None = None) -> str:
    """The key, 16 hex digits. files: of the data; others: params of the benchmark."""
    start = named_weights(params.model.architecture, params.model.weights)
    models = [*params.teacher, *[start.name] * (start.source == "file")]
    resolved = {"device": device.type, "precision": select_precision(params.precision, device), "start": asdict(start)}
    decisive = {**params.model_dump(exclude=UNDECISIVE), **resolved, "others": dict(others or {})}
    return resume_key(decisive, [*files, *map(Path, models)])[:16]
