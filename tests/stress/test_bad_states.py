"""Broken resume states: training starts from the first epoch and logs it, or resumes; the model's bytes are the same."""

import io
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import TINY, forget_training, place_pipeline, run_data_stages, run_stage
from tally import Tally, every
from trees import tree_2017

from affectnet.files.cache_dir import cache_folder
from affectnet.training.trainer import Trainer

State = dict[str, Any]
MODEL = Path("models/model.safetensors")
EPOCHS = 3


def fit() -> str:
    return run_stage("train", model=TINY, epochs=EPOCHS, batch=16)


class Training:
    """A training interrupted in its last epoch: its state, and the model that it must end with."""

    def __init__(self, folder: Path) -> None:
        place_pipeline(folder)
        self.folder = folder
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            run_data_stages(tree_2017(folder / "root", each=8, tests=2), clean={"validation_share": 0.25})
            fit()
            self.model = MODEL.read_bytes()
            forget_training()
            original, calls = Trainer.validate, []

            def interrupted(trainer: Trainer) -> Any:
                calls.append(1)
                if len(calls) == EPOCHS:
                    raise KeyboardInterrupt
                return original(trainer)

            patch.setattr(Trainer, "validate", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fit()
            (self.path,) = (path.resolve() for path in cache_folder("resume").rglob("last.pt"))
        self.left = self.path.read_bytes()

    def state(self) -> State:
        state: State = torch.load(io.BytesIO(self.left), weights_only=True)
        return state


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    return Training(tmp_path_factory.mktemp("training"))


def first(tensors: dict[str, Any]) -> torch.Tensor:
    """The first matrix among the tensors, or a whole convolution."""
    weights: torch.Tensor = next(tensor for tensor in tensors.values() if tensor.dim() > 1)
    return weights


def smaller(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor[:1] if tensor.dim() else tensor for name, tensor in tensors.items()}


def moments(state: State) -> dict[str, Any]:
    moments: dict[str, Any] = state["optimizer"]["state"][0]
    return moments


def without(part: str, state: State) -> State:
    return {name: value for name, value in state.items() if name != part}


def change(state: State, part: str, **changes: Any) -> State:
    return {**state, part: {**state[part], **changes}}


PARTS = ("network", "optimizer", "objective", "progress")
STATES: dict[str, Callable[[State], Any]] = {
    "nothing": lambda state: None,
    "a list": lambda state: [state],
    "no key": lambda state: {},
    **{f"without {part}": partial(without, part) for part in PARTS},
    "weights of another shape": lambda state: {**state, "network": smaller(state["network"])},
    "weights of another network": lambda state: {**state, "network": {"a": torch.zeros(2)}},
    "half of the weights": lambda state: {**state, "network": dict(list(state["network"].items())[::2])},
    "best weights of another shape": lambda state: change(state, "progress", best_weights=smaller(state["progress"]["best_weights"])),
    "no best weights": lambda state: change(state, "progress", best_weights={}),
    "moments of another shape": lambda state: (moments(state).update(exp_avg=torch.zeros(3)), state)[1],
    "moments of nobody": lambda state: (state["optimizer"]["state"].update({999: moments(state)}), state)[1],
    "moments that are text": lambda state: (state["optimizer"]["state"].update({0: "x"}), state)[1],
    "settings of another optimiser": lambda state: (state["optimizer"]["param_groups"][0].pop("betas"), state)[1],
    "other groups": lambda state: change(state, "optimizer", param_groups=[]),
    "loss weights of another shape": lambda state: change(state, "objective", **smaller({"expression.weight": torch.ones(8)})),
    "NaN in the weights": lambda state: (first(state["network"])[0].fill_(torch.nan), state)[1],
    "NaN in the best weights": lambda state: (first(state["progress"]["best_weights"])[0].fill_(torch.nan), state)[1],
    "infinity in the moments": lambda state: (moments(state)["exp_avg_sq"][0].fill_(torch.inf), state)[1],
    "NaN in the history": lambda state: (state["progress"]["history"][0].update({"train/loss": float("nan")}), state)[1],
    "NaN as the best score": lambda state: change(state, "progress", best_score=float("nan")),
    "an epoch of the future": lambda state: change(state, "progress", epoch=99),
    "an epoch below 0": lambda state: change(state, "progress", epoch=-1),
    "an epoch as text": lambda state: change(state, "progress", epoch="two"),
    "no best epoch": lambda state: change(state, "progress", best_epoch=0),
    "a best epoch of the future": lambda state: change(state, "progress", best_epoch=3),
    "no history": lambda state: change(state, "progress", history=[]),
    "history that tells nothing": lambda state: change(state, "progress", history=[{}, {}]),
    "progress of nobody": lambda state: change(state, "progress", evil=1),
}  # fmt: skip


def resumed(training: Training, content: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """How a training with this content as its state ends; its model must have the expected bytes."""
    monkeypatch.chdir(training.folder)
    shutil.rmtree(training.path.parent, ignore_errors=True)
    training.path.parent.mkdir(parents=True)
    training.path.write_bytes(content)
    capsys.readouterr()
    fit()
    assert MODEL.read_bytes() == training.model
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("resume: ")
    if line.startswith(f"resume: continuing after epoch {EPOCHS - 1} of "):
        return "resumed; same bytes"
    assert line.endswith("starting from the first epoch")
    return "from the first epoch, said; same bytes"


@pytest.mark.parametrize("name", every(list(STATES), 6))
def test_a_state_of_another_training_starts_afresh(
    name: str, training: Training, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    buffer = io.BytesIO()
    torch.save(STATES[name](training.state()), buffer)
    outcome = resumed(training, buffer.getvalue(), monkeypatch, capsys)
    assert "first epoch" in outcome
    tally("broken resume states", outcome)


def test_the_state_as_it_was_left_is_resumed(
    training: Training, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    outcome = resumed(training, training.left, monkeypatch, capsys)
    assert outcome.startswith("resumed")
    tally("sound resume states", outcome)


@pytest.mark.parametrize("share", every([0.0, 0.001, *np.linspace(0.1, 0.9, 9).tolist(), 0.999], 2))
def test_a_truncated_state_starts_afresh(
    share: float, training: Training, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    outcome = resumed(training, training.left[: int(len(training.left) * share)], monkeypatch, capsys)
    assert "first epoch" in outcome
    tally("broken resume states", outcome)


@pytest.mark.parametrize("seed", every(range(30), 2))
def test_a_flipped_bit_starts_afresh_or_changes_nothing(
    seed: int, training: Training, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    content, generator = bytearray(training.left), np.random.default_rng(seed)
    content[int(generator.integers(len(content)))] ^= 1 << int(generator.integers(8))
    tally("resume states with a flipped bit", resumed(training, bytes(content), monkeypatch, capsys))
