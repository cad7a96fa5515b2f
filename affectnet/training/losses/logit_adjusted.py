"""Logit adjustment, and balanced softmax as its special case: both correct for the shares of the expressions in training."""

import torch
from pydantic import Field

from affectnet.training.losses.expression_loss import LOSSES, Classes, EpochStart, ExpressionLoss, LossParams


class LogitAdjustedParams(LossParams):
    tau: float = Field(ge=0)


class RobustParams(LossParams):
    """Of a loss for noisy labels. tau: of the logit adjustment under it; 0 is the paper's loss."""

    tau: float = Field(default=0.0, ge=0)


class AdjustedLoss(ExpressionLoss):
    """Plain on z + τ log π, π the shares that the sampler shows (Menon et al. 2021, eq. 10); equal shares, or τ = 0, are plain."""

    shift: torch.Tensor

    def __init__(self, params: LossParams, classes: Classes, tau: float) -> None:
        super().__init__(params, classes)
        self.tau = tau
        self.register_buffer("shift", self._shift(classes.plan_counts))

    def _shift(self, counts: torch.Tensor) -> torch.Tensor:
        return self.tau * torch.log(counts.float() / counts.sum())

    def start_epoch(self, start: EpochStart) -> None:
        self.shift.copy_(self._shift(start.shares))

    def smoothing_shares(self) -> torch.Tensor:
        """In proportion to π^τ. Spread equally, rare expressions would get many times their share, and be answered for other faces."""
        return torch.softmax(self.shift, 0)

    def adjusted(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits + self.shift


@LOSSES("logit_adjusted", LogitAdjustedParams)
class LogitAdjustedLoss(AdjustedLoss):
    """With a τ of one's own."""

    def __init__(self, params: LogitAdjustedParams, classes: Classes) -> None:
        super().__init__(params, classes, params.tau)


@LOSSES("balanced_softmax", LossParams)
class BalancedSoftmax(AdjustedLoss):
    """With τ = 1 (Ren et al. 2020): log n and log π differ by a constant, which softmax ignores."""

    def __init__(self, params: LossParams, classes: Classes) -> None:
        super().__init__(params, classes, 1.0)
