"""What a branch changes, as a page in Markdown."""

import json
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from chain import refused, run_data_stages, run_stage
from clones import ENVIRONMENT, Clone
from model_files import write_model
from trees import tree_2017, tree_folder

from affectnet.expressions import EXPRESSIONS
from affectnet.models.outputs import Outputs
from affectnet.predict.answers.score import Answerer
from affectnet.reporting.metric_report import Scoring, full_report
from affectnet.reporting.prediction_table import PREDICTIONS, write_predictions
from affectnet.reporting.predictions import Predictions
from affectnet.search.compare import model_file
from affectnet.search.diff import _scores, main
from affectnet.search.paired_predictions import PREDICTIONS_FILE, compare_predictions
from affectnet.search.revision import Revision
from affectnet.tables.labels import labels_metadata, read_labels


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True, env=ENVIRONMENT)


def run_diff(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The page, whose tables have as many cells in each row as in their header."""
    monkeypatch.setattr("sys.argv", ["diff", "--draws", "200", *arguments])
    main()
    page = Path("diff/diff.md").read_text()
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(line.split("|")) for line in table.splitlines()}) == 1
    return page


@pytest.fixture
def committed(workspace: Path) -> Path:
    """A repository whose last commit holds the metrics of one model on a small data set."""
    run_data_stages(tree_2017(workspace / "root", tests=3))
    write_model()
    run_stage("evaluate", bootstrap=100)
    git("init", "--quiet", "--initial-branch", "main")
    git("add", "metrics", "params.yaml", "dvc.yaml")
    git("commit", "--quiet", "--message", "base")
    return workspace


def test_a_page_says_what_changed_and_only_that(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = run_diff(monkeypatch)
    git("update-ref", "refs/exps/1f/5a93/tried-001", "HEAD")
    assert run_diff(monkeypatch, "--base", "tried-001").startswith("# tried-001 → here")
    assert page.count("The same on both sides.") == 4 and "+0.000" in page and "Not tested: data/test_predictions.parquet" in page
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("null_box: reject ", "null_box: whole "))
    run_data_stages(tree_2017(committed / "other", tests=4))
    write_model(seed=5)
    run_stage("evaluate", bootstrap=100)
    page = run_diff(monkeypatch)
    assert "| `clean.null_box` | reject | whole |" in page and page.count("`clean.") == 1
    assert "| by_split, test, Happy | 3 | 4 | +1 |" in page and "| kept | " in page
    changed = re.findall(r"^\| (\w+) \| (\w+) \| (\d+) of 3 \| (\d+) of 4 \| ([+-][\d.]+) \|$", page, re.MULTILINE)
    assert len(changed) == 8
    for _, _, before, after, points in changed:
        assert float(points) == pytest.approx(100 * (int(after) / 4 - int(before) / 3), abs=0.05)
    assert Path("diff/confusion.svg").read_text().startswith("<svg")


def test_scores_of_other_params_are_not_tested_as_those_of_a_side(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch without `dvc repro`, here and in a commit: the predictions are still those of the earlier run."""
    monkeypatch.setattr(Revision, "tracked", lambda _, path: Path(path).read_bytes())
    rate = {"algorithm": "adam", "lr": 0.001, "momentum": 0.9, "weight_decay": 0.0}
    train = {"cmd": "t", "params": {"params.yaml": {"optimizer": "adam", "optimizers.adam": rate}}, "outs": [model_entry("01")]}
    evaluate = {"cmd": "e", "deps": [model_entry("01")]}
    write_lock({"train": train, "evaluate": evaluate})
    git("add", "dvc.lock")
    git("commit", "--quiet", "--message", "run")
    reason = "The metrics of {} are of other params, data or weights"
    warning = f"{reason}, so none of its scores, counts and sizes are shown; `dvc repro` renews them."
    fresh_page = run_diff(monkeypatch)
    assert "McNemar" in fresh_page and "of other params" not in fresh_page

    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("optimizer: adam ", "optimizer: sgd "))
    page = run_diff(monkeypatch)
    assert page.count("of other params") == 1 and warning.format("here") in page and "| `optimizer` | adam | sgd |" in page
    assert re.search(r"^\| accuracy \| 0\.\d{3} \([^|]+\) \| – \|  \|  \|  \| not tested \|$", page, re.MULTILINE)
    assert "McNemar" not in page and "Confusions" not in page and "Sizes" not in page and not Path("diff/confusion.svg").exists()
    git("commit", "--quiet", "--all", "--message", "switch without a run")
    page = run_diff(monkeypatch)
    assert [line for line in page.splitlines() if "of other params" in line] == [warning.format(side) for side in ("main", "here")]
    assert "accuracy" not in page and "Params" in page

    Path("params.yaml").write_text(params)
    page = run_diff(monkeypatch)
    assert page.count("of other params") == 1 and warning.format("main") in page and "| accuracy | – | 0." in page
    write_lock({"train": {**train, "outs": [model_entry("02")]}, "evaluate": evaluate})
    assert warning.format("here") in run_diff(monkeypatch, "--base", "HEAD~1"), "another model than evaluate read"


def model_entry(md5: str) -> dict[str, str]:
    return {"path": "models/model.safetensors", "hash": "md5", "md5": md5}


def write_lock(stages: dict[str, Any]) -> None:
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))


def test_the_same_faces_are_tested_and_others_are_not(workspace: Path) -> None:
    run_data_stages(tree_2017(workspace / "root", tests=6))
    stored = []
    for seed in (0, 5):
        write_model(seed=seed, affect=True)
        run_stage("evaluate", bootstrap=100)
        stored.append(Path(PREDICTIONS_FILE).read_bytes())
    same = compare_predictions(stored[0], stored[0], 200, 1)
    assert {(row.low, row.high, row.p) for row in same.differences} == {(0.0, 0.0, 1.0)} and "0 faces only right before" in same.note
    tested = compare_predictions(stored[0], stored[1], 200, 1)
    assert [row.name for row in tested.differences][:3] == ["expression.accuracy", "expression.macro_f1", "valence.ccc"]
    ends = [(row.low, row.second - row.first, row.high) for row in tested.differences if row.low is not None and row.high is not None]
    assert len(ends) == len(tested.differences) and all(low <= change <= high for low, change, high in ends)
    run_data_stages(tree_2017(workspace / "root2", tests=5))
    run_stage("evaluate", bootstrap=100)
    other = compare_predictions(stored[0], Path(PREDICTIONS_FILE).read_bytes(), 200, 1)
    assert not other.differences and "the test faces differ, 48 and 40" in other.note


def test_another_cut_with_the_same_labels_is_not_the_same_faces(workspace: Path) -> None:
    """Without valence the labels of two cuts are equal, face by face; a table of an earlier version does not say which faces it has."""
    pointer = replace(tree_folder(workspace / "root", each=8, tests=0), test_share=0.25)
    stored: list[bytes] = []
    for seed in (5, 6, 5):
        run_data_stages(pointer, clean={"seed": seed})
        write_model(labels=EXPRESSIONS[:7], seed=len(stored))
        run_stage("evaluate", bootstrap=100)
        stored.append(Path(PREDICTIONS_FILE).read_bytes())
    other = compare_predictions(stored[0], stored[1], 200, 1)
    assert not other.differences and "the test faces differ, 14 and 14" in other.note
    same = compare_predictions(stored[0], stored[2], 200, 1)
    assert same.differences and "the same 14 faces" in same.note
    PREDICTIONS.write(Path("old.parquet"), PREDICTIONS.read(Path(PREDICTIONS_FILE)), labels_metadata(read_labels(Path(PREDICTIONS_FILE))))
    assert compare_predictions(Path("old.parquet").read_bytes(), stored[2], 200, 1).differences == same.differences


@dataclass(frozen=True)
class Side:
    """One side of the page: a working folder of its own."""

    title: str

    def tracked(self, _: str) -> bytes:
        return Path(self.title).read_bytes()


def test_a_score_its_change_and_its_interval_are_of_one_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers of two models; no face is Contempt, which only one of them knows."""
    monkeypatch.chdir(tmp_path)
    generator, true, reports = np.random.default_rng(0), np.repeat(np.arange(7), 30), []
    answered = np.where(generator.random(210) < 0.7, true, generator.integers(0, 7, 210))
    for labels in (EXPRESSIONS, EXPRESSIONS[:7]):
        logits = np.where(np.arange(len(labels)) == answered[:, None], 3, -3).astype(np.float32)
        outputs = Outputs(logits, np.empty((210, 0), np.float32))
        predictions = Predictions.from_outputs("model", Answerer(labels, False), outputs, EXPRESSIONS, true, np.full((210, 2), np.nan))
        write_predictions(Path(str(len(labels))), predictions, "00")
        reports.append(full_report(Scoring(seed=1, bootstrap=200, averaging="none", bins=15), predictions))
    base, head = (cast("Revision", Side(name)) for name in ("8", "7"))
    (row,) = [line for line in _scores(base, head, reports[0], reports[1], 1000, 1) if line.startswith("| macro-F1 |")]
    _, _, before, after, change, interval, p, _, _ = row.split("|")
    assert before == after and change.strip() == "+0.000" and interval.strip() == "+0.000 – +0.000" and float(p) == 1
    low, high = map(float, re.findall(r"[\d.]+", before)[1:])
    assert low <= float(re.findall(r"[\d.]+", before)[0]) <= high


def test_a_score_that_only_one_side_has_is_shown(workspace: Path) -> None:
    """Another task: the expressions of one side, valence and arousal of the other."""

    def report(*groups: str) -> dict[str, Any]:
        values = {group: dict.fromkeys(("accuracy", "macro_f1", "ccc"), 0.5) for group in groups}
        ends = {group: {key: {"low": 0.4, "high": 0.6} for key in content} for group, content in values.items()}
        return {"faces": 9, "interval": ends, **values}

    here, shown = Revision(None), "0.500 (0.400 – 0.600)"
    both, affect = report("expression", "valence", "arousal"), report("valence", "arousal")
    after = [line for line in _scores(here, here, report("expression"), both, 200, 1) if line.startswith("| ")][1:]
    assert [line.split(" | ")[0] for line in after] == ["| accuracy", "| macro-F1", "| valence CCC", "| arousal CCC"]
    assert after[2] == f"| valence CCC | – | {shown} |  |  |  | not tested |"
    before = [line for line in _scores(here, here, both, affect, 200, 1) if line.startswith("| ")][1:]
    assert before[1] == f"| macro-F1 | {shown} | – |  |  |  | not tested |"
    assert before[2] == f"| valence CCC | {shown} | {shown} | +0.000 |  |  | not tested |"


def test_an_experiment_is_one_commit_also_where_two_have_its_name(repository: Clone) -> None:
    """One on HEAD, which DVC takes, and one on an older baseline, whose hash sorts first; without the one on HEAD neither is taken."""
    repository.dvc("init", "--quiet")
    repository.git("commit", "--quiet", "--message", "dvc")
    head = repository.git("rev-parse", "HEAD").strip()
    params = Path("params.yaml").read_text()
    commits = {}
    for optimizer, baseline in (("sam", "0" * 40), ("adamw", f"01{'0' * 38}"), ("sgd", head)):
        Path("params.yaml").write_text(params.replace("optimizer: adam ", f"optimizer: {optimizer} "))
        repository.git("commit", "--quiet", "--all", "--message", optimizer)
        commits[optimizer] = repository.git("rev-parse", "HEAD").strip()
        repository.git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/mine", "HEAD")
        repository.git("reset", "--quiet", "--hard", head)
    mine = Revision.named("mine")
    text = mine.text("params.yaml")
    assert text is not None and "optimizer: sgd " in text and mine.commit == commits["sgd"]
    assert mine.tracked("params.yaml") == text.encode()
    repository.git("update-ref", "-d", f"refs/exps/{head[:2]}/{head[2:]}/mine")
    reason = f"2 experiments have this name, and none starts from HEAD: {commits['sam'][:7]}, {commits['adamw'][:7]}; give a commit"
    with refused(f"^mine: {reason}"):
        Revision.named("mine")
    with refused(f"^mine: no file; {reason}"), model_file("mine"):
        pass
    with refused("^HEAD: models/model.safetensors of this revision is not in the cache: "), model_file("HEAD"):
        pass
    assert Revision.named(commits["sam"][:7]).tracked("params.yaml") == params.replace("optimizer: adam ", "optimizer: sam ").encode()


def test_what_cannot_be_compared_is_one_line(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nowhere", "", "HEAD:metrics"):
        with refused(f"^{name}: neither a revision of Git nor an experiment of DVC"):
            run_diff(monkeypatch, "--base", name)
    with refused("--draws: 1, at least 100"):
        run_diff(monkeypatch, "--draws", "1")
    Path("metrics/evaluate.json").write_text("[]")
    with refused("metrics/evaluate.json of here: not a mapping"):
        run_diff(monkeypatch)
    Path("metrics/evaluate.json").unlink()
    with refused("metrics/evaluate.json: here has none; run `dvc repro`"):
        run_diff(monkeypatch)
    assert not Path("diff").exists()
