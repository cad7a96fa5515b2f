import csv
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from chain import TINY, local, metrics, run_data_stages, run_stage
from model_files import metadata
from trees import tree_2017, tree_folder

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.checkpoint import save_model
from affectnet.models.dataset import load_faces
from affectnet.models.network import build
from affectnet.models.outputs import Averaging, Outputs
from affectnet.reporting import split_predictions
from affectnet.tables.face_shards import read_policy

AVERAGINGS = get_args(Averaging)


def write_model(labels: tuple[str, ...] = EXPRESSIONS, **changes: Any) -> None:
    torch.manual_seed(0)
    described = metadata(**{"labels": labels, "temperature": 2.0, "crop": read_policy(Path("data/faces"), "test"), **changes})
    save_model(Path("models/model.safetensors"), build(ModelParams.model_validate(TINY), described.outputs), described)
    curve = Path("metrics/train/plots/metrics/train/loss.tsv")
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.write_text("step\ttrain/loss\n0\t2.0\n1\t1.5\n")


@pytest.fixture
def prepared(workspace: Path) -> Path:
    run_data_stages(tree_2017(workspace / "root", tests=5))
    write_model()
    return workspace


def test_scores_intervals_and_floors_stand_next_to_each_other(prepared: Path) -> None:
    run_stage("evaluate")
    report = metrics("evaluate")
    assert report["faces"] == 40 and report["selection"] == {"epoch": 2, "score": 0.5, "validation_macro_f1": 0.5}
    assert set(report["expression"]["recall"]) == set(EXPRESSIONS)
    for name in ("accuracy", "macro_f1"):
        spread = report["interval"]["expression"][name]
        assert spread["low"] <= report["expression"][name] <= spread["high"]
    assert report["floor"]["expression"]["accuracy"] == 0.125


def answer(monkeypatch: pytest.MonkeyPatch, column: int | None) -> None:
    """Makes every model predict this column, or with None the label."""
    truth: list[torch.Tensor] = []
    original = load_faces

    def remembering(*arguments: Any) -> Any:
        faces = original(*arguments)
        truth.append(faces.expression)
        return faces

    def logits(_network: Any, images: torch.Tensor, *_: Any) -> Outputs:
        columns = truth[0] if column is None else [column] * len(images)
        return Outputs(10 * np.eye(8, dtype=np.float32)[columns], np.empty((len(images), 0), np.float32))

    monkeypatch.setattr(split_predictions, "load_faces", remembering)
    monkeypatch.setattr(split_predictions, "predict", logits)


def test_a_perfect_model_scores_one_everywhere(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, None)
    run_stage("evaluate")
    report = metrics("evaluate")
    assert {report["expression"][name] for name in ("accuracy", "macro_f1", "kappa", "alpha", "auc", "aucpr")} == {1}
    assert report["interval"]["expression"]["accuracy"] == {"low": 1, "high": 1}


def test_the_label_order_is_the_model_files_own(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(labels=tuple(reversed(EXPRESSIONS)))
    answer(monkeypatch, 0)
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
    assert Path("metrics/evaluate/learning.csv").read_text().startswith("epoch,train_loss,")


def test_one_model_gives_eight_and_seven_class_scores(prepared: Path) -> None:
    run_stage("evaluate")
    report = metrics("evaluate")
    assert len(report["expression"]["recall"]) == 8 and len(report["expression_7"]["recall"]) == 7
    assert "Contempt" not in report["expression_7"]["recall"] and report["floor"]["expression_7"]["accuracy"] == pytest.approx(1 / 7)


def test_the_temperature_changes_calibration_and_no_answer(prepared: Path) -> None:
    run_stage("evaluate")
    soft = metrics("evaluate")
    write_model(temperature=1.0)
    run_stage("evaluate")
    plain = metrics("evaluate")
    assert soft["expression"] == plain["expression"] and soft["calibration"]["temperature"] == 2
    assert soft["calibration"]["nll_uncalibrated"] == plain["calibration"]["nll"] != soft["calibration"]["nll"]


def test_valence_and_arousal_are_each_scored_with_the_expressions(prepared: Path) -> None:
    write_model(affect=True)
    run_stage("evaluate")
    report = metrics("evaluate")
    assert set(report["valence"]) == set(report["arousal"]) == {"rmse", "corr", "sagr", "ccc"} and "expression" in report
    assert report["floor"]["arousal"]["ccc"] == 0 and report["interval"]["valence"]["rmse"]["low"] <= report["valence"]["rmse"]
    assert "predicted, 40 faces" in Path("metrics/evaluate/circumplex.svg").read_text()


def test_a_model_of_valence_and_arousal_only_has_no_expression_score(prepared: Path) -> None:
    write_model(labels=(), affect=True)
    line = run_stage("evaluate")
    assert "valence CCC" in line and "accuracy" not in line and "expression" not in metrics("evaluate")
    assert Path("metrics/evaluate/confusion.csv").read_text() == "actual,predicted\n"


def test_a_test_split_without_valence_and_arousal_is_said_and_scored_for_the_rest(workspace: Path) -> None:
    run_data_stages(tree_folder(workspace / "root"))
    write_model(labels=EXPRESSIONS[:7], affect=True)
    line = run_stage("evaluate")
    assert "valence and arousal annotated in 0" in line and metrics("evaluate")["annotated"] == 0
    assert "expression" in metrics("evaluate") and "valence" not in metrics("evaluate")


def test_each_averaging_gives_answers_of_its_own_and_is_a_param(prepared: Path) -> None:
    model, faces, runtime = Path("models/model.safetensors"), Path("data/faces"), local()
    by_view = {averaging: split_predictions.predict_split(model, faces, runtime, averaging) for averaging in AVERAGINGS}
    assert not np.allclose(by_view["none"].logits, by_view["flip"].logits)
    for averaging, one in by_view.items():
        run_stage("evaluate", averaging=averaging)
        likelihood = -np.log(one.probabilities[np.arange(len(one)), one.true]).mean()
        assert metrics("evaluate")["calibration"]["nll"] == pytest.approx(likelihood, abs=1e-6)
    assert (
        len({one.logits.sum() for one in by_view.values()})
        == len({one.metadata.temperature for one in by_view.values()})
        == len(AVERAGINGS)
    )
    assert by_view["none"].metadata.temperature == 2.0


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
    write_model(crop={**read_policy(Path("data/faces"), "test"), "margin": 0.3})
    with pytest.raises(UserError, match=r"another policy than the training faces of .* \(margin differ"):
        run_stage("evaluate")
