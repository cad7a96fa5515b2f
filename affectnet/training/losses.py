"""The losses of the expressions: what `losses.<name>` of params.yaml turns into.

All take soft targets, so that label smoothing and mixed images need no second form. With n faces, k expressions, logits
z, targets t (rows of shares, all 0 for a face that does not count) and class weights w, the common form is

    −Σ_i Σ_c w_c t_ic log softmax(z_i)_c  /  Σ_i Σ_c w_c t_ic

so that the scale of the weights changes nothing (the weighted loss of Mollahosseini et al. 2017, with a diagonal infogain
matrix). Faces are predicted from the plain logits, whatever the loss adds to them.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from affectnet.params import Section


class Smoothed(Section):
    """What every entry of `losses` has."""

    label_smoothing: float = Field(ge=0, lt=1)


class UnadjustedParams(Smoothed):
    function: Literal["plain", "weighted"]


class FocalParams(Smoothed):
    function: Literal["focal"]
    gamma: float = Field(ge=0)
    weighted: bool


class LogitAdjustedParams(Smoothed):
    function: Literal["logit_adjusted"]
    tau: float = Field(ge=0)


class BalancedSoftmaxParams(Smoothed):
    function: Literal["balanced_softmax"]


class LdamParams(Smoothed):
    function: Literal["ldam"]
    margin: float = Field(ge=0)
    reweight_from: float = Field(ge=0, le=1)


class DynamicParams(Smoothed):
    function: Literal["dynamic"]
    rate: float = Field(ge=0)
    start: Literal["equal", "weights"]
    most: float = Field(ge=1)


class DynamicLearnedParams(Smoothed):
    function: Literal["dynamic_learned"]
    rate: float = Field(ge=0)
    start: Literal["equal", "weights"]
    most: float = Field(ge=1)
    every: int = Field(ge=1)


LossParams = Annotated[
    UnadjustedParams | FocalParams | LogitAdjustedParams | BalancedSoftmaxParams | LdamParams | DynamicParams | DynamicLearnedParams,
    Field(discriminator="function"),
]


def takes_class_weights(params: LossParams) -> bool:
    """Whether the class weights of rebalance count in the loss, in some epochs at least."""
    match params:
        case UnadjustedParams():
            return params.function == "weighted"
        case FocalParams():
            return params.weighted
        case LdamParams():
            return params.reweight_from < 1
        case DynamicParams() | DynamicLearnedParams():
            return params.start == "weights"
    return False


@dataclass(frozen=True)
class Classes:
    """The k expressions that the network learns: codes in the order of its outputs, weights of rebalance, faces of the plan."""

    codes: torch.Tensor
    weights: torch.Tensor
    shown: torch.Tensor

    def __len__(self) -> int:
        return len(self.codes)


class ExpressionLoss(nn.Module):
    """Plain cross-entropy, and what the other losses change of it: the class weights `weight` (k,) in force, and the logits."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor, smoothing: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight.clone())
        self.smoothing = smoothing

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar loss of (n, k) logits and (n, k) soft targets; 0 when no face counts."""
        log_p = torch.log_softmax(self.adjusted(logits, targets), 1)
        smooth = (1 - self.smoothing) * targets + self.smoothing * targets.sum(1, keepdim=True) / targets.shape[1]
        mass = self.weight * smooth
        return -(mass * self.modulation(log_p) * log_p).sum() / mass.sum().clamp_min(1e-12)

    def adjusted(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits

    def modulation(self, log_p: torch.Tensor) -> torch.Tensor | float:
        return 1.0

    def start_epoch(self, epoch: int, epochs: int, shares: torch.Tensor) -> None:
        """Called before each epoch, counted from 0, with the (k,) shares of the faces that it is expected to show."""

    def end_epoch(self, recall: torch.Tensor) -> None:
        """Called after each epoch with the (k,) recalls on the validation split."""


class FocalLoss(ExpressionLoss):
    """Each log loss times (1 − p)^γ: faces already right count less (Lin et al. 2017). γ = 0 is plain."""

    def __init__(self, weight: torch.Tensor, params: FocalParams) -> None:
        super().__init__(weight, params.label_smoothing)
        self.gamma = params.gamma

    def modulation(self, log_p: torch.Tensor) -> torch.Tensor | float:
        return (1 - log_p.exp()).clamp_min(1e-6) ** self.gamma


class LogitAdjustedLoss(ExpressionLoss):
    """Plain on z + τ log π, π the shares that the sampler shows (Menon et al. 2021, eq. 10); equal shares, or τ = 0, are plain.

    τ = 1 is balanced softmax (Ren et al. 2020): log n and log π differ by a constant, which softmax ignores.
    """

    shift: torch.Tensor

    def __init__(self, shown: torch.Tensor, tau: float, smoothing: float) -> None:
        super().__init__(torch.ones(len(shown)), smoothing)
        self.tau = tau
        self.register_buffer("shift", self._shift(shown))

    def _shift(self, shown: torch.Tensor) -> torch.Tensor:
        return self.tau * torch.log(shown.float() / shown.sum())

    def start_epoch(self, epoch: int, epochs: int, shares: torch.Tensor) -> None:
        self.shift.copy_(self._shift(shares))

    def adjusted(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits + self.shift


class LdamLoss(ExpressionLoss):
    """The target's logit less a margin ∝ n_c^(−1/4), largest for the rarest; deferred reweighting (Cao et al. 2019).

    n_c: faces that the sampler shows, of which the shares are enough. `margin` is the rarest expression's. The paper
    multiplies cosine logits by 30; here the logits are the network's own, so that the model file needs no other head. The
    class weights of rebalance hold from the share `reweight_from` of the epochs on; before, all are 1.
    """

    margins: torch.Tensor

    def __init__(self, classes: Classes, params: LdamParams) -> None:
        super().__init__(torch.ones(len(classes)), params.label_smoothing)
        self.margin, self.reweight_from = params.margin, params.reweight_from
        self.register_buffer("margins", self._margins(classes.shown))
        self.register_buffer("deferred", classes.weights.float())

    def _margins(self, shown: torch.Tensor) -> torch.Tensor:
        quarter = shown.float() ** -0.25
        return self.margin * quarter / quarter.max()

    def adjusted(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits - targets * self.margins

    def start_epoch(self, epoch: int, epochs: int, shares: torch.Tensor) -> None:
        self.margins.copy_(self._margins(shares))
        if epoch >= self.reweight_from * epochs:
            self.weight.copy_(self.get_buffer("deferred"))


class DynamicLoss(ExpressionLoss):
    """Loss weights that train themselves. They average to 1, and none passes `most` times or falls below 1 / `most`.

    Here, once an epoch, by the recalls r on our own validation split:

        w_c ← w_c · exp(rate · (mean r − r_c)), then scaled to mean 1

    so that an expression found less often than the others counts more in the next epoch. The test split has no part in
    it. `start`: all 1, or the class weights of rebalance.
    """

    def __init__(self, classes: Classes, params: DynamicParams | DynamicLearnedParams) -> None:
        start = classes.weights.float() if params.start == "weights" else torch.ones(len(classes))
        super().__init__(start / start.mean(), params.label_smoothing)
        self.rate, self.most = params.rate, params.most

    def end_epoch(self, recall: torch.Tensor) -> None:
        self.multiply(torch.exp(self.rate * (recall.mean() - recall)))

    def multiply(self, factors: torch.Tensor) -> None:
        """Multiplies the weights, keeps them within bounds and their mean at 1."""
        weight = self.weight * factors.to(self.weight.device)
        weight = (weight / weight.mean()).clamp(1 / self.most, self.most)
        self.weight.copy_(weight / weight.mean())


class DynamicLearnedLoss(DynamicLoss):
    """Loss weights learned by gradient: one step of the bilevel problem min_w L_val(θ(w)) every `every` steps.

    After a step of SGD with rate α on the weighted loss, θ' = θ − α Σ_c w_c g_c, so that ∂L_val(θ')/∂w_c = −α ⟨g_val, g_c⟩
    (the one-step look-ahead of Ren et al. 2018, with a weight an expression in place of one a face). g_c is the mean
    gradient over the batch's faces of expression c, g_val that of a batch of our own validation split with each expression
    in equal mass, both in the last layer, where they are closed: Σ_i (p_i − t_i) ⊗ h_i. The update is

        w_c ← w_c · exp(rate · ⟨g_val, g_c⟩ / (‖g_val‖ · mean_c ‖g_c‖)), then scaled to mean 1

    so that an expression whose faces move the network where validation wants it counts more. An expression without a face
    in the batch keeps its weight relative to the mean of the others.
    """

    def __init__(self, classes: Classes, params: DynamicLearnedParams) -> None:
        super().__init__(classes, params)
        self.every = params.every

    def end_epoch(self, recall: torch.Tensor) -> None:
        """The recalls decide nothing here."""

    def look_ahead(self, train: torch.Tensor, validation: torch.Tensor) -> None:
        """Updates the weights from class gradients of the last layer, (k, d) each as `class_gradients` gives them."""
        present = train.abs().sum(1) > 0
        wanted = validation[validation.abs().sum(1) > 0].mean(0)
        scale = wanted.norm() * train[present].norm(dim=1).mean()
        alignment = train @ wanted / scale.clamp_min(1e-12)
        neutral = torch.where(present, alignment, alignment[present].mean())
        self.multiply(torch.exp(self.rate * neutral))


def class_gradients(features: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(k, k · d) mean gradient of each class's cross-entropy in the last layer's weight; 0 for a class without faces.

    features: (n, d) inputs of the last layer; logits: (n, k); targets: (n, k), soft.
    """
    errors = torch.softmax(logits, 1) - targets
    mass = targets.sum(0)
    sums = torch.einsum("nc,nk,nd->ckd", targets, errors, features)
    return (sums / mass.clamp_min(1e-12)[:, None, None]).flatten(1)


def build_loss(params: LossParams, classes: Classes) -> ExpressionLoss:
    """The loss that the entry names."""
    weights, ones, smoothing = classes.weights.float(), torch.ones(len(classes)), params.label_smoothing
    match params:
        case UnadjustedParams():
            found = ExpressionLoss(weights if params.function == "weighted" else ones, smoothing)
        case FocalParams():
            found = FocalLoss(weights if params.weighted else ones, params)
        case LogitAdjustedParams():
            found = LogitAdjustedLoss(classes.shown, params.tau, smoothing)
        case BalancedSoftmaxParams():
            found = LogitAdjustedLoss(classes.shown, 1.0, smoothing)
        case LdamParams():
            found = LdamLoss(classes, params)
        case DynamicLearnedParams():
            found = DynamicLearnedLoss(classes, params)
        case DynamicParams():
            found = DynamicLoss(classes, params)
    return found
