"""Class weights that are adapted during training, by the recalls on our validation split."""

from typing import Literal

import torch
from pydantic import Field

from affectnet.training.losses.expression_loss import LOSSES, Classes, ExpressionLoss, LossParams


class DynamicParams(LossParams):
    rate: float = Field(ge=0)
    start: Literal["equal", "weights"]
    most: float = Field(ge=1)

    @property
    def takes_class_weights(self) -> bool:
        return self.start == "weights"


@LOSSES("dynamic", DynamicParams)
class DynamicLoss(ExpressionLoss):
    """Cross-entropy with class weights that follow the recalls r on our validation split, once per epoch:

        w_c ← w_c · exp(rate · (mean r − r_c)), then scaled to mean 1

    so that an expression with a low recall counts more in the next epoch; one without a validation face has factor 1, and no part in
    the mean. The test split has no part in it. The weights
    average to 1, and none exceeds `most` or falls below 1 / `most`. They start at 1, or from the class weights of rebalance.
    """

    def __init__(self, params: DynamicParams, classes: Classes) -> None:
        super().__init__(params, classes, params.takes_class_weights)
        self.weight.copy_(self.weight / self.weight.mean())
        self.rate, self.most = params.rate, params.most

    def after_epoch(self, recall: torch.Tensor) -> None:
        self.multiply(torch.exp(self.rate * (recall.nanmean() - recall)).nan_to_num(1.0))

    def multiply(self, factors: torch.Tensor) -> None:
        """Multiplies the weights, keeps them within bounds and their mean at 1."""
        weight = self.weight * factors.to(self.weight.device)
        weight = (weight / weight.mean()).clamp(1 / self.most, self.most)
        self.weight.copy_(weight / weight.mean())
