"""Focal loss: faces that are already right count less."""

import torch
from pydantic import Field

from affectnet.training.losses.expression_loss import LOSSES, Classes, ExpressionLoss, LossParams


class FocalParams(LossParams):
    gamma: float = Field(ge=0)
    weighted: bool

    @property
    def takes_class_weights(self) -> bool:
        return self.weighted


@LOSSES("focal", FocalParams)
class FocalLoss(ExpressionLoss):
    """Each log loss times (1 − p)^γ (Lin et al. 2017). γ = 0 is plain."""

    def __init__(self, params: FocalParams, classes: Classes) -> None:
        super().__init__(params, classes, params.weighted)
        self.gamma = params.gamma

    def costs(self, log_p: torch.Tensor) -> torch.Tensor:
        return -log_p * (1 - log_p.exp()).clamp_min(1e-6) ** self.gamma
