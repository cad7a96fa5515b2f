"""Class weights that are learned by gradients on our validation split (Ren et al. 2018)."""

from collections import deque
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn

from affectnet.models.layers import evaluating, last_linear
from affectnet.training.losses.dynamic import DynamicLoss, DynamicParams
from affectnet.training.losses.expression_loss import LOSSES, Classes, EpochStart, TrainingView
from affectnet.training.targets import Targets, joined

FACES_PER_EXPRESSION = 16
"""Validation faces of each expression in an update of the weights."""


class DynamicLearnedParams(DynamicParams):
    every: int = Field(ge=1)


@LOSSES("dynamic_learned", DynamicLearnedParams)
class DynamicLearnedLoss(DynamicLoss):
    """Cross-entropy with learned class weights: one step of the bilevel problem min_w L_val(θ(w)) every `every` steps.

    After a step of SGD with rate α on the weighted loss, θ' = θ − α Σ_c w_c g_c, so that ∂L_val(θ')/∂w_c = −α ⟨g_val, g_c⟩
    (the one-step look-ahead of Ren et al. 2018, with a weight per expression in place of one per face). g_c is the mean
    gradient over the batch's faces of expression c, g_val that of a batch of our own validation split with each expression
    in equal mass, both in the last layer, where they are closed: Σ_i t_ic (p_i − e_c) ⊗ h_i. The update is

        w_c ← w_c · exp(rate · ⟨g_val, g_c⟩ / (‖g_val‖ · mean_c ‖g_c‖)), then scaled to mean 1

    so that an expression counts more when its faces lower the validation loss. An expression without a face in the batch, or in
    validation, keeps its weight relative to the mean of the others.
    """

    def __init__(self, params: DynamicLearnedParams, classes: Classes) -> None:
        super().__init__(params, classes)
        self.every = params.every

    def attach(self, training: TrainingView) -> None:
        self.last_layer = LastLayer(training)

    def start_epoch(self, start: EpochStart) -> None:
        """The draws of an epoch come from its own seed, so that a resumed training draws the same."""
        self.generator = torch.Generator().manual_seed(start.seed)
        self.steps = 0

    def after_step(self, targets: Sequence[Targets]) -> None:
        self.steps += 1
        if self.steps % self.every:
            return
        train = self.last_layer.gradients(joined(targets).expression, len(targets))
        self.update(train, self.last_layer.validation_gradients(self.generator))

    def after_epoch(self, recall: torch.Tensor) -> None:
        """The recalls are not used."""

    def update(self, train: torch.Tensor, validation: torch.Tensor) -> None:
        """Updates the weights from class gradients of the last layer, (k, d) each as `class_gradients` gives them."""
        present, validated = train.abs().sum(1) > 0, validation.abs().sum(1) > 0
        mean_validation = validation[validated].mean(0)
        scale = mean_validation.norm() * train[present].norm(dim=1).mean()
        alignment = train @ mean_validation / scale.clamp_min(1e-12)
        judged = present & validated
        if judged.any():
            self.multiply(torch.exp(self.rate * torch.where(judged, alignment, alignment[judged].mean())))


class LastLayer:
    """Records the inputs and outputs of a network's last layer, and computes class gradients from them."""

    def __init__(self, training: TrainingView) -> None:
        self.training = training
        self.passes: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=training.micro_batches)
        last_linear(training.network)[1].register_forward_hook(self._record)

    def gradients(self, expression: torch.Tensor, passes: int) -> torch.Tensor:
        """(k, d) gradient of each class over the faces of the last passes in all processes, so that each process has the same."""
        features, logits = (torch.cat(recorded) for recorded in zip(*list(self.passes)[-passes:], strict=True))
        return self.training.group.weighted_mean(class_gradients(features, logits, expression), expression.sum(0))

    def validation_gradients(self, generator: torch.Generator) -> torch.Tensor:
        """The same over drawn faces of the validation split, as many of each expression that it has."""
        training, network = self.training, self.training.network
        rows = self._draw(generator)
        with evaluating(network), torch.no_grad():
            network(training.validation_images(rows))
        return self.gradients(training.validation_expression[rows].to(training.group.device), 1)

    def _draw(self, generator: torch.Generator) -> torch.Tensor:
        """Rows of the validation split, with replacement."""
        members = [torch.nonzero(column).flatten() for column in self.training.validation_expression.T if column.any()]
        return torch.cat([rows[torch.randint(len(rows), (FACES_PER_EXPRESSION,), generator=generator)] for rows in members])

    def _record(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        classes = self.training.validation_expression.shape[1]
        self.passes.append((inputs[0].detach().float(), output.detach().float()[:, :classes]))


def class_gradients(features: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(k, k · d) mean gradient of each class's cross-entropy in the last layer's weight; 0 for a class without faces.

    features: (n, d) inputs of the last layer; logits: (n, k); targets: (n, k), soft.
    """
    mass = targets.sum(0)
    sums = torch.einsum("nc,nk,nd->ckd", targets, torch.softmax(logits, 1), features)
    sums.diagonal().sub_((targets.T @ features).T)
    return (sums / mass.clamp_min(1e-12)[:, None, None]).flatten(1)
