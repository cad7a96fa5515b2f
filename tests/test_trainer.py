"""The objective of a training: the shares of its sampler, the correction of its loss, and the gradient of a step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from chain import ROOT, TINY, entry, tiny
from free_logits import answers
from pydantic import TypeAdapter

from affectnet.errors import UserError
from affectnet.models.dataset import FaceDataset
from affectnet.models.layers import last_linear
from affectnet.params import parse, read_document
from affectnet.training.distributed import Group
from affectnet.training.losses.dynamic_learned import DynamicLearnedLoss
from affectnet.training.losses.elr import EarlyLearning
from affectnet.training.losses.expression_loss import LOSSES as REGISTERED
from affectnet.training.losses.expression_loss import Classes, EpochStart, ExpressionLoss, build_loss
from affectnet.training.losses.ldam import LdamLoss
from affectnet.training.losses.logit_adjusted import AdjustedLoss
from affectnet.training.recipe import TrainerParams
from affectnet.training.samplers import SAMPLERS
from affectnet.training.targets import TargetMass, Targets, softened
from affectnet.training.trainer import Trainer, with_mass

CPU = torch.device("cpu")
COUNTS = (40, 16, 8)
"""Training faces of three expressions."""
SHARES = {"plan": np.array(COUNTS) / sum(COUNTS), "balanced": np.full(3, 1 / 3), "square_root": np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()}
"""Of an epoch."""


def faces() -> FaceDataset:
    generator = torch.Generator().manual_seed(4)
    expression = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    images = torch.randint(0, 256, (len(expression), 32, 32, 3), dtype=torch.uint8, generator=generator)
    valence, arousal = torch.rand(2, len(expression), generator=generator) * 2 - 1
    valence[::5] = arousal[::5] = float("nan")
    return FaceDataset(images, expression, valence, arousal)


def trainer(model: dict[str, Any] = TINY, soft: Any = None, **changes: Any) -> Trainer:
    """A training of the three expressions, weighted inversely. soft: (n, 3); changes: of section `train` and the selected entries."""
    document = read_document(ROOT / "params.yaml")
    fields = {name: value for name, value in document["train"].items() if name in TrainerParams.model_fields}
    entries = {"model": model, "loss": entry("loss", "plain"), "task": entry("task", "expression"), "optimizer": entry("optimizer", "adam")}
    fields["augmentation"] = entry("augmentation", fields["augmentation"])
    params = TrainerParams.model_validate({**fields, **entries, **changes})
    counts = torch.tensor(COUNTS)
    classes = (
        Classes(torch.arange(3), counts.max() / counts, counts)
        if params.task.expressions
        else Classes(*[torch.empty(0, dtype=torch.int64)] * 3)
    )
    return Trainer(params, Group(CPU), classes, np.arange(sum(COUNTS)), faces(), faces(), soft)


def drawn_shares(training: Trainer, epoch: int) -> np.ndarray:
    steps, _ = training._start_epoch(epoch)
    return np.bincount(faces().expression[torch.cat(steps)], minlength=3) / sum(COUNTS)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("loss", ["logit_adjusted", "balanced_softmax", "ldam"])
def test_a_loss_corrects_for_the_shares_that_the_sampler_shows(loss: str, sampler: str) -> None:
    changes = {"reweight_from": 1.0} if loss == "ldam" else {}
    training = trainer(loss=entry("loss", loss, **changes), sampler=sampler, epochs=3)
    for epoch, done in enumerate((0.0, 0.5, 1.0)):
        expected = SHARES[sampler] if sampler in SHARES else (1 - done) * SHARES["plan"] + done * SHARES["balanced"]
        assert drawn_shares(training, epoch) == pytest.approx(expected, abs=0.17)
        corrected = training.objective.expression
        if isinstance(corrected, AdjustedLoss):
            torch.testing.assert_close(corrected.shift, torch.from_numpy(expected).log().float())
        else:
            assert isinstance(corrected, LdamLoss)
            torch.testing.assert_close(corrected.margins, torch.from_numpy((expected.min() / expected) ** 0.25).float())


def document(**changes: Any) -> dict[str, Any]:
    """params.yaml with these entries selected, and `sampler` set."""
    shipped = read_document(ROOT / "params.yaml")
    shipped["train"] = {name: value for name, value in shipped["train"].items() if name in TrainerParams.model_fields}
    shipped["train"]["sampler"] = changes.pop("sampler")
    for switch, chosen in changes.items():
        shipped[switch], shipped[{"loss": "losses", "task": "tasks"}[switch]]["chosen"] = "chosen", chosen
    return shipped


VAGUE = torch.tensor([[0.66, 0.17, 0.17], [0.17, 0.66, 0.17], [0.17, 0.17, 0.66]])
"""Soft targets by label, in which each other expression has the same share."""
LEANING = torch.tensor([[0.90, 0.08, 0.02], [0.50, 0.42, 0.08], [0.45, 0.20, 0.35]])
"""As a teacher answers that learned the skew: towards the frequent expressions."""


@pytest.mark.parametrize("soft", [VAGUE, LEANING], ids=["vague", "leaning"])
@pytest.mark.parametrize(
    ("loss", "sampler"),
    [
        *((entry("loss", "logit_adjusted"), sampler) for sampler in SAMPLERS),
        (entry("loss", "balanced_softmax"), "plan"),
        (entry("loss", "weighted"), "plan"),
        (entry("loss", "focal", weighted=True), "plan"),
        (entry("loss", "dynamic", start="weights"), "plan"),
    ],
)
def test_soft_targets_are_corrected_for_once_whatever_their_shares(loss: dict[str, Any], sampler: str, soft: torch.Tensor) -> None:
    """Faces of a label share their logits: the answer is the label, as their targets have more of it than those of the other labels."""
    training = trainer(loss=loss, sampler=sampler, soft=soft[faces().expression], targets="soft", epochs=3)
    training._start_epoch(1)
    shown = torch.from_numpy(training.sampler.shares(np.array(COUNTS) / sum(COUNTS), 0.5))
    rows = torch.repeat_interleave(torch.arange(3), (720 * shown).round().long())
    assert answers(training.loss, rows, soft[rows]) == [0, 1, 2]


def test_hard_targets_have_the_shares_of_the_labels_to_the_last_bit() -> None:
    shares = torch.rand(3, generator=torch.Generator().manual_seed(1)).double()
    assert torch.equal(trainer().mass.drawn(shares), shares)


def fitted(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], faces: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(2, k) weights of the best linear classifier of faces (n, 2) by the loss."""
    weights = torch.zeros(2, targets.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(faces @ weights, targets)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("repeats", [1, 5, 20])
def test_a_student_of_soft_targets_answers_as_one_of_labels_however_often_rare_faces_are_drawn(repeats: int, share: float) -> None:
    """Two expressions that overlap, 1,200 faces to 60: a soft target keeps that skew also where the rare faces are drawn 20 times."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.cat([torch.zeros(1200), torch.ones(60)]).long()
    faces = torch.stack([torch.ones(1260), torch.randn(1260, generator=generator) + 2 * labels], 1)
    hard, counts = torch.nn.functional.one_hot(labels, 2).float(), torch.tensor([1200, 60])
    classes = Classes(torch.arange(2), (counts.max() / counts).float(), counts)

    def loss_of(name: str, classes: Classes) -> ExpressionLoss:
        return build_loss(TypeAdapter(REGISTERED.params_of(name)).validate_python(entry("loss", name)), classes)

    teacher = torch.softmax(faces @ fitted(loss_of("plain", classes), faces, hard), 1)
    mass = TargetMass.of(hard, teacher, share)
    loss = loss_of("logit_adjusted", with_mass(classes, mass))
    shown = torch.tensor([1200.0, 60 * repeats], dtype=torch.float64)
    loss.start_epoch(EpochStart(0, 1, mass.drawn(shown / shown.sum())))
    rows = torch.cat([torch.arange(1200), 1200 + torch.arange(60).repeat(repeats)])
    student = fitted(loss, faces[rows], softened(hard, teacher, share)[rows])
    of_labels = fitted(loss_of("logit_adjusted", classes), faces, hard)
    differing = ((faces @ student).argmax(1) != (faces @ of_labels).argmax(1)).float()
    assert max(float(differing[labels == label].mean()) for label in (0, 1)) < 0.05


def test_learned_task_weights_and_a_loss_without_a_bound_are_refused() -> None:
    shipped = document(sampler="plan", loss=entry("loss", "elr"), task=entry("task", "both", weighting="uncertainty"))
    with pytest.raises(UserError, match=r"^params.yaml: losses.chosen: loss elr can be negative, .*choose fixed"):
        parse(shipped, "train", TrainerParams)
    parse(document(sampler="plan", loss=entry("loss", "elr"), task=entry("task", "both")), "train", TrainerParams)


WEIGHTED = {
    "weighted": entry("loss", "weighted"),
    "focal": entry("loss", "focal", weighted=True),
    "ldam": entry("loss", "ldam"),
    "dynamic": entry("loss", "dynamic", start="weights"),
    "dynamic_learned": entry("loss", "dynamic_learned", start="weights"),
}


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS} - {"plan"}))
@pytest.mark.parametrize("loss", WEIGHTED.values(), ids=WEIGHTED)
def test_class_weights_and_a_sampler_that_shows_rare_expressions_more_often_are_refused(loss: dict[str, Any], sampler: str) -> None:
    with pytest.raises(UserError, match=rf"^params.yaml: train\.sampler: .*count twice; choose plan, or loss plain, got '{sampler}'$"):
        parse(document(loss=loss, sampler=sampler), "train", TrainerParams)
    parse(document(loss=loss, sampler="plan"), "train", TrainerParams)
    parse(document(loss=loss, sampler=sampler, task=entry("task", "affect")), "train", TrainerParams)


@pytest.mark.parametrize("loss", read_document(ROOT / "params.yaml")["losses"])
def test_every_loss_without_class_weights_takes_every_sampler(loss: str) -> None:
    changes: dict[str, dict[str, Any]] = {"ldam": {"reweight_from": 1.0}, "weighted": {"function": "plain"}}
    for sampler in SAMPLERS:
        parse(document(loss=entry("loss", loss, **changes.get(loss, {})), sampler=sampler), "train", TrainerParams)


WHOLE = {**TINY, "architecture": "vgg16", "dropout": 0.0}
"""A network whose outputs for a face depend on no other face and on no draw."""
CATALOGUE = read_document(ROOT / "params.yaml")["losses"]
SHARPENED: dict[str, dict[str, Any]] = {
    "plain": {"label_smoothing": 0.1},
    "focal": {"weighted": True},
    "ldam": {"reweight_from": 0.0},
    "dynamic": {"start": "weights"},
    "dynamic_learned": {"start": "weights", "every": 1, "rate": 0.5},
    "eac": {"consistency": 50.0},
}
"""Settings of losses with a larger effect in one step than the catalogue's."""
LOSSES = {name: entry("loss", name, **SHARPENED.get(name, {})) for name in CATALOGUE}
OBJECTIVES = {
    **{name: {"loss": loss} for name, loss in LOSSES.items()},
    **{f"affect, {kind}": {"task": entry("task", "affect", affect_loss=kind)} for kind in ("mse", "ccc", "sum")},
    **{f"both, {how}": {"task": entry("task", "both", weighting=how), "loss": LOSSES["weighted"]} for how in ("fixed", "uncertainty")},
    "sam": {"optimizer": entry("optimizer", "sam"), "loss": LOSSES["weighted"]},
}


def step(training: Trainer, count: int) -> tuple[float, list[torch.Tensor], torch.Tensor]:
    """A step over 23 faces in `count` parts: its loss, its gradients, and the class weights after it."""
    rows = torch.from_numpy(np.random.default_rng(3).permutation(sum(COUNTS))[:23])
    training._start_epoch(0)
    parts = list(training.loader.load(torch.tensor_split(rows, count), torch.Generator()))
    loss = float(training.optimizer.step(lambda: training._gradients(parts)))  # type: ignore[arg-type, return-value]
    training.loss.after_step([part.targets for part in parts])
    learned = [*training.network.parameters(), *training.objective.parameters()]
    return loss, [parameter.grad for parameter in learned if parameter.grad is not None], training.objective.expression.weight


@pytest.mark.parametrize("changes", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_step_in_parts_has_the_loss_and_the_gradient_of_the_whole(changes: dict[str, Any]) -> None:
    whole, in_parts = (
        [step(trainer(WHOLE, augmentation=entry("augmentation", "none"), accumulate=count, **changes), count) for count in counts]
        for counts in ((1,), (2, 4))
    )
    for result in in_parts:
        assert result[0] == pytest.approx(whole[0][0], rel=1e-5)
        torch.testing.assert_close(result[1:], whole[0][1:], rtol=2e-4, atol=1e-6)


def test_a_step_in_parts_draws_its_dropout_once_and_counts_its_batch_statistics_once() -> None:
    changes: dict[str, Any] = {
        "loss": LOSSES["weighted"],
        "task": entry("task", "both"),
        "augmentation": entry("augmentation", "none"),
        "accumulate": 3,
    }
    at_once, in_parts = trainer(**changes), trainer(**changes)
    parts = list(at_once.loader.load(torch.tensor_split(torch.arange(0, 60, 3), 3), torch.Generator()))
    at_once._start_epoch(0)
    loss = at_once._loss(parts, [at_once._outputs(part) for part in parts])  # with the graphs of all parts in memory
    loss.backward()  # type: ignore[no-untyped-call]
    in_parts._start_epoch(0)
    assert float(in_parts._gradients(parts)) == pytest.approx(float(loss.detach()), rel=1e-5)
    pairs = zip(at_once.network.named_parameters(), in_parts.network.parameters(), strict=True)
    for (name, expected), parameter in pairs:
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=2e-4, atol=1e-6, msg=name)
    torch.testing.assert_close(in_parts.network.state_dict(), at_once.network.state_dict())


def test_no_two_generators_of_a_training_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random streams of start weights, dropout, augmentation and look-ahead, each by its next draw, in three epochs of seed 0."""
    seeds: list[int] = []
    seed_all = torch.manual_seed

    def recording(seed: int) -> torch.Generator:
        seeds.append(seed)
        return seed_all(seed)

    monkeypatch.setattr(torch, "manual_seed", recording)
    training = trainer(loss=LOSSES["dynamic_learned"], seed=0)
    drawn = [torch.rand(4, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    assert isinstance(training.loss, DynamicLearnedLoss)
    for epoch in range(3):
        _, augmentation = training._start_epoch(epoch)
        drawn += [torch.rand(4), torch.rand(4, generator=augmentation), torch.rand(4, generator=training.loss.generator)]
    assert len(seeds) == 4 and len({tuple(row.tolist()) for row in drawn}) == len(drawn) == 10


def test_early_learning_averages_the_answers_of_each_face_once_per_step() -> None:
    """Liu et al. 2020, from an average of 0: the penalty is that of the new average, and SAM's two passes count once."""
    training = trainer(loss=LOSSES["elr"], optimizer=entry("optimizer", "sam"), augmentation=entry("augmentation", "none"))
    rows = torch.tensor([3, 50, 20])
    training._start_epoch(0)
    (part,) = training.loader.load([rows], torch.Generator())
    assert isinstance(training.loss, EarlyLearning) and part.targets.rows is not None and part.targets.rows.tolist() == rows.tolist()
    outputs = training._outputs(part)
    p = torch.softmax(training.loss.adjusted(outputs, part.targets.expression), 1)
    expected = 3.0 * torch.log(1 - 0.3 * (p * p).sum(1)).mean()
    torch.testing.assert_close(training.loss.penalty(outputs, part.targets), expected, rtol=1e-3, atol=1e-5)
    assert not training.loss.averages.any()
    training.optimizer.step(lambda: training._gradients([part]))  # type: ignore[arg-type, return-value]
    training.loss.after_step([part.targets])
    averages = training.loss.averages
    torch.testing.assert_close(averages[rows].sum(1), torch.full((3,), 0.3))
    assert averages.sum() == pytest.approx(0.9) and torch.equal(training.state()["objective"]["expression.averages"], averages)
    assert training.loss.penalty(outputs, Targets(part.targets.expression, part.targets.affect)) == 0.0  # validation


@pytest.mark.parametrize("model", [{**TINY, "image_px": 64}, tiny(architecture="resnet18", image_px=64)], ids=["vgg", "resnet"])
def test_attention_maps_average_to_the_logits_and_a_mirrored_face_has_the_same_penalty(model: dict[str, Any]) -> None:
    training = trainer({**model, "dropout": 0.0}, loss=LOSSES["eac"])
    training.network.eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs, mirrored = (training.loss.outputs(training.network, one) for one in (images, images.flip(3)))
    logits = outputs[:, :3]
    maps, maps_of_mirrored = (one[:, 3:].reshape(2, 2, 3, 2, 2) for one in (outputs, mirrored))  # 2 × 2 places at 64 px
    torch.testing.assert_close(maps[:, 0].mean((2, 3)) + last_linear(training.network)[1].bias, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps[:, 1], maps_of_mirrored[:, 0].flip(3), rtol=1e-4, atol=1e-5)
    targets = Targets(torch.eye(3)[:2], torch.zeros(2, 2))
    penalty = float(training.loss.penalty(outputs, targets))
    assert penalty == pytest.approx(50 * float(((maps[:, 0] - maps[:, 1]) ** 2).mean()), rel=1e-5) and penalty > 1e-4
    assert float(training.loss.penalty(mirrored, targets)) == pytest.approx(penalty, rel=1e-4)
    assert training.loss.penalty(logits, targets) == 0.0  # validation


def test_a_network_without_attention_maps_and_mixed_faces_are_refused_where_the_loss_needs_them() -> None:
    with pytest.raises(UserError, match=r"^params.yaml: loss: eac needs a network whose last layer is linear on the mean") as caught:
        trainer({**TINY, "head": "original"}, loss=LOSSES["eac"])
    assert "\n" not in str(caught.value)
    shipped = document(loss=LOSSES["elr"], sampler="plan")
    shipped["train"]["augmentation"] = "strong"
    with pytest.raises(UserError, match=r"^params.yaml: augmentations.strong: loss elr keeps an average per face, .* without mixup"):
        parse(shipped, "train", TrainerParams)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"loss": LOSSES["ldam"]},
            r"^params.yaml: train.targets: loss ldam is defined for one label per face; choose hard, or another loss",
        ),
        ({"task": entry("task", "affect")}, r"^params.yaml: train.targets: the task has no expressions; choose hard, or another task"),
    ],
    ids=["ldam", "affect"],
)
def test_soft_targets_that_nothing_could_learn_are_refused(changes: dict[str, Any], problem: str) -> None:
    shipped = document(sampler="plan", **changes)
    for targets in ("soft", "mixed"):
        shipped["train"]["targets"] = targets
        with pytest.raises(UserError, match=problem):
            parse(shipped, "train", TrainerParams)


def test_a_teacher_without_a_part_in_the_targets_is_refused() -> None:
    shipped = document(sampler="plan")
    shipped["train"]["teacher"] = "teacher.safetensors"
    with pytest.raises(UserError, match=r"^params.yaml: train.teacher: has no part in hard targets; set train.targets to soft or mixed"):
        parse(shipped, "train", TrainerParams)
    shipped["train"] |= {"targets": "mixed", "teacher": ["one.safetensors", "two.safetensors"]}
    assert parse(shipped, "train", TrainerParams).teacher == ("one.safetensors", "two.safetensors")
    for wrong in (3, [""], [None], {"a": "b"}):
        shipped["train"]["teacher"] = wrong
        with pytest.raises(UserError, match=r"^params.yaml: train\.teacher"):
            parse(shipped, "train", TrainerParams)
