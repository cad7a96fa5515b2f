"""The losses: what `losses.<name>` of params.yaml turns into."""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from affectnet.params import Section

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class LossParams(Section):
    """One entry of `losses`."""

    function: Literal["plain", "weighted"]
    label_smoothing: float = Field(ge=0, lt=1)


def build_loss(params: LossParams, weights: torch.Tensor) -> Loss:
    """The loss of (n, k) logits and (n,) targets, a scalar; `weights` are the k class weights.

    `weighted`: mean of w_y · (−log p_y) over Σ w_y, so that the scale of the weights does not change the step (the
    weighted loss of Mollahosseini et al. 2017 with a diagonal infogain matrix). `plain` is the case of equal weights.
    """
    chosen = weights if params.function == "weighted" else None
    smoothing = params.label_smoothing

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, targets, weight=chosen, label_smoothing=smoothing)

    return loss
