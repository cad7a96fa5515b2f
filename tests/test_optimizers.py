import pytest
import torch

from affectnet.optimizers import OptimizerParams, ScheduleParams, build_optimizer, learning_rate_factor


def entry(algorithm: str, **changes: object) -> OptimizerParams:
    return OptimizerParams.model_validate(
        {"algorithm": algorithm, "lr": 0.1, "momentum": 0.8, "weight_decay": 0.01, "nesterov": True, **changes}
    )


def schedule(shape: str, warmup: float = 0.0) -> ScheduleParams:
    return ScheduleParams.model_validate({"shape": shape, "warmup_epochs": warmup, "step_epochs": 4, "gamma": 0.5})


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_each_algorithm_gets_its_values(name: str, kind: type) -> None:
    optimizer = build_optimizer(entry(name), [torch.nn.Parameter(torch.ones(2))], torch.device("cpu"))
    group = optimizer.param_groups[0]
    assert type(optimizer) is kind
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.01)
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.8


def test_sgd_without_momentum_is_possible_although_nesterov_is_on() -> None:
    optimizer = build_optimizer(entry("sgd", momentum=0.0), [torch.nn.Parameter(torch.ones(2))], torch.device("cpu"))
    assert optimizer.param_groups[0]["nesterov"] is False


def test_schedules_at_known_points() -> None:
    assert learning_rate_factor(schedule("constant"), 7, 10) == 1
    assert learning_rate_factor(schedule("cosine"), 5, 10) == pytest.approx(0.5)
    assert learning_rate_factor(schedule("cosine"), 10, 10) == pytest.approx(0)
    assert learning_rate_factor(schedule("step"), 9.5, 10) == 0.25
    assert learning_rate_factor(schedule("exponential"), 2, 10) == 0.25


def test_warm_up_rises_linearly_and_never_stands_at_zero() -> None:
    assert learning_rate_factor(schedule("cosine", 2.0), 0, 10) == 1e-3
    assert learning_rate_factor(schedule("cosine", 2.0), 1, 10) == 0.5
    assert learning_rate_factor(schedule("cosine", 2.0), 2, 10) == 1
