"""The optimisers and their schedules: what `optimizers.<name>` and `train.schedule` of params.yaml turn into."""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field

from affectnet.params import Section


class OptimizerParams(Section):
    """One entry of `optimizers`. `momentum` is SGD's, and the first beta of Adam and AdamW."""

    algorithm: Literal["adam", "adamw", "sgd"]
    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    nesterov: bool


class ScheduleParams(Section):
    """How the learning rate moves over the epochs."""

    shape: Literal["constant", "cosine", "step", "exponential"]
    warmup_epochs: float = Field(ge=0)
    step_epochs: int = Field(ge=1)
    gamma: float = Field(gt=0, le=1)


def build_optimizer(params: OptimizerParams, parameters: Iterable[torch.nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """The optimiser over the parameters, fused on a GPU.

    adam: weight decay as an L2 term in the gradient (Kingma & Ba 2015); adamw: decoupled (Loshchilov & Hutter 2019).
    """
    fused = device.type == "cuda"
    if params.algorithm == "sgd":
        nesterov = params.nesterov and params.momentum > 0
        return torch.optim.SGD(
            parameters, params.lr, momentum=params.momentum, weight_decay=params.weight_decay, nesterov=nesterov, fused=fused
        )
    algorithm = torch.optim.Adam if params.algorithm == "adam" else torch.optim.AdamW
    return algorithm(parameters, params.lr, betas=(params.momentum, 0.999), weight_decay=params.weight_decay, fused=fused)


def learning_rate_factor(params: ScheduleParams, epoch: float, epochs: int) -> float:
    """Factor on the learning rate after `epoch` (fractional) of `epochs`: linear warm-up, then the shape, from 1 towards 0."""
    if epoch < params.warmup_epochs:
        return max(epoch / params.warmup_epochs, 1e-3)
    if params.shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (epoch - params.warmup_epochs) / max(epochs - params.warmup_epochs, 1e-9)))
    if params.shape == "step":
        return params.gamma ** (int(epoch) // params.step_epochs)
    return params.gamma**epoch if params.shape == "exponential" else 1.0
