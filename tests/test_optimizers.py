from typing import Annotated, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter
from torch import nn

from affectnet.training.optimizers import (
    OPTIMIZERS,
    OptimizerParams,
    Sam,
    ScheduleParams,
    build_optimizer,
    learning_rate_factor,
    set_learning_rate,
)

ADAPTER: TypeAdapter[Any] = TypeAdapter(Annotated[OptimizerParams, OPTIMIZERS, Field(discriminator="algorithm")])


def entry(algorithm: str, **changes: object) -> OptimizerParams:
    nesterov = {"nesterov": True} if algorithm == "sgd" else {}
    content = {"algorithm": algorithm, "lr": 0.1, "momentum": 0.8, "weight_decay": 0.01, **nesterov, **changes}
    params: OptimizerParams = ADAPTER.validate_python(content)
    return params


def schedule(shape: str, warmup: float = 0.0) -> ScheduleParams:
    return ScheduleParams.model_validate({"shape": shape, "warmup_epochs": warmup, "step_epochs": 4, "gamma": 0.5})


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def train(optimizer: Any, module: nn.Module, steps: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    inputs, targets = torch.randn(16, 3), torch.randint(2, (16,))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    for _ in range(steps):
        optimizer.step(closure)
    return module.state_dict()


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_each_algorithm_gets_its_values(name: str, kind: type) -> None:
    optimizer = build_optimizer(entry(name), network())
    (group,) = optimizer.param_groups
    assert type(optimizer) is kind
    assert (group["lr"], group["weight_decay"], group["lr_scale"], len(group["params"])) == (0.1, 0.01, 1, 6)
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.8


def test_sgd_without_momentum_is_possible_although_nesterov_is_on() -> None:
    assert build_optimizer(entry("sgd", momentum=0.0), network()).param_groups[0]["nesterov"] is False


@pytest.mark.parametrize("algorithm", sorted(OPTIMIZERS))
@pytest.mark.parametrize("sam_rho", [0.0, 0.05])
def test_layers_that_were_frozen_join_the_training(algorithm: str, sam_rho: float) -> None:
    """As with `freeze_epochs`: only the head learns first."""
    module = network()
    optimizer = build_optimizer(entry(algorithm, sam_rho=sam_rho), module)
    first, *_, last = module.parameters()
    start = [first.detach().clone(), last.detach().clone()]
    first.requires_grad_(False)
    train(optimizer, module, 1)
    assert torch.equal(first, start[0]) and not torch.equal(last, start[1])
    first.requires_grad_(True)
    train(optimizer, module, 1)
    assert not torch.equal(first, start[0])


def test_momentum_that_starts_at_0_is_that_of_torch() -> None:
    ours, torchs = network(), network()
    optimizer = torch.optim.SGD(torchs.parameters(), lr=0.1, momentum=0.8, weight_decay=0.01, nesterov=True, fused=True)
    mine, theirs = train(build_optimizer(entry("sgd"), ours), ours), train(optimizer, torchs)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("algorithm", ["adam", "sgd"])
def test_sam_with_radius_0_is_the_base_optimiser(algorithm: str) -> None:
    plain, wrapped = network(), network()
    base = build_optimizer(entry(algorithm), wrapped)
    assert isinstance(base, torch.optim.Optimizer)
    expected = train(build_optimizer(entry(algorithm), plain), plain)
    trained = train(Sam(base, 0.0, wrapped), wrapped)
    assert all(torch.equal(expected[name], trained[name]) for name in expected)


@given(st.floats(0.01, 2), st.integers(0, 50))
def test_sam_steps_by_the_gradient_at_the_worst_point_of_the_ball(rho: float, seed: int) -> None:
    """On f(x) = ½ xᵀAx the gradient at x + ρ g/‖g‖ is A (x + ρ g/‖g‖) with g = Ax."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(3, 3, generator=generator)
    a, x = root @ root.T + torch.eye(3), torch.randn(3, generator=generator)
    module = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(x[None])
    optimizer = build_optimizer(entry("sgd", momentum=0.0, weight_decay=0.0, sam_rho=rho), module)
    assert isinstance(optimizer, Sam)

    def closure() -> torch.Tensor:
        module.zero_grad()
        loss = (module.weight @ a @ module.weight.T / 2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    g = a @ x
    assert float(optimizer.step(closure)) == pytest.approx(float(x @ a @ x / 2), rel=1e-4)
    torch.testing.assert_close(module.weight.detach()[0], x - 0.1 * a @ (x + rho * g / g.norm()), atol=1e-4, rtol=1e-4)


def test_layer_decay_slows_each_layer_by_the_one_above_it() -> None:
    module = network()
    layers = [[*module[0].parameters(), *module[1].parameters()], list(module[4].parameters())]
    optimizer = build_optimizer(entry("adam", layer_decay=0.5), module, layers=layers)
    set_learning_rate(optimizer, 0.2)
    assert [[p.shape for p in group["params"]] for group in optimizer.param_groups] == [
        [module[4].weight.shape, module[4].bias.shape],
        [module[0].weight.shape, module[0].bias.shape, module[1].weight.shape, module[1].bias.shape],
    ]
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]


def test_parameters_of_the_loss_learn_at_the_full_rate_without_decay() -> None:
    extra = nn.Parameter(torch.zeros(2))
    group = build_optimizer(entry("adamw", layer_decay=0.5), network(), [extra]).param_groups[-1]
    assert group["params"] == [extra] and (group["lr_scale"], group["weight_decay"]) == (1, 0)


def test_schedules_at_known_points() -> None:
    assert learning_rate_factor(schedule("constant"), 7, 10) == 1
    assert learning_rate_factor(schedule("cosine"), 5, 10) == pytest.approx(0.5)
    assert learning_rate_factor(schedule("cosine"), 10, 10) == pytest.approx(0)
    assert learning_rate_factor(schedule("step"), 9.5, 10) == 0.25
    assert learning_rate_factor(schedule("exponential"), 2, 10) == 0.25


def test_warm_up_rises_linearly_and_never_stands_at_zero() -> None:
    assert learning_rate_factor(schedule("cosine", 2.0), 0, 10) == 1e-3
    assert learning_rate_factor(schedule("cosine", 2.0), 1, 10) == 0.5
    for shape in ("constant", "cosine", "step", "exponential"):
        assert learning_rate_factor(schedule(shape, 2.0), 2, 10) == 1
    assert learning_rate_factor(schedule("exponential", 2.0), 4, 10) == 0.25
