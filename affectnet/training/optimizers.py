"""The optimisers, `optimizers.<name>` of params.yaml, and the schedule of the learning rate, `train.schedule`."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from affectnet.params import Section
from affectnet.training.passes import draws_repeated, statistics_kept
from affectnet.training.registry import Registry

Closure = Callable[[], torch.Tensor]


class OptimizerParams(Section):
    """What every entry of `optimizers` has; an algorithm adds its own fields in a subclass.

    lr: highest learning rate. momentum: SGD's, and the first beta of Adam and AdamW. layer_decay: learning rate of a layer by that
    of the layer above it; 1, the default, gives all layers the same. sam_rho: radius of sharpness-aware minimisation; 0, the
    default, is without it. reference_batch: faces per step that lr is meant for; other steps scale it in proportion (Goyal et al. 2017);
    0, the default, does not scale it.
    """

    algorithm: str
    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    sam_rho: float = Field(default=0.0, ge=0)
    reference_batch: int = Field(default=0, ge=0)


class SgdParams(OptimizerParams):
    """nesterov: Nesterov's momentum, where there is momentum; off by default."""

    nesterov: bool = False


class ScheduleParams(Section):
    """How the learning rate changes over the epochs."""

    shape: Literal["constant", "cosine", "step", "exponential"]
    warmup_epochs: float = Field(ge=0)
    step_epochs: int = Field(ge=1)
    gamma: float = Field(gt=0, le=1)


class Sam:
    """Sharpness-aware minimisation around another optimiser (Foret et al. 2021, eq. 2 and 3).

    A step takes the gradient at θ + ρ · g / ‖g‖ in place of the one at θ, and updates θ with it: two passes per step. The
    second pass draws the same dropout as the first, and does not update the running statistics of batch normalisation, so that
    ρ = 0 is the optimiser itself.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, rho: float, network: nn.Module) -> None:
        self.optimizer, self.rho, self.network = optimizer, rho, network

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self, closure: Closure) -> torch.Tensor:
        """closure: clears the gradients, makes new ones, returns the loss. Returns the loss at θ."""
        with draws_repeated():
            loss = closure()
        moved = self._climb()
        with statistics_kept(self.network):
            closure()
        with torch.no_grad():
            for parameter, origin in moved:
                parameter.copy_(origin)
        self.optimizer.step()
        return loss

    @torch.no_grad()
    def _climb(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Moves each parameter with a gradient to the worst point of the ball; returns each with its former value."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            return []
        gradients = [p.grad for p in parameters]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        moved = [(p, p.clone()) for p in parameters]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.add_(gradient * (self.rho / (norm + 1e-12)))
        return moved


Optimizer = torch.optim.Optimizer | Sam
Groups = list[dict[str, Any]]

OPTIMIZERS: Registry[Callable[[Groups, Any], torch.optim.Optimizer]] = Registry("algorithm")
"""Each makes torch's optimiser of groups of parameters and the entry; the groups hold what is not the entry's own."""


@OPTIMIZERS("adam", OptimizerParams)
def adam(groups: Groups, params: OptimizerParams) -> torch.optim.Optimizer:
    """Weight decay as an L2 term in the gradient (Kingma & Ba 2015)."""
    return torch.optim.Adam(groups, lr=params.lr, betas=(params.momentum, 0.999), weight_decay=params.weight_decay, fused=True)


@OPTIMIZERS("adamw", OptimizerParams)
def adamw(groups: Groups, params: OptimizerParams) -> torch.optim.Optimizer:
    """Decoupled weight decay (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(groups, lr=params.lr, betas=(params.momentum, 0.999), weight_decay=params.weight_decay, fused=True)


@OPTIMIZERS("sgd", SgdParams)
def sgd(groups: Groups, params: SgdParams) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum."""
    nesterov = params.nesterov and params.momentum > 0
    optimizer = torch.optim.SGD(
        groups, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay, nesterov=nesterov, fused=True
    )
    _start_momentum(optimizer)
    return optimizer


def build_optimizer(
    params: OptimizerParams, network: nn.Module, extra: Iterable[nn.Parameter] = (), layers: Sequence[Sequence[nn.Parameter]] = ()
) -> Optimizer:
    """The optimiser over the network's parameters, fused; `extra` parameters (of the loss) are never decayed.

    layers: the parameters from input to head, as the backbone gives them. layer_decay: a layer's learning rate is that of the layer
    above it times this (Clark et al. 2020; 0.65 in FMAE), written into each group's `lr_scale`. sam_rho above 0 wraps the optimiser in
    `Sam`.
    """
    by_layer = layers if params.layer_decay < 1 else [list(network.parameters())]
    groups: Groups = [
        {"params": list(parameters), "lr_scale": params.layer_decay**depth} for depth, parameters in enumerate(reversed(by_layer))
    ]
    of_loss = list(extra)
    if of_loss:
        groups.append({"params": of_loss, "lr_scale": 1.0, "weight_decay": 0.0})
    optimizer = OPTIMIZERS.of(params)(groups, params)
    return Sam(optimizer, params.sam_rho, network) if params.sam_rho else optimizer


def _start_momentum(optimizer: torch.optim.SGD) -> None:
    """Gives every parameter a momentum of 0, from which the first step is the gradient's, as in SGD without it.

    torch's fused SGD refuses a step in which some parameters have momentum and others, just unfrozen, have none (torch 2.15).
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def refuse_other_optimizers(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Errors: ValueError when a state has other settings, or tensors of another shape: torch loads both without an error."""
    current, saved = (
        [{name: value for name, value in group.items() if name != "lr"} for group in groups]
        for groups in (optimizer.state_dict()["param_groups"], state["param_groups"])
    )
    if current != saved:
        raise ValueError("the optimiser has other settings")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in state["state"].items():
        shapes = {value.shape for value in values.values() if isinstance(value, torch.Tensor)}
        if not shapes <= {torch.Size(), parameters[number].shape}:
            raise ValueError(f"the optimiser's state of parameter {number} has another shape")


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Gives each group the rate times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def learning_rate_factor(params: ScheduleParams, epoch: float, epochs: int) -> float:
    """The factor on the learning rate after `epoch` (fractional) of `epochs`: linear warm-up, then the shape, from 1 towards 0."""
    done = epoch - params.warmup_epochs
    if done < 0:
        return max(epoch / params.warmup_epochs, 1e-3)
    if params.shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done / max(epochs - params.warmup_epochs, 1e-9)))
    if params.shape == "step":
        return params.gamma ** (int(done) // params.step_epochs)
    return params.gamma**done if params.shape == "exponential" else 1.0
