"""One training's objective: what its sampler shows, what its loss corrects, and whose gradient a step takes."""

from typing import Any

import numpy as np
import pytest
import torch
from chain import ROOT, TINY, entry

from affectnet.dataset import Faces
from affectnet.distributed import Group
from affectnet.errors import UserError
from affectnet.losses import Classes, LdamLoss, LogitAdjustedLoss
from affectnet.params import parse, read_document
from affectnet.samplers import SamplerName
from affectnet.trainer import Trainer, TrainerParams

CPU = torch.device("cpu")
COUNTS = (40, 16, 8)
"""Training faces of three expressions."""
SHARES = {"plan": np.array(COUNTS) / sum(COUNTS), "balanced": np.full(3, 1 / 3), "square_root": np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()}
"""Of an epoch."""


def faces() -> Faces:
    generator = torch.Generator().manual_seed(4)
    expression = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    images = torch.randint(0, 256, (len(expression), 32, 32, 3), dtype=torch.uint8, generator=generator)
    valence, arousal = torch.rand(2, len(expression), generator=generator) * 2 - 1
    valence[::5] = arousal[::5] = float("nan")
    return Faces(images, expression, valence, arousal)


def trainer(model: dict[str, Any] = TINY, **changes: Any) -> Trainer:
    """A training of the three expressions, inversely weighted. changes: of the section `train` and the entries selected."""
    document = read_document(ROOT / "params.yaml")
    fields = {name: value for name, value in document["train"].items() if name in TrainerParams.model_fields}
    entries = {"model": model, "loss": entry("loss", "plain"), "task": entry("task", "expression"), "optimizer": entry("optimizer", "adam")}
    params = TrainerParams.model_validate({**fields, **entries, **changes})
    counts = torch.tensor(COUNTS)
    classes = Classes(torch.arange(3), counts.max() / counts, counts) if params.task.expressions else Classes(*[torch.empty(0)] * 3)
    return Trainer(params, Group(CPU), classes, np.arange(sum(COUNTS)), faces(), faces())


def drawn_shares(training: Trainer, epoch: int) -> np.ndarray:
    steps, _ = training._start_epoch(epoch)
    return np.bincount(faces().expression[torch.cat(steps)], minlength=3) / sum(COUNTS)


@pytest.mark.parametrize("sampler", [*SHARES, "progressive"])
@pytest.mark.parametrize("loss", ["logit_adjusted", "balanced_softmax", "ldam"])
def test_a_loss_corrects_for_the_shares_that_the_sampler_shows(loss: str, sampler: SamplerName) -> None:
    changes = {"reweight_from": 1.0} if loss == "ldam" else {}
    training = trainer(loss=entry("loss", loss, **changes), sampler=sampler, epochs=3)
    for epoch, done in enumerate((0.0, 0.5, 1.0)):
        expected = SHARES[sampler] if sampler in SHARES else (1 - done) * SHARES["plan"] + done * SHARES["balanced"]
        assert drawn_shares(training, epoch) == pytest.approx(expected, abs=0.17)
        corrected = training.objective.expression
        if isinstance(corrected, LogitAdjustedLoss):
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


WEIGHTED = {
    "weighted": entry("loss", "weighted"),
    "focal": entry("loss", "focal", weighted=True),
    "ldam": entry("loss", "ldam"),
    "dynamic": entry("loss", "dynamic", start="weights"),
    "dynamic_learned": entry("loss", "dynamic_learned", start="weights"),
}


@pytest.mark.parametrize("sampler", ["balanced", "square_root", "progressive"])
@pytest.mark.parametrize("loss", WEIGHTED.values(), ids=WEIGHTED)
def test_class_weights_and_a_sampler_that_shows_rare_expressions_more_often_are_refused(loss: dict[str, Any], sampler: str) -> None:
    with pytest.raises(UserError, match=rf"^params.yaml: train\.sampler: .*count twice; choose plan, or loss plain, got '{sampler}'$"):
        parse(document(loss=loss, sampler=sampler), "train", TrainerParams)
    parse(document(loss=loss, sampler="plan"), "train", TrainerParams)
    parse(document(loss=loss, sampler=sampler, task=entry("task", "affect")), "train", TrainerParams)


@pytest.mark.parametrize("loss", read_document(ROOT / "params.yaml")["losses"])
def test_every_loss_without_class_weights_takes_every_sampler(loss: str) -> None:
    changes: dict[str, dict[str, Any]] = {"ldam": {"reweight_from": 1.0}, "weighted": {"function": "plain"}}
    for sampler in ("plan", "balanced", "square_root", "progressive"):
        parse(document(loss=entry("loss", loss, **changes.get(loss, {})), sampler=sampler), "train", TrainerParams)
