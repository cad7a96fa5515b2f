import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import TINY, metrics, run_data_stages, run_stage
from trees import tree_2017, tree_folder

from affectnet.dataset import load_faces
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.faces import read_policy
from affectnet.modelfile import Card, save_model
from affectnet.network import ModelParams, build
from stages import evaluate
from stages.evaluate import expression_report


def write_model(labels: tuple[str, ...] = EXPRESSIONS, **changes: Any) -> None:
    torch.manual_seed(0)
    policy = read_policy(Path("data/faces"))
    content: dict[str, Any] = {
        "model": TINY, "labels": labels, "image_px": 32, "mean": (0.5,) * 3, "std": (0.2,) * 3, "crop": policy, "data": "0",
        "training": {"epoch": 2, "epochs": 3, "validation/macro_f1": 0.5}, "versions": {},
    }  # fmt: skip
    save_model(Path("models/model.safetensors"), build(ModelParams.model_validate(TINY), len(labels)), Card(**{**content, **changes}))
    curve = Path("metrics/train/plots/metrics/train/loss.tsv")
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.write_text("step\ttrain/loss\n0\t2.0\n1\t1.5\n")


@pytest.fixture
def prepared(workspace: Path) -> Path:
    run_data_stages(tree_2017(workspace / "root", tests=5))
    write_model()
    return workspace


def test_scores_intervals_and_floors_stand_beside_each_other(prepared: Path) -> None:
    run_stage("evaluate")
    found = metrics("evaluate")
    assert found["faces"] == 40 and found["selection"] == {"epoch": 2, "validation_macro_f1": 0.5}
    assert set(found["expression"]["recall"]) == set(EXPRESSIONS)
    for name in ("accuracy", "macro_f1"):
        spread = found["interval"]["expression"][name]
        assert spread["low"] <= found["expression"][name] <= spread["high"]
    assert found["floor"]["expression"]["accuracy"] == 0.125


def test_a_perfect_model_scores_one_everywhere(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth: list[torch.Tensor] = []
    original = load_faces

    def remembering(*given: Any) -> Any:
        faces = original(*given)
        truth.append(faces.expression)
        return faces

    monkeypatch.setattr(evaluate, "load_faces", remembering)
    monkeypatch.setattr(evaluate, "logits", lambda *_: torch.nn.functional.one_hot(truth[0], 8).float())
    run_stage("evaluate")
    found = metrics("evaluate")
    assert found["expression"]["accuracy"] == found["expression"]["macro_f1"] == 1
    assert found["interval"]["expression"]["accuracy"] == {"low": 1, "high": 1}


def test_the_label_order_is_the_model_files_own(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reverse = tuple(reversed(EXPRESSIONS))
    write_model(labels=reverse)
    monkeypatch.setattr(evaluate, "logits", lambda _network, images, *_: torch.eye(8)[[0] * len(images)])
    run_stage("evaluate")
    with Path("metrics/evaluate/confusion.csv").open() as lines:
        assert {row["predicted"] for row in csv.DictReader(lines)} == {"Contempt"}


def test_tables_name_no_file_and_no_row_can_be_traced(prepared: Path) -> None:
    run_stage("evaluate")
    lines = Path("metrics/evaluate/confusion.csv").read_text().splitlines()
    assert lines[0] == "actual,predicted" and len(lines) == 41
    order = {name: code for code, name in enumerate(EXPRESSIONS)}
    pairs = [tuple(order[name] for name in line.split(",")) for line in lines[1:]]
    assert pairs == sorted(pairs)
    assert Path("metrics/evaluate/curves.csv").read_text() == "epoch,train_loss\n1,2.0\n2,1.5\n"


def test_seven_classes_are_scored_as_seven(workspace: Path) -> None:
    run_data_stages(tree_folder(workspace / "root"))
    write_model(labels=EXPRESSIONS[:7])
    run_stage("evaluate")
    assert "Contempt" not in metrics("evaluate")["expression"]["recall"]
    assert metrics("evaluate")["floor"]["expression"]["recall"]["Happy"] == pytest.approx(1 / 7)


def test_an_expression_that_the_model_does_not_know_counts_against_it(prepared: Path) -> None:
    write_model(labels=EXPRESSIONS[:7])
    run_stage("evaluate")
    assert metrics("evaluate")["expression"]["recall"]["Contempt"] == 0


def test_other_crops_than_the_models_own_are_refused(prepared: Path) -> None:
    write_model(crop={**read_policy(Path("data/faces")), "margin": 0.3})
    with pytest.raises(UserError, match=r"another policy than the model's training crops \(margin differ"):
        run_stage("evaluate")


def test_curves_that_are_not_there_are_one_line(prepared: Path) -> None:
    Path("metrics/train/plots/metrics/train/loss.tsv").unlink()
    with pytest.raises(UserError, match="holds no learning curves"):
        run_stage("evaluate")


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    """Over 200 draws of 400 answers that are right 8 of 10 times, the 95 % interval must hold 0.8 in 88–100 % of them."""
    generator, held = np.random.default_rng(3), 0
    for _ in range(200):
        right = generator.binomial(50, 0.8, 8)
        counts = np.diag(right)
        counts[np.arange(8), (np.arange(8) + 1) % 8] = 50 - right
        spread = expression_report(counts, list(EXPRESSIONS), 300, generator)["interval"]["expression"]["accuracy"]
        held += spread["low"] <= 0.8 <= spread["high"]
    assert 176 <= held <= 200
