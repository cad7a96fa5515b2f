"""The commands of experiments in a clone whose demo is small: dvc exp run, dvc metrics diff between branches, …"""

import json
import re
from pathlib import Path

import pytest
from clones import Clone
from running import executed


@pytest.fixture(scope="module")
def sgd(reproduced: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """A copy whose branch `sgd` is the experiment of that name, and DVC's output."""
    clone = reproduced.copy(tmp_path_factory.mktemp("sgd") / "clone")
    output = clone.dvc("exp", "run", "-S", "optimizer=sgd")
    clone.git("switch", "--quiet", "--create", "sgd")
    clone.git("commit", "--quiet", "--all", "--message", "sgd")
    clone.git("switch", "--quiet", "main")
    return clone, output


def test_another_optimiser_runs_only_train_and_evaluate(sgd: tuple[Clone, str], reproduced: Clone, tmp_path: Path) -> None:
    clone, output = sgd[0].copy(tmp_path / "clone"), sgd[1]
    assert executed(output) == ["train", "evaluate", "report", "export"]
    assert "optimizers.sgd.lr" in clone.dvc("exp", "show", "--csv")
    table = clone.run("python", "-m", "affectnet.search.table").splitlines()
    assert max(map(len, table)) <= 160 and table[0].split()[:4] == ["experiment", "created", "accuracy", "macro-F1"]
    assert all("demo" in line for line in table[1:4]) and {"adam", "sgd"} <= {word for line in table for word in line.split()}
    assert executed(clone.dvc("exp", "run", "-S", "optimizers.sgd.lr=0.5")) == []
    clone.git("restore", "params.yaml")
    clone.git("switch", "--quiet", "sgd")
    clone.dvc("checkout")
    back = clone.dvc("exp", "run", "-S", "optimizer=adam")
    assert re.findall(r"Stage '(\w+)' is cached", back) == ["train", "export"]  # restored from the run cache
    assert executed(back) == ["evaluate", "report"] and clone.metrics("evaluate") == reproduced.metrics("evaluate")


@pytest.mark.parametrize(("switch", "entry", "choices"), [("optimizer", "sdg", "adam, adamw, sgd"), ("model", "vgg61", "vgg16_small")])
def test_an_unknown_entry_is_refused_before_the_first_stage_with_the_choices(
    sgd: tuple[Clone, str], tmp_path: Path, switch: str, entry: str, choices: str
) -> None:
    done = sgd[0].copy(tmp_path / "clone").attempt("dvc", "exp", "run", "-S", f"{switch}={entry}")
    said = done.stdout + done.stderr
    assert (
        done.returncode and f"error: params.yaml: {switch}: no entry '{entry}' under {switch}s; choose one of" in said and choices in said
    )
    assert "Running stage 'acquire'" not in said


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
