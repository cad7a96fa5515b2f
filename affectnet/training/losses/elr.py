"""Early-learning regularisation: a network is kept at what it answered before it memorised the labels."""

import torch
from pydantic import Field

from affectnet.training.losses.expression_loss import LOSSES, Classes, TrainingView
from affectnet.training.losses.logit_adjusted import AdjustedLoss, RobustParams
from affectnet.training.targets import Targets

LEAST = 1e-4
"""The probabilities of the penalty are kept within LEAST and 1 − LEAST, as in the authors' code."""


class ElrParams(RobustParams):
    momentum: float = Field(ge=0, lt=1)
    strength: float = Field(ge=0)

    @property
    def needs_balance(self) -> bool:
        return True

    @property
    def can_be_negative(self) -> bool:
        return True

    @property
    def keeps_faces(self) -> bool:
        return True


@LOSSES("elr", ElrParams)
class EarlyLearning(AdjustedLoss):
    """Cross-entropy + strength · mean log(1 − ⟨p, t⟩) (Liu et al. 2020, eq. 6 and 9).

    t is, per training face, the moving average of its own predictions: t ← momentum · t + (1 − momentum) · p, from 0. The average is part
    of the training's state, and changes once per step, after it.
    """

    averages: torch.Tensor

    def __init__(self, params: ElrParams, classes: Classes) -> None:
        super().__init__(params, classes, params.tau)
        self.momentum, self.strength = params.momentum, params.strength
        self.step: tuple[torch.Tensor, torch.Tensor] | None = None

    def attach(self, training: TrainingView) -> None:
        self.register_buffer("averages", torch.zeros(training.faces, len(self.weight), device=training.group.device))

    def penalty(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor | float:
        if targets.rows is None:
            return 0.0
        logits = self.adjusted(outputs[:, : len(self.weight)], targets.expression)
        p = torch.softmax(logits, 1).clamp(LEAST, 1 - LEAST)
        shares = (p / p.sum(1, keepdim=True)).detach()
        averages = self.momentum * self.averages[targets.rows] + (1 - self.momentum) * shares
        self.step = self.step or (targets.rows, averages)  # of the first of SAM's two passes
        counted = targets.expression.sum(1) > 0
        logarithms = torch.log1p(-(averages * p).sum(1)) * counted
        return self.strength * logarithms.sum() / counted.sum().clamp_min(1)

    def after_step(self, targets: object) -> None:
        if self.step is not None:
            rows, averages = self.step
            self.averages[rows] = averages
        self.step = None
