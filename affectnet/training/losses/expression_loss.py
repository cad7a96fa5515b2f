"""The loss of the expressions: the form that all losses share, the hooks by which they differ, and their registry.

All take soft targets, so that label smoothing and mixed images need no second form. With n faces, k expressions, logits
z, targets t (rows of shares, all 0 for a face that does not count) and class weights w, the common form is

    Σ_i Σ_c w_c t_ic cost(z_i)_c  /  Σ_i Σ_c w_c t_ic,    cost(z)_c = −log softmax(z)_c

so that the scale of the weights changes nothing (the weighted loss of Mollahosseini et al. 2017, with a diagonal infogain
matrix). Faces are predicted from the plain logits, whatever the loss adds to them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import nn

from affectnet.params import Section
from affectnet.training.distributed import Group
from affectnet.training.registry import Registry
from affectnet.training.targets import Targets


class LossParams(Section):
    """What every entry of `losses` has; a loss adds its own fields in a subclass."""

    function: str
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    @property
    def takes_class_weights(self) -> bool:
        """Whether the class weights of rebalance count in the loss, at least in some epochs."""
        return False

    def first_weighted_epoch(self, _epochs: int) -> int:
        """Index, from 0, of the first epoch with the class weights of rebalance. _epochs: how many the training has."""
        return 0

    @property
    def takes_soft_targets(self) -> bool:
        """Whether `train.targets` may be soft or mixed: not for a loss whose paper defines it only for one label per face."""
        return True

    @property
    def needs_balance(self) -> bool:
        """Whether it corrects for a skew only where the sampler shows each expression equally often."""
        return False

    @property
    def can_be_negative(self) -> bool:
        """Whether the loss has no lower bound of 0, which `weighting: uncertainty` needs: it would raise its weight without end."""
        return False

    @property
    def keeps_faces(self) -> bool:
        """Whether the loss keeps something per face between epochs, and so needs `Targets.rows`, and images that are not mixed."""
        return False


@dataclass(frozen=True)
class Classes:
    """The k expressions that the network learns: codes in the order of its outputs, class weights of rebalance, faces of the plan."""

    codes: torch.Tensor
    weights: torch.Tensor
    plan_counts: torch.Tensor

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class TrainingView:
    """What a loss can see of the training that it is part of.

    validation_images: rows → normalised images (n, 3, px, px) on the network's device; validation_expression: (m, k) one-hot;
    group: the processes whose faces count together; micro_batches: how many a step has at most; faces: number in the training split.
    """

    network: nn.Module
    validation_images: Callable[[torch.Tensor], torch.Tensor]
    validation_expression: torch.Tensor
    group: Group
    micro_batches: int
    faces: int


@dataclass(frozen=True)
class EpochStart:
    """The beginning of an epoch. epoch: its number, from 0; epochs: how many the training has.

    shares: (k,) of the expressions in the targets of the faces that the sampler is expected to show; seed: of the loss's own draws.
    """

    epoch: int
    epochs: int
    shares: torch.Tensor
    seed: int = 0


class ExpressionLoss(nn.Module):
    """Cross-entropy, and the hooks by which the other losses change it.

    `weight` (k,) holds the class weights in force: 1, or with `weighted` those of rebalance.
    """

    weight: torch.Tensor

    def __init__(self, params: LossParams, classes: Classes, weighted: bool = False) -> None:
        super().__init__()
        self.register_buffer("weight", classes.weights.float().clone() if weighted else torch.ones(len(classes)))
        self.smoothing = params.label_smoothing

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar loss of (n, k) logits and (n, k) soft targets; 0 when no face counts."""
        log_p = torch.log_softmax(self.adjusted(logits, targets), 1)
        smooth = (1 - self.smoothing) * targets + self.smoothing * targets.sum(1, keepdim=True) * self.smoothing_shares()
        mass = self.weight * smooth
        return (mass * self.costs(log_p)).sum() / mass.sum().clamp_min(1e-12)

    def smoothing_shares(self) -> torch.Tensor:
        """(k,) how label smoothing spreads its share of a target over the expressions: so that each has the same mass in the loss."""
        return 1 / self.weight / (1 / self.weight).sum()

    def adjusted(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The (n, k) logits that the loss is taken of."""
        return logits

    def costs(self, log_p: torch.Tensor) -> torch.Tensor:
        """(n, k) cost of the (n, k) log probabilities if the truth were c."""
        return -log_p

    def outputs(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """(n, d) outputs of the network in training, after which a loss may put columns of its own."""
        outputs: torch.Tensor = network(images)
        return outputs

    def penalty(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor | float:
        """What training adds to the loss, of all columns of `outputs`; 0 for outputs without them, and for targets without rows."""
        return 0.0

    def attach(self, training: TrainingView) -> None:
        """Called once, before the first epoch."""

    def start_epoch(self, start: EpochStart) -> None:
        """Called before each epoch."""

    def after_step(self, targets: Sequence[Targets]) -> None:
        """Called after each step of the optimiser with the targets of its micro-batches, of this process's faces."""

    def after_epoch(self, recall: torch.Tensor) -> None:
        """Called after each epoch with the (k,) recalls on the validation split, NaN for an expression without a face there."""


LOSSES: Registry[Callable[..., ExpressionLoss]] = Registry("function", __package__)
"""A loss is a subclass of `ExpressionLoss` that is made of (params, classes); it stands in a file of this folder."""


def build_loss(params: LossParams, classes: Classes) -> ExpressionLoss:
    """The loss that the entry names."""
    return LOSSES.of(params)(params, classes)
