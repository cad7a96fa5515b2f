"""The objective of a training: the losses of the expressions and of valence and arousal, for the task of params.yaml."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from affectnet.params import Section
from affectnet.training.losses.expression_loss import ExpressionLoss
from affectnet.training.targets import Targets

AffectLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Task(Section):
    """The outputs of the network."""

    outputs: str

    @property
    def expressions(self) -> bool:
        """Whether it has logits of the expressions."""
        return self.outputs != "affect"

    @property
    def affect(self) -> bool:
        """Whether it has valence and arousal."""
        return self.outputs != "expression"


class ExpressionTask(Task):
    """Only expressions."""

    outputs: Literal["expression"]


class AffectTask(Task):
    """Only valence and arousal."""

    outputs: Literal["affect"]
    affect_loss: Literal["mse", "ccc", "sum"]


class BothTask(Task):
    """Both from one trunk; two heads, which are the rows of one linear layer."""

    outputs: Literal["both"]
    affect_loss: Literal["mse", "ccc", "sum"]
    weighting: Literal["fixed", "uncertainty"]
    expression_weight: float = Field(gt=0)
    affect_weight: float = Field(gt=0)


TaskParams = Annotated[ExpressionTask | AffectTask | BothTask, Field(discriminator="outputs")]


def mean_squared_error(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Mean over the annotated faces, then over valence and arousal; (n, 2) each, NaN in `true` where missing."""
    annotated = true.isfinite()
    error = torch.where(annotated, predicted - true.nan_to_num(), 0.0) ** 2
    return (error.sum(0) / annotated.sum(0).clamp_min(1)).mean()


def one_minus_ccc(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """1 − CCC over the batch's annotated faces, per dimension, then the mean; population moments (Lin 1989).

    With fewer than two annotated faces it is 1, and only the mean has a gradient.
    """
    annotated = true.isfinite()
    count = annotated.sum(0).clamp_min(1)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return torch.where(annotated, values, 0.0).sum(0) / count

    t = true.nan_to_num()
    mean_t, mean_p = mean(t), mean(predicted)
    cov = mean((t - mean_t) * (predicted - mean_p))
    denominator = mean((t - mean_t) ** 2) + mean((predicted - mean_p) ** 2) + (mean_t - mean_p) ** 2
    return (1 - 2 * cov / denominator.clamp_min(1e-8)).mean()


AFFECT_LOSSES: dict[str, AffectLoss] = {
    "mse": mean_squared_error,
    "ccc": one_minus_ccc,
    "sum": lambda predicted, true: mean_squared_error(predicted, true) + one_minus_ccc(predicted, true),
}


class Objective(nn.Module):
    """The loss of a batch of outputs: k columns of logits, two of valence and arousal, and those that `ExpressionLoss.outputs` adds."""

    def __init__(self, expression: ExpressionLoss) -> None:
        super().__init__()
        self.expression = expression
        self.classes = len(expression.weight)

    def forward(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor:
        """(n, k), (n, 2) or (n, k + 2) outputs, and columns of the loss's own → scalar."""
        raise NotImplementedError

    def of_expressions(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor:
        """The loss of the expressions."""
        loss: torch.Tensor = self.expression(outputs[:, : self.classes], targets.expression)
        return loss + self.expression.penalty(outputs, targets)

    def task_weights(self) -> dict[str, float]:
        """The weights of the tasks in force."""
        raise NotImplementedError


class ExpressionObjective(Objective):
    def forward(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor:
        return self.of_expressions(outputs, targets)

    def task_weights(self) -> dict[str, float]:
        return {"expression": 1.0}


class AffectObjective(Objective):
    def __init__(self, expression: ExpressionLoss, affect: AffectLoss) -> None:
        super().__init__(expression)
        self.affect = affect

    def forward(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor:
        return self.affect(outputs, targets.affect)

    def task_weights(self) -> dict[str, float]:
        return {"affect": 1.0}


class FixedObjective(Objective):
    """expression_weight · L_expression + affect_weight · L_affect."""

    def __init__(self, expression: ExpressionLoss, task: BothTask) -> None:
        super().__init__(expression)
        self.affect, self.task = AFFECT_LOSSES[task.affect_loss], task

    def forward(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor:
        expression, affect = self.losses(outputs, targets)
        return self.task.expression_weight * expression + self.task.affect_weight * affect

    def losses(self, outputs: torch.Tensor, targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
        affect = outputs[:, self.classes : self.classes + 2]
        return self.of_expressions(outputs, targets), self.affect(affect, targets.affect)

    def task_weights(self) -> dict[str, float]:
        return {"expression": self.task.expression_weight, "affect": self.task.affect_weight}


class UncertaintyObjective(FixedObjective):
    """Σ a · exp(−s) · L + s / 2 with a = 1 for the expressions and 1/2 for affect; s = log σ² learned with the network.

    Kendall, Gal & Cipolla 2018, eq. 7 to 10. 1 − CCC is not a log likelihood; it is weighted like the squared error. The fixed
    weights multiply the losses first. A step without two faces that have valence and arousal says nothing about their weight.
    """

    def __init__(self, expression: ExpressionLoss, task: BothTask) -> None:
        super().__init__(expression, task)
        self.log_variance = nn.Parameter(torch.zeros(2))

    def forward(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor:
        expression, affect = self.losses(outputs, targets)
        weighted = torch.stack([self.task.expression_weight * expression, 0.5 * self.task.affect_weight * affect])
        annotated = targets.affect.isfinite().all(1).sum() > 1
        counted = torch.stack([torch.ones_like(annotated), annotated])
        return (counted * (torch.exp(-self.log_variance) * weighted + self.log_variance / 2)).sum()

    def task_weights(self) -> dict[str, float]:
        expression, affect = torch.exp(-self.log_variance.detach()).tolist()
        return {"expression": self.task.expression_weight * expression, "affect": 0.5 * self.task.affect_weight * affect}


def build_objective(task: TaskParams, expression: ExpressionLoss) -> Objective:
    """The objective of the task."""
    if isinstance(task, ExpressionTask):
        return ExpressionObjective(expression)
    if isinstance(task, AffectTask):
        return AffectObjective(expression, AFFECT_LOSSES[task.affect_loss])
    return (UncertaintyObjective if task.weighting == "uncertainty" else FixedObjective)(expression, task)
