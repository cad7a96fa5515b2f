from typing import Annotated, Any

import pytest
import torch
from chain import ROOT
from free_logits import answers
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter
from torch.nn import functional

from affectnet.params import read_document
from affectnet.training.losses.dynamic import DynamicLoss
from affectnet.training.losses.dynamic_learned import DynamicLearnedLoss, class_gradients
from affectnet.training.losses.expression_loss import LOSSES, Classes, EpochStart, ExpressionLoss, LossParams, build_loss

ADAPTER: TypeAdapter[Any] = TypeAdapter(Annotated[LossParams, LOSSES, Field(discriminator="function")])
SEEDS = st.integers(0, 1000)
CATALOGUE = read_document(ROOT / "params.yaml")["losses"]


def classes(shown: list[int], weights: list[float] | None = None) -> Classes:
    count = len(shown)
    return Classes(torch.arange(count), torch.tensor(weights or [1.0] * count), torch.tensor(shown))


def loss(name: str, shares: Classes, **changes: Any) -> ExpressionLoss:
    return build_loss(ADAPTER.validate_python({**CATALOGUE[name], **changes}), shares)


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 5, generator=generator), torch.randint(5, (16,), generator=generator)


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    return functional.one_hot(labels, 5).float()


EVEN, SKEWED = classes([7] * 5), classes([50, 20, 9, 4, 2], [1.0, 2.0, 3.0, 4.0, 5.0])


def test_each_loss_that_is_registered_is_in_the_catalogue() -> None:
    assert {entry["function"] for entry in CATALOGUE.values()} == set(LOSSES)


@pytest.mark.parametrize("shares", [EVEN, SKEWED])
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_loss_of_the_catalogue_has_a_gradient_and_falls_with_the_right_answer(name: str, shares: Classes) -> None:
    logits, labels = batch(1)
    logits.requires_grad_()
    built = loss(name, shares)
    value = built(logits, one_hot(labels))
    value.backward()
    assert value > 0 and logits.grad is not None and logits.grad.isfinite().all() and logits.grad.abs().sum() > 0
    assert built(logits - 0.1 * logits.grad, one_hot(labels)) < value


@given(SEEDS)
def test_plain_is_torchs_cross_entropy(seed: int) -> None:
    logits, labels = batch(seed)
    for smoothing in (0.0, 0.1):
        expected = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        assert float(loss("plain", EVEN, label_smoothing=smoothing)(logits, one_hot(labels))) == pytest.approx(float(expected), rel=1e-4)


@given(SEEDS, st.floats(0.01, 100))
def test_equal_weights_are_plain_whatever_their_scale(seed: int, scale: float) -> None:
    logits, labels = batch(seed)
    weighted = loss("weighted", classes([7] * 5, [scale] * 5))
    assert float(weighted(logits, one_hot(labels))) == pytest.approx(float(loss("plain", EVEN)(logits, one_hot(labels))), rel=1e-4)


def test_weighted_is_the_weighted_mean_of_the_log_losses() -> None:
    logits, labels = batch(3)
    expected = functional.cross_entropy(logits, labels, weight=SKEWED.weights)
    assert float(loss("weighted", SKEWED)(logits, one_hot(labels))) == pytest.approx(float(expected), rel=1e-5)


@given(SEEDS)
def test_laws_under_which_a_loss_is_plain(seed: int) -> None:
    logits, labels = batch(seed)
    plain = float(loss("plain", EVEN)(logits, one_hot(labels)))
    same = [
        loss("focal", SKEWED, gamma=0.0),
        loss("logit_adjusted", SKEWED, tau=0.0),
        loss("logit_adjusted", EVEN),
        loss("balanced_softmax", EVEN),
        loss("ldam", SKEWED, margin=0.0),
        loss("dynamic", SKEWED),
        loss("dynamic_learned", SKEWED),
        loss("sce", SKEWED, tau=0.0, alpha=1.0, beta=0.0),
        loss("sce", EVEN, alpha=1.0, log_zero=0.0),
        loss("elr", EVEN),
        loss("eac", EVEN),
    ]
    assert [float(other(logits, one_hot(labels))) for other in same] == pytest.approx([plain] * len(same), rel=1e-4)


@pytest.mark.parametrize("name", CATALOGUE)
def test_smoothing_answers_no_rare_expression_for_the_faces_of_a_frequent_one(name: str) -> None:
    """400 faces of one expression share their logits, and one of another; both are fitted with a tenth of smoothing."""
    built = loss(name, classes([400, 1], [1.0, 400.0]), label_smoothing=0.1)
    built.start_epoch(EpochStart(epoch=9, epochs=10, shares=torch.tensor([400, 1]) / 401))
    faces = torch.tensor([0] * 400 + [1])
    assert answers(built, faces, functional.one_hot(faces).float()) == [0, 1]


@given(SEEDS)
def test_balanced_softmax_is_logit_adjustment_with_tau_1(seed: int) -> None:
    """Ren et al. 2020, eq. 4: n_y exp(z_y) / Σ n_c exp(z_c)."""
    logits, labels = batch(seed)
    mass = SKEWED.plan_counts * logits.double().exp()
    expected = -(mass[torch.arange(16), labels] / mass.sum(1)).log().mean()
    for name in ("balanced_softmax", "logit_adjusted"):
        assert float(loss(name, SKEWED)(logits, one_hot(labels))) == pytest.approx(float(expected), rel=1e-4)


def test_focal_by_hand() -> None:
    """p = 0.75 for the truth, γ = 2: (1/4)² · −log 0.75."""
    logits = torch.log(torch.tensor([[0.75, 0.25]]))
    value = loss("focal", classes([1, 1]), gamma=2.0)(logits, torch.tensor([[1.0, 0.0]]))
    assert float(value) == pytest.approx(0.0625 * 0.2876821, rel=1e-4)


@given(SEEDS)
def test_generalised_cross_entropy_is_between_cross_entropy_and_the_mean_absolute_error(seed: int) -> None:
    """Zhang & Sabuncu 2018: the limit q → 0, and at q = 1 half the L1 distance of prediction and label."""
    logits, labels = batch(seed)
    plain = float(loss("plain", EVEN)(logits, one_hot(labels)))
    assert float(loss("gce", EVEN, q=1e-4)(logits, one_hot(labels))) == pytest.approx(plain, rel=1e-3)
    distance = (torch.softmax(logits, 1) - one_hot(labels)).abs().sum(1).mean() / 2
    assert float(loss("gce", EVEN, q=1.0)(logits, one_hot(labels))) == pytest.approx(float(distance), rel=1e-4)


@given(SEEDS)
def test_symmetric_cross_entropy_is_its_two_halves(seed: int) -> None:
    """Wang et al. 2019: the reverse is −Σ p log t, with log 0 = A for a label that is not the face's."""
    logits, labels = batch(seed)
    p, t = torch.softmax(logits.double(), 1), one_hot(labels).double()
    logs = torch.where(t > 0, t.log().nan_to_num(neginf=0.0), -4.0)
    expected = 0.1 * functional.cross_entropy(logits.double(), labels) - 2.0 * (p * logs).sum(1).mean()
    built = loss("sce", EVEN, alpha=0.1, beta=2.0, log_zero=-4.0)
    assert float(built(logits, one_hot(labels))) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("name", ["gce", "sce"])
def test_a_robust_loss_is_bounded_in_what_one_wrong_label_can_pull(name: str) -> None:
    """The gradient of a label that the network finds impossible, against that of cross-entropy."""
    logits = torch.tensor([[12.0, 0, 0, 0, 0]], requires_grad=True)
    wrong = one_hot(torch.tensor([1]))
    pulls = [torch.autograd.grad(loss(one, EVEN)(logits, wrong), logits)[0].norm() for one in (name, "plain")]
    assert float(pulls[0]) < 0.11 * float(pulls[1])


def test_ldam_takes_the_margin_only_from_the_truths_logit_and_reweights_late() -> None:
    shown = classes([16, 1], [1.0, 9.0])
    ldam = loss("ldam", shown, margin=2.0, reweight_from=0.5)
    logits = torch.zeros(1, 2)
    assert ldam.adjusted(logits, torch.tensor([[0.0, 1.0]])).tolist() == [[0, -2]]
    assert ldam.adjusted(logits, torch.tensor([[1.0, 0.0]])).tolist() == [[-1, 0]]  # 16^(−1/4) = 1/2
    ldam.start_epoch(EpochStart(4, 10, torch.tensor([0.5, 0.5])))
    assert ldam.weight.tolist() == [1, 1]
    ldam.start_epoch(EpochStart(5, 10, torch.tensor([0.5, 0.5])))
    assert ldam.weight.tolist() == [1, 9]


@given(SEEDS)
def test_a_soft_target_is_the_mean_of_its_parts_and_an_empty_row_does_not_count(seed: int) -> None:
    logits, labels = batch(seed)
    other = labels.roll(1)
    mixed = 0.3 * one_hot(labels) + 0.7 * one_hot(other)
    plain = loss("plain", EVEN)
    expected = 0.3 * plain(logits, one_hot(labels)) + 0.7 * plain(logits, one_hot(other))
    assert float(plain(logits, mixed)) == pytest.approx(float(expected), rel=1e-4)
    half = one_hot(labels) * (torch.arange(16) < 8)[:, None]
    assert float(plain(logits, half)) == pytest.approx(float(plain(logits[:8], one_hot(labels[:8]))), rel=1e-4)
    assert float(plain(logits, torch.zeros(16, 5))) == 0


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if ADAPTER.validate_python(entry).takes_soft_targets])
def test_a_loss_of_soft_targets_is_linear_in_them(name: str) -> None:
    """A face whose label is shared counts as two faces with a label each, by their shares; the weights are equal."""
    logits, labels = batch(7)
    built = loss(name, classes([50, 20, 9, 4, 2]))
    mixed = 0.3 * one_hot(labels) + 0.7 * one_hot(labels.roll(1))
    expected = 0.3 * built(logits, one_hot(labels)) + 0.7 * built(logits, one_hot(labels.roll(1)))
    assert float(built(logits, mixed)) == pytest.approx(float(expected), rel=1e-4)


@given(st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=30), st.sampled_from(["equal", "weights"]))
def test_dynamic_weights_average_to_one_and_stay_within_bounds(recalls: list[list[float]], start: str) -> None:
    dynamic = loss("dynamic", SKEWED, start=start, rate=2.0, most=4.0)
    for recall in recalls:
        dynamic.after_epoch(torch.tensor(recall))
        assert float(dynamic.weight.mean()) == pytest.approx(1, abs=1e-5)
        assert float(dynamic.weight.min()) > 0.2 and float(dynamic.weight.max()) < 5


def test_dynamic_weights_rise_where_the_recall_is_low_by_the_stated_rule() -> None:
    dynamic = loss("dynamic", classes([1, 1]), rate=0.5)
    assert isinstance(dynamic, DynamicLoss)
    dynamic.after_epoch(torch.tensor([0.9, 0.3]))
    expected = torch.exp(0.5 * (0.6 - torch.tensor([0.9, 0.3])))
    torch.testing.assert_close(dynamic.weight, expected / expected.mean())
    dynamic.after_epoch(torch.tensor([0.6, 0.6]))
    torch.testing.assert_close(dynamic.weight, expected / expected.mean())


def test_class_gradients_are_autograds_of_the_last_layer() -> None:
    generator = torch.Generator().manual_seed(2)
    features, labels = torch.randn(12, 7, generator=generator), torch.tensor([0, 1, 2] * 4)
    layer = torch.nn.Linear(7, 4)
    gradients = class_gradients(features, layer(features).detach(), functional.one_hot(labels, 4).float())
    for code in range(3):
        layer.zero_grad()
        functional.cross_entropy(layer(features[labels == code]), labels[labels == code]).backward()  # type: ignore[no-untyped-call]
        assert layer.weight.grad is not None
        torch.testing.assert_close(gradients[code], layer.weight.grad.flatten())
    assert not gradients[3].any()


def test_class_gradients_of_shared_targets_are_autograds() -> None:
    """Of mixed images and of soft targets: a face counts for each expression by its share."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(9, 5, generator=generator)
    shares = torch.softmax(torch.randn(9, 4, generator=generator), 1)
    layer = torch.nn.Linear(5, 4, bias=False)
    gradients = class_gradients(features, layer(features).detach(), shares)
    for code in range(4):
        layer.zero_grad()
        costs = functional.cross_entropy(layer(features), torch.full((9,), code), reduction="none")
        ((shares[:, code] * costs).sum() / shares[:, code].sum()).backward()  # type: ignore[no-untyped-call]
        assert layer.weight.grad is not None
        torch.testing.assert_close(gradients[code], layer.weight.grad.flatten())


def test_an_expression_without_a_validation_face_keeps_its_dynamic_weight_among_the_others() -> None:
    dynamic = loss("dynamic", classes([9, 5, 1]))
    for _ in range(30):
        dynamic.after_epoch(torch.tensor([0.8, 0.8, torch.nan]))
    assert dynamic.weight.tolist() == pytest.approx([1, 1, 1])
    dynamic.after_epoch(torch.tensor([0.9, 0.7, torch.nan]))
    first, second, absent = dynamic.weight.tolist()
    assert first < absent < second
    dynamic.after_epoch(torch.full((3,), torch.nan))
    assert dynamic.weight.tolist() == pytest.approx([first, second, absent])


def test_learned_weights_rise_for_the_class_whose_gradient_validation_wants() -> None:
    """The update is a descent: it lowers the validation loss after a step of SGD."""
    dynamic = loss("dynamic_learned", classes([5, 5, 5]), rate=0.1)
    assert isinstance(dynamic, DynamicLearnedLoss)
    helpful, harmful = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])
    dynamic.update(torch.stack([helpful, harmful, torch.zeros(2)]), torch.stack([helpful, helpful, helpful]))
    assert dynamic.weight[0] > dynamic.weight[2] > dynamic.weight[1] and float(dynamic.weight.mean()) == pytest.approx(1)


def test_a_class_without_a_validation_face_keeps_its_learned_weight_relative_to_the_others() -> None:
    dynamic = loss("dynamic_learned", classes([5, 5, 5]), rate=0.1)
    assert isinstance(dynamic, DynamicLearnedLoss)
    train = torch.tensor([[1.0, 0.2], [0.3, 1.0], [-1.0, -1.0]])  # that of the last is against those of the others
    dynamic.update(train, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    assert float(dynamic.weight[2]) == pytest.approx(float(dynamic.weight[:2].prod().sqrt()))
    before = dynamic.weight.clone()
    dynamic.update(train * torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    assert torch.equal(dynamic.weight, before)


def test_the_state_of_a_loss_can_be_kept_and_taken_up() -> None:
    first, second = loss("dynamic", SKEWED), loss("dynamic", SKEWED)
    first.after_epoch(torch.tensor([0.1, 0.5, 0.5, 0.9, 0.2]))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.weight, second.weight) and not torch.equal(first.weight, torch.ones(5))
