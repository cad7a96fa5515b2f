import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from chain import TINY, run_data_stages, run_stage
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from trees import tree_2017, tree_folder

from affectnet.errors import UserError
from affectnet.modelfile import load_model
from affectnet.plan import CLASS_WEIGHTS
from affectnet.scratch import scratch
from stages import train
from stages.train import Targets, TrainParams, learned, steps_of_epoch

MODEL = Path("models/model.safetensors")


@pytest.fixture
def prepared(workspace: Path) -> Path:
    run_data_stages(tree_2017(workspace / "root", each=8, tests=2), clean={"validation_share": 0.25})
    return workspace


def fit(**changes: Any) -> str:
    return run_stage("train", **{"model": TINY, "epochs": 3, "batch": 16, **changes})


def curves() -> dict[str, list[float]]:
    folder = Path("metrics/train/plots/metrics")
    return {
        file.relative_to(folder).with_suffix("").as_posix(): [float(line.split("\t")[1]) for line in file.read_text().splitlines()[1:]]
        for file in folder.rglob("*.tsv")
    }


def test_the_same_inputs_give_the_same_bytes_and_another_seed_others(prepared: Path) -> None:
    fit()
    first, logged = MODEL.read_bytes(), curves()
    fit()
    assert MODEL.read_bytes() == first and curves() == logged
    fit(seed=12)
    assert MODEL.read_bytes() != first


def test_a_training_learns_what_it_is_shown(prepared: Path) -> None:
    fit(epochs=12, batch=8, augmentation="none", optimizer={**adam(), "lr": 3e-3}, model={**TINY, "dropout": 0.0})
    assert curves()["train/loss"][-1] < 0.5 * curves()["train/loss"][0]


def adam() -> dict[str, Any]:
    return {"algorithm": "adam", "lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0, "nesterov": False}


def test_the_model_file_says_all_that_is_needed_to_use_it(prepared: Path) -> None:
    line = fit()
    _, card = load_model(MODEL)
    assert (card.labels[0], card.labels[-1], card.image_px) == ("Neutral", "Contempt", 32)
    assert card.crop["image_px"] == 224 and len(card.data) == 64 and card.training["params"]["epochs"] == 3
    best = int(np.argmax(curves()["validation/macro_f1"]))
    assert card.training["epoch"] == best + 1 and card.training["validation/macro_f1"] == curves()["validation/macro_f1"][best]
    assert f"best is epoch {best + 1}" in line
    assert json.loads(Path("metrics/train/environment.json").read_text())["torch"] == torch.__version__


def test_an_interrupted_training_ends_as_an_uninterrupted_one(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(epochs=4)
    whole, logged = MODEL.read_bytes(), curves()
    MODEL.unlink()
    original = train.Trainer.validate

    def interrupted(self: train.Trainer, faces: Any) -> dict[str, float]:
        interrupted.calls += 1  # type: ignore[attr-defined]
        if interrupted.calls == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return original(self, faces)

    interrupted.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(train.Trainer, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(epochs=4)
    assert not MODEL.exists()
    resumed: list[int] = []

    def counting(self: train.Trainer, faces: Any) -> dict[str, float]:
        resumed.append(1)
        return original(self, faces)

    monkeypatch.setattr(train.Trainer, "validate", counting)
    fit(epochs=4)
    assert len(resumed) == 2 and MODEL.read_bytes() == whole and curves() == logged


def test_training_ends_when_patience_does(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.1, 0.5, 0.5, 0.2, 0.9, 0.9])
    monkeypatch.setattr(
        train.Trainer, "validate", lambda *_: {"validation/loss": 1.0, "validation/accuracy": 0.1, "validation/macro_f1": next(scores)}
    )
    assert "4 epochs on cpu; best is epoch 2" in fit(epochs=6, patience=2)


def test_the_plan_and_not_the_split_is_what_an_epoch_shows(prepared: Path) -> None:
    run_stage("rebalance", method="downsample", limit=3)
    assert "train: 24 faces an epoch" in fit(epochs=1)


def test_frozen_epochs_change_the_head_alone(prepared: Path) -> None:
    fit(epochs=1, model={**TINY, "freeze_epochs": 1})
    frozen = load_file(MODEL)
    fit(epochs=1, model={**TINY, "freeze_epochs": 1}, optimizer={**adam(), "lr": 1e-2})
    other = load_file(MODEL)
    changed = {name.split(".")[0] for name in frozen if not torch.equal(frozen[name], other[name])}
    assert changed == {"classifier"}


def test_a_loss_that_is_no_number_is_one_line_that_names_the_place(prepared: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is no number at epoch 1, step \d+, learning rate .*; lower optimizers") as caught:
        fit(optimizer={**adam(), "algorithm": "sgd", "lr": 1e12})
    assert not MODEL.exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_optimiser_and_precision_trains(prepared: Path, optimizer: str, precision: str) -> None:
    fit(epochs=1, precision=precision, optimizer={**adam(), "algorithm": optimizer, "nesterov": optimizer == "sgd"})
    assert np.isfinite(curves()["train/loss"]).all()


def test_a_class_without_faces_is_no_output_of_the_network(workspace: Path) -> None:
    run_data_stages(tree_folder(workspace / "root"))
    fit(epochs=1)
    network, card = load_model(MODEL)
    assert len(card.labels) == 7 and "Contempt" not in card.labels
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_the_test_split_is_never_opened(prepared: Path) -> None:
    for shard in Path("data/faces").glob("test-*"):
        shard.unlink()
    fit(epochs=1)


def test_decoded_pixels_are_kept_and_the_state_is_not(prepared: Path) -> None:
    fit(epochs=1)
    assert len(list(scratch("decoded").iterdir())) == 2
    assert not any(path.is_file() and path.suffix != ".lock" for path in scratch("resume").rglob("*"))


def test_a_damaged_shard_is_one_line(prepared: Path) -> None:
    shard = next(Path("data/faces").glob("train-*"))
    table = pq.read_table(shard)
    images = [{"bytes": b"no image", "path": row["path"]} for row in table["image"].to_pylist()]
    pq.write_table(table.set_column(0, table.schema.field("image"), pa.array(images, table.schema.field("image").type)), shard)
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet.*no readable image") as caught:
        fit(epochs=1)
    assert "\n" not in str(caught.value)


@given(st.integers(1, 200), st.integers(2, 64), st.integers(0, 5))
def test_an_epoch_shows_each_planned_face_once_in_batches_of_like_length(count: int, batch: int, epoch: int) -> None:
    steps = steps_of_epoch(np.arange(count), batch, 0, epoch)
    lengths = [len(step) for step in steps]
    assert sorted(torch.cat(steps).tolist()) == list(range(count)) and max(lengths) <= batch and max(lengths) - min(lengths) <= 1
    assert all(torch.equal(a, b) for a, b in zip(steps, steps_of_epoch(np.arange(count), batch, 0, epoch), strict=True))


def weights(planned: list[int]) -> pa.Table:
    codes = range(8)
    columns = {
        "expression": codes,
        "name": ["x"] * 8,
        "count": planned,
        "planned": planned,
        "weight": [float(n > 0) * (n + 1) for n in planned],
    }
    return pa.table({name: pa.array(list(values), CLASS_WEIGHTS.schema.field(name).type) for name, values in columns.items()})


def test_only_planned_expressions_are_learned_and_others_are_ignored_by_the_loss() -> None:
    targets: Targets = learned(weights([5, 0, 7, 0, 0, 0, 0, 9]))
    assert targets.labels == ("Neutral", "Sad", "Contempt") and targets.weights.tolist() == [6, 8, 10]
    assert targets.index(torch.tensor([0, 1, 2, 7])).tolist() == [0, -100, 1, 2]
    with pytest.raises(UserError, match="the plan shows 1 expression"):
        learned(weights([5, 0, 0, 0, 0, 0, 0, 0]))


def test_unknown_keys_of_the_selected_entry_are_refused() -> None:
    with pytest.raises(ValueError, match="extra"):
        TrainParams.model_validate({"model": {**TINY, "depth": 3}})
