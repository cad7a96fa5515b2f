import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectnet.metrics.regression import affect_scores
from affectnet.training.losses.expression_loss import Classes, ExpressionLoss, LossParams
from affectnet.training.targets import Targets, softened
from affectnet.training.tasks import (
    AFFECT_LOSSES,
    AffectTask,
    BothTask,
    ExpressionTask,
    UncertaintyObjective,
    build_objective,
    mean_squared_error,
    one_minus_ccc,
)

NAN = float("nan")


def both(**changes: object) -> BothTask:
    return BothTask.model_validate(
        {"outputs": "both", "affect_loss": "mse", "weighting": "fixed", "expression_weight": 1.0, "affect_weight": 1.0, **changes}
    )


def batch(seed: int = 0) -> tuple[torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (12,), generator=generator)
    affect = torch.rand(12, 2, generator=generator) * 2 - 1
    affect[::4] = NAN
    return torch.randn(12, 5, generator=generator), Targets(torch.nn.functional.one_hot(labels, 3).float(), affect)


def plain() -> ExpressionLoss:
    return ExpressionLoss(LossParams(function="plain"), Classes(torch.arange(3), torch.ones(3), torch.ones(3)))


@given(st.integers(0, 1000))
def test_affect_losses_are_their_scores(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    true, predicted = torch.rand(2, 20, 2, generator=generator) * 2 - 1
    scores = [affect_scores(true[:, i].numpy(), predicted[:, i].numpy()) for i in range(2)]
    assert float(one_minus_ccc(predicted, true)) == pytest.approx(1 - sum(float(f.ccc) for f in scores) / 2, abs=1e-5)
    assert float(mean_squared_error(predicted, true)) == pytest.approx(sum(float(f.rmse) ** 2 for f in scores) / 2, abs=1e-5)
    both_losses = float(one_minus_ccc(predicted, true) + mean_squared_error(predicted, true))
    assert float(AFFECT_LOSSES["sum"](predicted, true)) == pytest.approx(both_losses, abs=1e-5)
    assert float(one_minus_ccc(true, true)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", AFFECT_LOSSES)
def test_faces_without_valence_and_arousal_count_nothing(name: str) -> None:
    outputs, targets = batch()
    known = targets.affect.isfinite().all(1)
    predicted = outputs[:, 3:].clone().requires_grad_()
    value = AFFECT_LOSSES[name](predicted, targets.affect)
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == pytest.approx(float(AFFECT_LOSSES[name](predicted[known], targets.affect[known])), rel=1e-5)
    assert predicted.grad is not None and predicted.grad[known].abs().sum() > 0 and not predicted.grad[~known].any()


@pytest.mark.parametrize("name", AFFECT_LOSSES)
@pytest.mark.parametrize("annotated", [0, 1])
def test_a_batch_with_almost_no_annotation_is_finite(name: str, annotated: int) -> None:
    predicted = torch.randn(4, 2, requires_grad=True)
    true = torch.full((4, 2), NAN)
    true[:annotated] = 0.5
    value = AFFECT_LOSSES[name](predicted, true)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite() and predicted.grad is not None and predicted.grad.isfinite().all()


def test_each_task_reads_its_own_columns() -> None:
    outputs, targets = batch()
    expression = plain()(outputs[:, :3], targets.expression)
    affect = mean_squared_error(outputs[:, 3:], targets.affect)
    single = build_objective(ExpressionTask(outputs="expression"), plain())
    assert torch.equal(single(outputs[:, :3], targets), expression)
    assert torch.equal(build_objective(AffectTask(outputs="affect", affect_loss="mse"), plain())(outputs[:, 3:], targets), affect)
    fixed = build_objective(both(expression_weight=2.0, affect_weight=0.5), plain())
    torch.testing.assert_close(fixed(outputs, targets), 2 * expression + 0.5 * affect)
    assert fixed.task_weights() == {"expression": 2.0, "affect": 0.5} and not list(fixed.parameters())


def test_uncertainty_weights_find_the_inverse_of_each_loss() -> None:
    """At the optimum of exp(−s) a L + s / 2, the weight exp(−s) is 1 / (2 a L)."""
    outputs, targets = batch()
    objective = build_objective(both(weighting="uncertainty"), plain())
    assert isinstance(objective, UncertaintyObjective)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        objective(outputs, targets).backward()
        optimizer.step()
    expression, affect = plain()(outputs[:, :3], targets.expression), mean_squared_error(outputs[:, 3:], targets.affect)
    weights = objective.task_weights()
    assert weights["expression"] == pytest.approx(float(1 / (2 * expression)), rel=0.02)
    assert weights["affect"] == pytest.approx(float(0.5 / affect), rel=0.02)


@pytest.mark.parametrize("affect_loss", ["mse", "ccc"])
def test_a_step_without_valence_and_arousal_leaves_their_learned_weight(affect_loss: str) -> None:
    outputs, targets = batch()
    objective = build_objective(both(weighting="uncertainty", affect_loss=affect_loss), plain())
    assert isinstance(objective, UncertaintyObjective)
    objective(outputs, Targets(targets.expression, torch.full_like(targets.affect, NAN))).backward()
    assert objective.log_variance.grad is not None
    expression, affect = objective.log_variance.grad.tolist()
    assert expression != 0 and affect == 0


def test_mixed_targets_are_shares_and_affect_needs_both() -> None:
    first = Targets(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.5, -0.5], [NAN, NAN]]))
    mixed = first.mixed(first[torch.tensor([1, 0])], torch.tensor([0.75, 1.0]))
    assert mixed.expression.tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert mixed.affect[0].isnan().all() and mixed.affect[1].isnan().all()
    kept = first.mixed(first[torch.tensor([0, 1])], torch.ones(2))
    assert kept.affect[0].tolist() == [0.5, -0.5]


def test_a_soft_target_keeps_the_labels_share_and_a_face_without_one_its_label() -> None:
    hard = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    soft = torch.tensor([[0.3, 0.1], [NAN, NAN], [0.0, 0.0], [0.5, 0.5]])  # of more expressions: the shares of two
    assert softened(hard, soft, 1.0).tolist() == [[0.75, 0.25], [0, 1], [1, 0], [0, 0]]
    assert softened(hard, soft, 0.5).tolist() == [[0.875, 0.125], [0, 1], [1, 0], [0, 0]]
    assert torch.equal(softened(hard, soft, 0.0), hard)
