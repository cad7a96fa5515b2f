"""The real commands, in clones of this repository whose demo is small: dvc repro, dvc exp run, dvc metrics diff, …"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import Clone
from tally import every
from trees import TREES, tree_folder


def executed(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


def test_repro_leaves_a_clean_tree_and_a_second_one_runs_nothing(reproduced: Clone) -> None:
    assert reproduced.git("status", "--porcelain") == ""
    output = reproduced.dvc("repro")
    assert executed(output) == [] and "up to date" in output


@pytest.mark.stress  # in `make test`, tests/stress/test_kills.py holds another clone against this one, all files of it
def test_two_clones_give_the_same_lock_and_metrics(fresh: Clone, reproduced: Clone, tmp_path: Path) -> None:
    other = fresh.copy(tmp_path / "other")
    other.dvc("repro")
    for name in ("dvc.lock", "metrics/report.html", *(f"metrics/{stage}.json" for stage in ("verify", "clean", "rebalance", "evaluate"))):
        assert (other.folder / name).read_bytes() == (reproduced.folder / name).read_bytes(), name


def test_every_row_of_the_demo_is_accounted_for_through_all_stages(reproduced: Clone) -> None:
    found = reproduced.metrics("clean")
    kept = {split: sum(by.values()) for split, by in found["by_split"].items()}
    assert found["read"] == found["kept"] + found["rejected"] and sum(kept.values()) == found["kept"]
    assert reproduced.metrics("evaluate")["faces"] == kept["test"]
    lists = [path.read_text().splitlines() for path in (reproduced.folder / "data" / "raw").rglob("*.csv")]
    assert sum(map(len, lists)) - 1 == found["read"]


@pytest.fixture(scope="module")
def sgd(reproduced: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """A copy whose branch `sgd` holds the experiment of that name, and what DVC said as it ran."""
    clone = reproduced.copy(tmp_path_factory.mktemp("sgd") / "clone")
    output = clone.dvc("exp", "run", "-S", "optimizer=sgd")
    clone.git("switch", "--quiet", "--create", "sgd")
    clone.git("commit", "--quiet", "--all", "--message", "sgd")
    clone.git("switch", "--quiet", "main")
    return clone, output


def test_another_optimiser_runs_train_and_evaluate_alone(sgd: tuple[Clone, str], reproduced: Clone, tmp_path: Path) -> None:
    clone, output = sgd[0].copy(tmp_path / "clone"), sgd[1]
    assert executed(output) == ["train", "evaluate", "report", "export"]
    assert "optimizers.sgd.lr" in clone.dvc("exp", "show", "--csv")
    assert executed(clone.dvc("exp", "run", "-S", "optimizers.sgd.lr=0.5")) == []
    clone.git("restore", "params.yaml")
    clone.git("switch", "--quiet", "sgd")
    clone.dvc("checkout")
    back = clone.dvc("exp", "run", "-S", "optimizer=adam")
    assert re.findall(r"Stage '(\w+)' is cached", back) == ["train", "export"]  # restored from the run cache
    assert executed(back) == ["evaluate", "report"] and clone.metrics("evaluate") == reproduced.metrics("evaluate")


def test_branches_differ_in_metrics_params_and_plots_in_a_bare_clone_without_a_cache(sgd: tuple[Clone, str], tmp_path: Path) -> None:
    author = sgd[0]
    author.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
    Clone(tmp_path).git("clone", "--quiet", str(tmp_path / "bare"), str(tmp_path / "reader"))
    reader = Clone(tmp_path / "reader")
    assert not (reader.folder / ".dvc" / "cache").exists()
    branches = ("main", "origin/sgd")
    difference = json.loads(reader.dvc("metrics", "diff", *branches, "--json"))["metrics/evaluate.json"]
    assert set(difference["selection.validation_loss"]) == {"old", "new", "diff"}
    assert "selection.validation_loss" in reader.dvc("metrics", "diff", *branches)
    assert json.loads(reader.dvc("params", "diff", *branches, "--json"))["params.yaml"]["optimizer"] == {"old": "adam", "new": "sgd"}
    reader.dvc("plots", "diff", *branches)
    page = (reader.folder / "dvc_plots" / "index.html").read_text()
    assert page.count('"rev": "origin/sgd"') > 24 and "validation_macro_f1" in page


@pytest.mark.parametrize("layout", every(["affectnet2017", "folder"], 1))
def test_a_users_own_copy_runs_through_every_stage(reproduced: Clone, tmp_path: Path, layout: str) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    TREES[layout](tmp_path / "own", each=8, tests=3)
    before = listing(tmp_path / "own")
    switches = [f"dataset={layout}", f"datasets.{layout}.root={tmp_path / 'own'}", f"datasets.{layout}.expected=null"]
    output = clone.dvc("exp", "run", *(part for switch in switches for part in ("-S", switch)))
    assert executed(output) == ["acquire", "verify", "clean", "crop", "rebalance", "train", "evaluate", "report", "export"]
    classes = 7 if layout == "folder" else 8
    assert clone.metrics("clean")["read"] == clone.metrics("clean")["kept"] == classes * 11
    found = clone.metrics("evaluate")
    assert found["faces"] == classes * 3 and len(found["expression"]["recall"]) == classes
    assert listing(tmp_path / "own") == before
    assert [path.name for path in (clone.folder / "data" / "raw").iterdir()] == ["source.json"]


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mistake(name: str, value: str) -> Callable[[Clone], tuple[str, str]]:
    """Sets a param as text; the stage that must refuse it is the first part of `name`."""

    def make(clone: Clone) -> tuple[str, str]:
        stage, key = name.split(" ")
        path = clone.folder / "params.yaml"
        text, count = re.subn(rf"^({key}):[^#\n]*", rf"\1: {value} ", path.read_text(), count=1, flags=re.MULTILINE)
        assert count == 1
        path.write_text(text)
        return stage, key.strip()

    return make


MISTAKES: dict[str, Callable[[Clone], tuple[str, str]]] = {
    "unknown switch": mistake("train optimizer", "lion"),
    "unknown data set": mistake("acquire dataset", "rafdb"),
    "data set without its root": mistake("acquire dataset", "affectnet2017"),
}


@pytest.mark.parametrize("make", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(reproduced: Clone, tmp_path: Path, make: Callable[[Clone], tuple[str, str]]) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    stage, named = make(clone)
    before = listing(clone.folder / "data") | listing(clone.folder / "models")
    done = clone.attempt(sys.executable, "-m", f"stages.{stage}")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: params.yaml: ") and named in line
    assert listing(clone.folder / "data") | listing(clone.folder / "models") == before


def test_all_mistakes_in_params_are_told_at_once(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    text = (clone.folder / "params.yaml").read_text()
    text = (
        re.sub(r"^  patience:.*\n", "", text, flags=re.MULTILINE).replace("  epochs: 2 ", "  epochs: two ").replace("  batch:", "  batchs:")
    )
    (clone.folder / "params.yaml").write_text(text)
    done = clone.attempt(sys.executable, "-m", "stages.train")
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 4
    for name in ("train.patience: missing", "train.epochs: ", "train.batch: missing", "train.batchs: unknown"):
        assert any(name in line for line in lines), name


def test_a_root_that_goes_away_and_a_foreign_model_are_one_line_each(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    tree_folder(tmp_path / "own")
    clone.dvc("repro", "acquire")
    (clone.folder / "data" / "raw" / "source.json").unlink()
    (clone.folder / "data" / "raw" / "source.json").write_text(json.dumps({"layout": "folder", "root": str(tmp_path / "gone")}))
    done = clone.attempt(sys.executable, "-m", "stages.verify")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and str(tmp_path / "gone") in done.stderr
    model = clone.folder / "models" / "model.safetensors"
    model.unlink()
    model.write_bytes(b"PK\x03\x04 a pickle, perhaps")
    done = clone.attempt(sys.executable, "-m", "stages.evaluate")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "model.safetensors" in done.stderr
