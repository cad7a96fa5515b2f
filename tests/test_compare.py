import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chain import TINY, entry, local, run_stage

from affectnet.engines.onnx_export import export_network
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.classification import scores
from affectnet.metrics.paired import difference, holm, mcnemar, resampled_scores, whole_score
from affectnet.models.checkpoint import load_model, save_model
from affectnet.models.outputs import Outputs
from affectnet.predict.answers.score import Answerer
from affectnet.reporting.predictions import Predictions
from affectnet.reporting.split_predictions import predict_split
from affectnet.search.compare import main, paired

MODEL = Path("models/model.safetensors")


def test_mcnemar_by_hand() -> None:
    """Ten faces on which the models differ, 1 for the first, 9 for the second: 2 · (1 + 10) / 2^10."""
    first = np.array([True] * 1 + [False] * 9 + [True] * 5)
    second = np.array([False] * 1 + [True] * 9 + [True] * 5)
    assert mcnemar(first, second)[:2] == (1, 9) and mcnemar(first, second)[2] == pytest.approx(22 / 1024)
    assert mcnemar(second, second) == (0, 0, 1)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


def bootstrap(first: np.ndarray, second: np.ndarray, draws: int = 400) -> float:
    right = (first, second)

    def accuracy(rows: np.ndarray, model: int) -> np.ndarray:
        return np.asarray(right[model][rows].mean(-1))

    of_first, of_second = (whole_score(accuracy, model, len(first)) for model in (0, 1))
    resamples = resampled_scores(accuracy, 2, len(first), draws, np.random.default_rng(0))
    tested = difference("accuracy", of_first, of_second, resamples, int((first != second).sum()))
    assert tested.low is None or tested.high is None or tested.low <= tested.second - tested.first <= tested.high
    assert (tested.first, tested.second) == (first.mean(), second.mean())
    return tested.p


def test_chance_is_called_small_about_as_often_as_it_says() -> None:
    generator, small = np.random.default_rng(1), 0
    for _ in range(200):
        small += bootstrap(*(generator.random((2, 300)) < 0.7)) < 0.05
    assert small <= 22


def test_a_real_difference_is_found_and_equal_models_have_none() -> None:
    generator = np.random.default_rng(2)
    weak, strong = generator.random(400) < 0.6, generator.random(400) < 0.8
    assert bootstrap(weak, strong) < 0.01 and bootstrap(weak, weak) == 1


@pytest.mark.parametrize("faces", range(1, 12))
def test_a_few_faces_prove_no_more_than_mcnemar_by_hand(faces: int) -> None:
    """Only the second model is right, in each: an exact test's p is 2 / 2^faces."""
    wrong, right = np.zeros(faces, bool), np.ones(faces, bool)
    assert bootstrap(wrong, right, 10_000) == pytest.approx(min(1, 2 / 2**faces)) == pytest.approx(mcnemar(wrong, right)[2])


@pytest.mark.parametrize(("faces", "stated"), [(0, True), (1, False), (5, False), (6, True)])
def test_an_interval_excludes_no_difference_only_where_p_can_be_below_5_percent(faces: int, stated: bool) -> None:
    resamples = np.stack([np.zeros(400), np.full(400, float(faces > 0))])
    tested = difference("accuracy", 0.0, float(faces > 0), resamples, faces)
    assert (tested.low is not None) is stated and (tested.p < 0.05) is (faces == 6)


@pytest.fixture(scope="module")
def trained_once(prepared_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a model per task."""
    folder = tmp_path_factory.mktemp("trained") / "workspace"
    shutil.copytree(prepared_once, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("expression", "both", "affect"):
            run_stage("train", model=TINY, epochs=2, batch=16, task=entry("task", name))
            MODEL.rename(f"models/{name}.safetensors")
    return folder


@pytest.fixture
def trained(workspace: Path, trained_once: Path) -> Path:
    shutil.copytree(trained_once, workspace, dirs_exist_ok=True)
    return workspace


def compared(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["compare", *arguments, "--draws", "300"])
    main()


def test_models_of_one_test_split_are_compared_in_what_both_answer(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compared(monkeypatch, "models/expression.safetensors", "models/both.safetensors")
    shown = capsys.readouterr().out
    assert "32 test faces" in shown and "| macro-F1" in shown and "McNemar" in shown and "| valence CCC |" not in shown
    compared(monkeypatch, "models/affect.safetensors", "models/both.safetensors")
    shown = capsys.readouterr().out
    assert "valence CCC" in shown and "arousal RMSE" in shown and "McNemar" not in shown


def test_a_model_trained_on_other_faces_is_named(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may have been trained on faces of our test split."""
    network, metadata = load_model(Path("models/both.safetensors"))
    save_model(Path("models/other.safetensors"), network, replace(metadata, data="00"))
    compared(monkeypatch, "models/expression.safetensors", "models/both.safetensors")
    assert capsys.readouterr().err == ""
    compared(monkeypatch, "models/expression.safetensors", "models/other.safetensors")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("compare: WARNING: models/other.safetensors: ") and "trained on other faces than those of data/faces" in line
    for shard in Path("data/faces").glob("train-*"):
        shard.unlink()
    compared(monkeypatch, "models/expression.safetensors", "models/both.safetensors")
    assert capsys.readouterr().err.startswith("compare: WARNING: data/faces: without training faces; ")


def test_a_model_whose_labels_are_listed_in_another_order_is_named(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each model answers every face right, but one lists its labels otherwise."""

    def right(path: Path, *_: object) -> Predictions:
        true = np.repeat(np.arange(8), 4)
        listed = (true + 1) % 8 if path.name == "both.safetensors" else true
        logits = np.where(np.arange(8) == listed[:, None], 3, -3).astype(np.float32)
        outputs = Outputs(logits, np.empty((32, 0), np.float32))
        return Predictions.from_outputs(path, Answerer(EXPRESSIONS, False), outputs, EXPRESSIONS, true, np.full((32, 2), np.nan))

    monkeypatch.setattr("affectnet.reporting.split_predictions.predictions_of_split", right)
    compared(monkeypatch, "models/expression.safetensors", "models/both.safetensors")
    lines = [line for line in capsys.readouterr().err.splitlines() if "another order of the labels" in line]
    assert len(lines) == 1 and lines[0].startswith("compare: models/both.safetensors: another order of the labels fits better, 1.000 ")


@pytest.mark.parametrize(
    ("second", "said"),
    [("models/affect.safetensors", "nothing to compare"), ("nowhere", "^nowhere: no file; git for-each-ref: fatal: not a git repository")],
)
def test_what_cannot_be_compared_is_one_line(trained: Path, monkeypatch: pytest.MonkeyPatch, second: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        compared(monkeypatch, "models/expression.safetensors", second)
    assert "\n" not in str(caught.value)


def test_onnx_files_and_the_shipped_model_are_models(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network, metadata = load_model(Path("models/both.safetensors"))
    Path("models/both.onnx").write_bytes(export_network(network, metadata))
    for averaging in ("none", "flip"):
        compared(monkeypatch, "models/both.safetensors", "models/both.onnx", "--averaging", averaging, "--json")
        results = json.loads(capsys.readouterr().out)
        assert all(row["second"] == pytest.approx(row["first"], abs=1e-3) for row in results["differences"])
        assert results["mcnemar"][0]["only_first"] == results["mcnemar"][0]["only_second"] == 0
    other = Path("models/other.safetensors")
    save_model(other, network, replace(metadata, crop={**metadata.crop, "quality": 90}))
    compared(monkeypatch, "models/both.onnx", str(other))
    save_model(other, network, replace(metadata, crop={**metadata.crop, "square": not metadata.crop["square"]}))
    with pytest.raises(UserError, match=r"^data/faces: cropped with another policy than .*other.safetensors \(square differ\)"):
        compared(monkeypatch, "models/both.onnx", str(other))


def test_differences_are_those_of_the_scores(trained: Path) -> None:
    pair = [predict_split(Path(f"models/{n}.safetensors"), Path("data/faces"), local(), "none") for n in ("expression", "both")]
    by_name = {d.name: d for d in paired(pair[0], pair[1], 100, 0)[0]}
    for model, name in zip(pair, ("first", "second"), strict=True):
        counts = np.zeros((8, 8), int)
        np.add.at(counts, (model.true, model.predicted), 1)
        assert getattr(by_name["expression.macro_f1"], name) == pytest.approx(float(scores(counts).macro_f1))


def test_resamples_without_an_expression_do_not_count_it(trained: Path) -> None:
    first = predict_split(Path("models/expression.safetensors"), Path("data/faces"), local(), "none")
    true = np.repeat([0, 1, 2], [20, 20, 1])
    perfect = replace(first, true=true, logits=9.0 * np.eye(8)[true], true_affect=np.full((41, 2), np.nan), affect=np.empty((41, 0)))
    one_wrong = replace(perfect, logits=9.0 * np.eye(8)[np.where(np.arange(41) == 0, 1, true)])
    differences, (scores_of_first, _) = paired(perfect, one_wrong, 500, 0)
    assert scores_of_first["expression.macro_f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert {row.name: row.low for row in differences} == {"expression.accuracy": None, "expression.macro_f1": None}
