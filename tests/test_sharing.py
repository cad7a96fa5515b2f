"""dvc push and dvc pull between two clones, with a directory as the remote."""

from pathlib import Path
from typing import Any

import pytest
from clones import ENVIRONMENT, Clone, files_of
from ruamel.yaml import YAML
from running import executed, is_up_to_date

from tools.licensed import DATA, PICTURE, reason

LICENSED = (
    *("data/raw", "data/inventory.parquet", "data/annotations.parquet", "data/rejected.parquet", "data/faces"),
    *("data/test_predictions.parquet", "data/cleaning.html", "data/report.html"),
)
"""Outputs with photographs or with data per photograph; docs/data.md says how to keep them off every remote."""


def outputs(clone: Clone) -> dict[str, bytes]:
    return files_of(clone.folder, "data", "models", "metrics")


def training(clone: Clone) -> dict[str, bytes]:
    """The outputs of `train`."""
    return {**files_of(clone.folder, "metrics/train"), "model": (clone.folder / "models" / "model.safetensors").read_bytes()}


def locked(clone: Clone) -> dict[str, Any]:
    """The content of dvc.lock, without the order of its stages."""
    lock: dict[str, Any] = YAML(typ="safe").load(clone.folder / "dvc.lock")
    return lock


def remote(clone: Clone, folder: Path) -> None:
    clone.dvc("remote", "add", "--default", "lab", str(folder))
    clone.git("commit", "--quiet", "--all", "--message", "the lab's remote")


def reader(author: Clone, folder: Path) -> Clone:
    author.git("clone", "--quiet", ".", str(folder))
    return Clone(folder)


def test_another_clone_pulls_what_was_pushed_and_has_nothing_left_to_do(reproduced: Clone, tmp_path: Path) -> None:
    author = reproduced.copy(tmp_path / "author")
    remote(author, tmp_path / "lab")
    author.dvc("push")
    other = reader(author, tmp_path / "reader")
    other.dvc("pull")
    assert outputs(other) == outputs(author) and len(outputs(other)) > 100
    assert is_up_to_date(other.dvc("status")) and other.git("status", "--porcelain") == ""


def test_nothing_is_pushed_before_somebody_names_a_remote(reproduced: Clone) -> None:
    assert reproduced.dvc("remote", "list") == ""
    done = reproduced.attempt("dvc", "push")
    assert done.returncode != 0 and "no remote" in done.stderr


def test_with_push_false_photographs_and_labels_stay_here_and_the_rest_is_shared(reproduced: Clone, tmp_path: Path) -> None:
    author = reproduced.copy(tmp_path / "author")
    yaml, path = YAML(), author.folder / "dvc.yaml"
    document = yaml.load(path)
    for stage in document["stages"].values():
        stage["outs"] = [{out: {"push": False}} if out in LICENSED else out for out in stage.get("outs", [])]
    yaml.dump(document, path)
    remote(author, tmp_path / "lab")
    assert is_up_to_date(author.dvc("status"))
    author.dvc("push")
    sent = [path.read_bytes() for path in (tmp_path / "lab").rglob("*") if path.is_file()]
    kinds = [reason("notes.md", content, len(content)) for content in sent]
    assert sent and not [kind for kind in kinds if kind and kind.startswith(PICTURE)]
    # The sampling plan and the class weights, of row numbers and counts, are tables too.
    assert len([kind for kind in kinds if kind and kind.startswith(DATA)]) == 2
    other = reader(author, tmp_path / "reader")
    other.dvc("pull", "--allow-missing")
    had, missing = outputs(other), {name for name in outputs(author) if name.startswith(LICENSED)}
    assert had == {name: content for name, content in outputs(author).items() if name not in missing} and len(missing) > 100


def test_another_machines_lock_trains_again_and_without_it_the_run_cache_answers(
    reproduced: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of threads stands for another kind of CPU: train records it, so its outputs differ."""
    clone = reproduced.copy(tmp_path / "clone")
    for out in locked(clone)["stages"]["train"]["outs"]:
        (clone.folder / ".dvc" / "cache" / "files" / "md5" / out["md5"][:2] / out["md5"][2:]).unlink()
    monkeypatch.setitem(ENVIRONMENT, "OMP_NUM_THREADS", "2")
    clone.dvc("repro", "--force", "--single-item", "train")
    ours, lock = training(clone), locked(clone)["stages"]["train"]
    clone.git("checkout", "HEAD", "--", "dvc.lock")
    assert clone.attempt("dvc", "checkout", "--force", "train").returncode != 0  # this cache never had its outputs
    again = clone.copy(tmp_path / "again")
    assert "train" in executed(again.dvc("repro", "train"))
    (clone.folder / "dvc.lock").unlink()
    output = clone.dvc("repro", "train")
    assert {"train", "crop"}.isdisjoint(executed(output)) and "Stage 'train' is cached" in output
    assert training(clone) == ours
    assert locked(clone)["stages"]["train"] == lock
