import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from chain import local, metrics, refused, run_data_stages, run_stage
from model_files import write_model
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from trees import tree_2017, tree_folder, tree_plus

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.models.dataset import load_faces
from affectnet.models.outputs import Averaging, Outputs
from affectnet.reporting import groups, split_predictions
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.face_shards import read_policy
from stages.fingerprint import record_groups

AVERAGINGS = get_args(Averaging)


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
    rankings = {"auc", "aucpr", "skew_normalised"}
    assert all(soft["expression"][name] == plain["expression"][name] for name in soft["expression"].keys() - rankings)
    assert soft["calibration"]["temperature"] == 2
    assert soft["calibration"]["nll_uncalibrated"] == plain["calibration"]["nll"] != soft["calibration"]["nll"]


def test_rankings_are_those_of_the_calibrated_probabilities_that_users_get(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probability of one class orders the faces by all logits, so its order depends on the temperature, 2 here."""
    logits = np.random.default_rng(2).normal(0, 3, (40, 8)).astype(np.float32)
    monkeypatch.setattr(split_predictions, "predict", lambda *_: Outputs(logits, np.empty((40, 0), np.float32)))
    run_stage("evaluate")
    true = split_predictions.predict_split(Path("models/model.safetensors"), Path("data/faces"), local(), "none").true
    calibrated, raw = (roc_auc_score(true, softmax(logits / scale, 1), multi_class="ovr") for scale in (2, 1))
    assert metrics("evaluate")["expression"]["auc"] == pytest.approx(calibrated, abs=1e-6) and abs(calibrated - raw) > 0.001


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


@pytest.fixture
def plus(workspace: Path) -> Path:
    """The data stages over a tree of AffectNet+ with 64 test faces, and an untrained model."""
    run_data_stages(tree_plus(workspace / "root", each=4, tests=8))
    write_model()
    return workspace


def wrong_where(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[np.ndarray], np.ndarray]) -> None:
    """Makes the model right about test face n of a tree, whose expression is n % 8, except where it should be wrong."""

    def logits(_network: Any, images: torch.Tensor, *_: Any) -> Outputs:
        number = np.arange(len(images))
        return Outputs(10 * np.eye(8, dtype=np.float32)[(number + wrong(number)) % 8], np.empty((len(images), 0), np.float32))

    monkeypatch.setattr(split_predictions, "predict", logits)


def numbers_of(grouping: dict[str, Any]) -> dict[str, int]:
    return {name: group["n"] for name, group in grouping["group"].items()}


def test_the_groups_of_affectnet_plus_are_scored_as_put_in(plus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_where(monkeypatch, lambda number: number % 3 == 2)
    line = run_stage("evaluate", least_group=10, bootstrap=200)
    report = metrics("groups")
    subset, age, gender, race = (report["by"][name] for name in ("subset", "age", "gender", "race"))
    assert numbers_of(subset) == {"easy": 22, "challenging": 21, "difficult": 21}
    assert [group["accuracy"] for group in subset["group"].values()] == [1, 1, 0]
    gap = subset["gap"]["accuracy"]
    assert (gap["value"], gap["lowest"], gap["low"], gap["p"]) == (1, "difficult", 1, pytest.approx(1 / 201))
    assert gap["p_holm"] == pytest.approx(8 / 201)
    assert gender["gap"]["accuracy"]["p"] == 1  # women and men of the tree show other expressions: nothing can be shuffled
    assert numbers_of(age) == {"0–19": 20, "20–39": 20, "40–59": 20}
    assert age["small"] == {"groups": 1, "faces": 4} and age["small_groups"] == ["60 and older (4)"]
    assert numbers_of(gender) == {"female": 32, "male": 32} and numbers_of(race) == {"asian": 32, "white": 32}
    assert report["machine_estimates"] == ["age", "gender", "race"] and report["without_a_face"] == []
    assert gender["group"]["male"]["recall"].keys() == {"Neutral", "Sad", "Fear", "Anger"}
    assert "by group: subset accuracy easy 1.000 above difficult (p 0.040)" in line
    drawing = groups.groups_svg(report) or ""
    assert drawing.count("<circle") == 2 * 10 and all(f">{name}<" in drawing for name in ("subset", "40–59", "asian"))


def test_subsets_have_scores_of_eight_and_of_seven_expressions_side_by_side(plus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_where(monkeypatch, lambda number: (number % 3 == 1) & (number % 8 == 7))
    run_stage("evaluate", bootstrap=200)
    report = metrics("evaluate")
    challenging = report["by_subset"]["challenging"]
    assert {name: subset["faces"] for name, subset in report["by_subset"].items()} == {"easy": 22, "challenging": 21, "difficult": 21}
    contempt = sum(number % 3 == 1 and number % 8 == 7 for number in range(64))
    assert challenging["expression"]["accuracy"] == pytest.approx(1 - contempt / 21) and challenging["expression_7"]["accuracy"] == 1
    assert report["by_subset"]["easy"]["expression"] == {"accuracy": 1, "macro_f1": 1}
    ends = report["interval"]["by_subset"]["challenging"]["expression"]["accuracy"]
    assert ends["low"] < challenging["expression"]["accuracy"] <= ends["high"]
    assert report["floor"]["by_subset"]["easy"]["expression"]["accuracy"] == pytest.approx(3 / 22)


def test_data_without_groups_are_named_and_have_no_plot(prepared: Path) -> None:
    run_stage("evaluate")
    report = metrics("groups")
    assert report["without_a_face"] == ["subset", "age", "gender", "race"] and report["by"] == {}
    assert "by_subset" not in metrics("evaluate")
    assert groups.groups_svg(report) is None


def test_ten_thousand_groups_are_counted_and_too_many_large_ones_are_one_line(plus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ANNOTATIONS.read(Path("data/annotations.parquet"), ["image", "split"]).to_pylist()
    tests = [row["image"] for row in rows if row["split"] == "test"]
    file = Path("many.csv").absolute()
    unknown = [f"{number}-unknown.jpg" for number in range(10_000)]
    file.write_text("image,person\n" + "".join(f"{name},{number}\n" for number, name in enumerate([*tests, *unknown])))
    records = Path("metrics/fingerprint/group_files.json")
    record_groups([str(file)], records)
    run_stage("evaluate", groups=[str(file)], bootstrap=100)
    person = metrics("groups")["by"]["person"]
    assert person["small"] == {"groups": 64, "faces": 64} and len(person["small_groups"]) == 20
    assert person["rows_without_a_face"] == 10_000 and person["gap"] == {} == person["group"]
    monkeypatch.setattr(groups, "MOST_GROUPS", 20)
    file.write_text("image,person\n" + "".join(f"{name},{number // 2}\n" for number, name in enumerate(tests)))
    record_groups([str(file)], records)
    with refused("person has 32 groups of at least 2 faces, more than 20"):
        run_stage("evaluate", groups=[str(file)], least_group=2, bootstrap=100)
    with refused("more than one grouping is called person"):
        run_stage("evaluate", groups=[str(file), str(file)])
