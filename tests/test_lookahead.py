import copy

import pytest
import torch
from torch import nn

from affectnet.training.distributed import Group
from affectnet.training.losses.dynamic_learned import DynamicLearnedLoss, DynamicLearnedParams
from affectnet.training.losses.expression_loss import Classes, EpochStart, TrainingView
from affectnet.training.targets import Targets


def test_an_expression_that_is_rare_in_training_and_not_in_validation_gains_weight() -> None:
    """95 of 100 training faces are of class 0; validation counts both alike, so class 1 must come to count more."""
    generator = torch.Generator().manual_seed(0)

    def faces(labels: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(labels), 4, generator=generator) + labels[:, None]

    labels, held_out = (torch.arange(100) >= 95).long(), (torch.arange(40) >= 20).long()
    train, validation = faces(labels), faces(held_out)
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4)
    network = nn.Sequential(norm, nn.Linear(4, 2))
    params = DynamicLearnedParams(function="dynamic_learned", rate=0.05, start="equal", most=20.0, every=2, label_smoothing=0.0)
    loss = DynamicLearnedLoss(params, Classes(torch.arange(2), torch.ones(2), torch.tensor([95, 5])))
    expression = nn.functional.one_hot(held_out, 2).float()
    loss.attach(TrainingView(network, lambda rows: validation[rows], expression, Group(torch.device("cpu")), 1, 100))
    loss.start_epoch(EpochStart(0, 1, torch.tensor([0.95, 0.05]), seed=3))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    targets = Targets(nn.functional.one_hot(labels, 2).float(), torch.full((100, 2), float("nan")))
    weights = []
    for _ in range(60):
        optimizer.zero_grad()
        loss(network(train), targets.expression).backward()
        optimizer.step()
        statistics = copy.deepcopy(norm.state_dict())
        loss.after_step([targets])
        assert all(torch.equal(tensor, norm.state_dict()[name]) for name, tensor in statistics.items()) and norm.training
        weights.append(loss.weight.clone())
    assert torch.equal(weights[0], torch.ones(2)) and not torch.equal(weights[1], weights[0]) and torch.equal(weights[1], weights[2])
    assert weights[-1][1] > 1.2 and float(weights[-1].mean()) == pytest.approx(1)
