"""Label-distribution-aware margin loss, with deferred reweighting."""

import math

import torch
from pydantic import Field

from affectnet.training.losses.expression_loss import LOSSES, Classes, EpochStart, ExpressionLoss, LossParams


class LdamParams(LossParams):
    margin: float = Field(ge=0)
    reweight_from: float = Field(ge=0, le=1)

    @property
    def takes_class_weights(self) -> bool:
        return self.reweight_from < 1

    def first_weighted_epoch(self, epochs: int) -> int:
        return math.ceil(self.reweight_from * epochs)

    @property
    def takes_soft_targets(self) -> bool:
        """A margin is that of the one label."""
        return False


@LOSSES("ldam", LdamParams)
class LdamLoss(ExpressionLoss):
    """The target's logit less a margin ∝ n_c^(−1/4), largest for the rarest; deferred reweighting (Cao et al. 2019).

    n_c: faces that the sampler shows, of which the shares are enough. `margin` is the rarest expression's. The paper
    multiplies cosine logits by 30; here the logits are the network's own, so that the model file needs no other head. The
    class weights of rebalance hold from the share `reweight_from` of the epochs on; before, all are 1.
    """

    margins: torch.Tensor

    def __init__(self, params: LdamParams, classes: Classes) -> None:
        super().__init__(params, classes)
        self.margin, self.first_weighted_epoch = params.margin, params.first_weighted_epoch
        self.register_buffer("margins", self._margins(classes.plan_counts))
        self.register_buffer("deferred", classes.weights.float())

    def _margins(self, counts: torch.Tensor) -> torch.Tensor:
        quarter = counts.float() ** -0.25
        return self.margin * quarter / quarter.max()

    def adjusted(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits - targets * self.margins

    def start_epoch(self, start: EpochStart) -> None:
        self.margins.copy_(self._margins(start.shares))
        if start.epoch >= self.first_weighted_epoch(start.epochs):
            self.weight.copy_(self.get_buffer("deferred"))
