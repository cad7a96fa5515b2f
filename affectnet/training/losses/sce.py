"""Symmetric cross-entropy: cross-entropy, and the same with prediction and label exchanged."""

import torch
from pydantic import Field

from affectnet.training.losses.expression_loss import LOSSES, Classes
from affectnet.training.losses.logit_adjusted import AdjustedLoss, RobustParams


class SceParams(RobustParams):
    alpha: float = Field(ge=0)
    beta: float = Field(ge=0)
    log_zero: float = Field(le=0)

    @property
    def needs_balance(self) -> bool:
        return True


@LOSSES("sce", SceParams)
class SymmetricCrossEntropy(AdjustedLoss):
    """α · cross-entropy + β · reverse cross-entropy (Wang et al. 2019, eq. 6 and 7).

    The reverse −Σ_c p_c log t_c, with log 0 = A, is −A (1 − p) for one label: bounded, as the mean absolute error. Soft targets take
    the mean over the labels that they stand for.
    """

    def __init__(self, params: SceParams, classes: Classes) -> None:
        super().__init__(params, classes, params.tau)
        self.alpha, self.beta, self.log_zero = params.alpha, params.beta, params.log_zero

    def costs(self, log_p: torch.Tensor) -> torch.Tensor:
        reverse = self.log_zero * torch.expm1(log_p)
        return self.beta * reverse - self.alpha * log_p
