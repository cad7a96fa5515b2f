"""What a branch changes, as a page in Markdown."""

import re
import subprocess
from pathlib import Path

import pytest
from chain import refused, run_data_stages, run_stage
from clones import ENVIRONMENT
from model_files import write_model
from trees import tree_2017

from affectnet.search.diff import main
from affectnet.search.paired_predictions import PREDICTIONS_FILE, compare_predictions


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


def test_what_cannot_be_compared_is_one_line(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("nowhere: neither a revision of Git nor an experiment of DVC"):
        run_diff(monkeypatch, "--base", "nowhere")
    with refused("--draws: 1, at least 100"):
        run_diff(monkeypatch, "--draws", "1")
    Path("metrics/evaluate.json").write_text("[]")
    with refused("metrics/evaluate.json of here: not a mapping"):
        run_diff(monkeypatch)
    Path("metrics/evaluate.json").unlink()
    with refused("metrics/evaluate.json: here has none; run `dvc repro`"):
        run_diff(monkeypatch)
    assert not Path("diff").exists()
