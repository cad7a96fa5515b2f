"""Generalised cross-entropy: bounded, so that a wrong label pulls less."""

import torch
from pydantic import Field

from affectnet.training.losses.expression_loss import LOSSES, Classes
from affectnet.training.losses.logit_adjusted import AdjustedLoss, RobustParams


class GceParams(RobustParams):
    q: float = Field(gt=0, le=1)

    @property
    def needs_balance(self) -> bool:
        return True


@LOSSES("gce", GceParams)
class GeneralisedCrossEntropy(AdjustedLoss):
    """(1 − p^q) / q (Zhang & Sabuncu 2018, eq. 6): cross-entropy as q → 0, the mean absolute error at q = 1.

    Its gradient is that of cross-entropy times p^q, so a label that the network finds improbable counts little. Without the
    truncation of section 3.3, which prunes faces after some epochs.
    """

    def __init__(self, params: GceParams, classes: Classes) -> None:
        super().__init__(params, classes, params.tau)
        self.q = params.q

    def costs(self, log_p: torch.Tensor) -> torch.Tensor:
        return -torch.expm1(self.q * log_p) / self.q
