"""The program for a machine with a GPU, on the processor at its smallest size."""

import argparse
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import ROOT
from clones import Clone

from affectnet.models.checkpoint import load_model
from affectnet.params import read_document
from benchmarks.gpu import __main__ as program
from benchmarks.gpu import correctness, speed, trainings
from benchmarks.gpu.trainings import listed_params

LIST = """
trainings:
  - {name: first, data: CLONE, keep: true, logits: true, set: {models.vgg16_small.image_px: 32, train.epochs: 2}}
  - {name: second, data: CLONE, after: first, set: {models.vgg16_small.image_px: 32, train.epochs: 1,
     models.vgg16_small.weights: '{out}/first.safetensors'}}
"""
ENTRY: dict[str, Any] = {"name": "first", "data": "CLONE", "set": {"models.vgg16_small.image_px": 32, "train.epochs": 2}}
COMPILED = "compiled_vgg16_48"
"""torch.compile takes a minute of a processor."""


def test_the_lists_name_every_part() -> None:
    whole, smallest = ({*correctness.parts(smallest=small), *speed.parts(smallest=small)} for small in (False, True))
    assert COMPILED in smallest < whole


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks" / "gpu").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_shipped_lists_can_be_trained(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    listed = list(read_document(file)["trainings"])
    names = [one["name"] for one in listed]
    assert len(set(names)) == len(names) > 2
    for position, one in enumerate(listed):
        params = listed_params(one["set"], Path("out"))
        made = {f"{Path('out').resolve()}/{earlier['name']}.safetensors" for earlier in listed[:position] if earlier.get("keep")}
        assert all(teacher in made or (ROOT / teacher).is_file() for teacher in params.teacher)
        assert one.get("after") in {None, *names[:position]}


def run_program(clone: Clone, out: Path, *options: str, minutes: float = 30) -> str:
    command = ["-m", "benchmarks.gpu", "--smallest", "--device", "cpu", "--minutes", str(minutes), "--out", str(out), *options]
    done = clone.attempt("python", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def results(out: Path) -> Mapping[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}


def test_each_part_leaves_its_figures_and_is_not_run_again(reproduced: Clone, tmp_path: Path) -> None:
    parts = [name for name in (*correctness.parts(smallest=True), *speed.parts(smallest=True)) if name != COMPILED]
    run_program(reproduced, tmp_path, "--only", *parts)
    first = results(tmp_path)
    assert first.keys() == {*parts, "machine"}
    assert [name for name, result in first.items() if "failed" in result] == []
    held = {name for name, result in first.items() if result.get("holds")}
    assert {*correctness.parts(smallest=True)} - {"precisions"} <= held  # few faces in few epochs teach nothing
    rates = [rate for result in first.values() for rate in result.get("faces/s", {}).values()]
    assert len(rates) == 7 and min(rates) > 0
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json") if path.stem != "machine"}
    assert "2 of 2 parts hold\n" in run_program(reproduced, tmp_path, "--only", "agreement", "feeds")
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_the_trainings_of_a_list_end_with_scores_and_a_model(reproduced: Clone, tmp_path: Path) -> None:
    listed, out = tmp_path / "list.yaml", tmp_path / "out"
    listed.write_text(LIST.replace("CLONE", reproduced.folder.name))
    options = ["--only", "--trainings", str(listed), "--data", str(reproduced.folder.parent), "--jobs", "2"]
    said = run_program(reproduced, out, *options)
    trained = results(out)
    assert said.endswith(f"{out}: 2 of 2 trainings ended\n")
    assert said.index("first: 2 epochs") < said.index("second: 1 epochs")
    for name, epochs in (("first", 2), ("second", 1)):
        result = trained[f"{name}.training"]
        assert len(result["curve"]) == result["epochs"] == epochs
        assert {*result["test"]} == {*result["validation"]} == {"none", "flip", "ten_crop"}
        assert 0 < result["test"]["none"]["accuracy"] < 1
    _, metadata = load_model(out / "first.safetensors")
    assert metadata.training["epochs"] == 2
    with np.load(out / "first.npz") as logits:
        assert {name: array.shape[1] for name, array in logits.items()} == dict.fromkeys(("train", "validation", "test"), 8)


def test_a_training_whose_time_is_over_resumes(reproduced: Clone, tmp_path: Path) -> None:
    listed, out = tmp_path / "list.yaml", tmp_path / "out"
    listed.write_text(LIST.replace("CLONE", reproduced.folder.name).replace("train.epochs: 2", "train.epochs: 4"))
    command = ["-m", "benchmarks.gpu.trainings", str(listed), "first", str(reproduced.folder.parent), str(out), "cpu", "--seconds"]
    out.mkdir()
    cut = reproduced.attempt("python", *command, "1")
    assert "first: 1 of 4 epochs" in cut.stdout, cut.stderr
    assert results(out)["first.training"]["time over"]
    text = listed.read_text()
    listed.write_text(text.replace("train.epochs: 4", "train.epochs: 2"))
    edited = reproduced.attempt("python", *command, "600")
    assert "first: 2 epochs" in edited.stdout and "resume" not in edited.stderr, edited.stderr
    listed.write_text(text)
    whole = reproduced.attempt("python", *command, "600")
    assert "first: 4 epochs" in whole.stdout, whole.stderr
    assert "resume: continuing after epoch 1" in whole.stderr
    assert "time over" not in results(out)["first.training"]


OF = {"commit": "1a2b3c4", "GPU": "A100"}


def written(out: Path, **parts: Mapping[str, Any]) -> None:
    for name, result in parts.items():
        (out / f"{name}.json").write_text(json.dumps({**OF, **result}))


def test_the_summary_counts_the_parts_of_this_commit_and_gpu_and_names_the_others(tmp_path: Path) -> None:
    names = ["agreement", "feeds", "memory", "resumed", "one_process"]
    written(tmp_path, machine={})
    assert program.summary(tmp_path, names[:2], OF, None) == f"{tmp_path}: 0 of 2 parts hold; not run: agreement, feeds"
    written(tmp_path, agreement={"holds": True}, feeds={"holds": False}, memory={"failed": "KeyError"}, resumed={"commit": "another"})
    expected = "1 of 5 parts hold; not: feeds, memory; not run: resumed, one_process"
    assert program.summary(tmp_path, names, OF, None) == f"{tmp_path}: {expected}"
    (tmp_path / "list.yaml").write_text(LIST)
    written(tmp_path, **{"first.training": {**ENTRY, **SCORES, "time over": True}})
    assert program.summary(tmp_path, [], OF, tmp_path / "list.yaml") == f"{tmp_path}: 0 of 2 trainings ended; not: first, second"


def test_a_part_of_another_commit_or_gpu_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        """The first process dies in its second part."""
        ran.append(command[command.index("--only") + 1 :])
        written(tmp_path, **{name: {} for name in ran[-1][: None if len(ran) > 1 else 1]})
        return subprocess.CompletedProcess(command, 0 if len(ran) > 1 else 9)

    written(tmp_path, kept={}, commit={"commit": "another"}, gpu={"GPU": None})
    monkeypatch.setattr("benchmarks.gpu.__main__.subprocess.run", run)
    options = argparse.Namespace(out=tmp_path, device="cpu", smallest=True)
    program._run_in_processes(["kept", "commit", "gpu", "absent"], OF, options, time.monotonic() + 60)
    assert ran == [["commit", "gpu", "absent"], ["absent"]]
    assert results(tmp_path)["gpu"] == {"failed": "the process ended with exit code 9", **OF} and results(tmp_path)["commit"] == OF


SCORES = {"test": {"none": {"accuracy": 0.5}}}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the trainings that a list starts; each fails at once."""
    names: list[str] = []

    class Failed:
        def __init__(self, command: list[str], **_: Any) -> None:
            names.append(command[4])

        def poll(self) -> int:
            return 1

    monkeypatch.setattr("benchmarks.gpu.trainings.subprocess.Popen", Failed)
    return names


def list_of(tmp_path: Path, first: Mapping[str, Any]) -> None:
    """Runs the list in a folder with this result of its first training."""
    (tmp_path / "list.yaml").write_text(LIST)
    (tmp_path / "first.training.json").write_text(json.dumps(first))
    for name in ("first.safetensors", "first.npz"):
        (tmp_path / name).touch()
    trainings.run_list(tmp_path / "list.yaml", tmp_path, tmp_path, torch.device("cpu"), 2, time.monotonic() + 60)


@pytest.mark.parametrize("first", [{}, {"time over": True, **SCORES}], ids=["without scores", "time over"])
def test_a_training_that_was_cut_off_continues_and_none_starts_after_it(
    first: dict[str, Any], tmp_path: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    list_of(tmp_path, ENTRY | first)
    assert started == ["first"]
    assert capsys.readouterr().err == "not started, for what they come after has not ended: second\n"


def test_a_training_that_ended_is_not_repeated_and_the_next_starts(tmp_path: Path, started: list[str]) -> None:
    list_of(tmp_path, ENTRY | SCORES)
    assert started == ["second"]


@pytest.mark.parametrize("other", [{"data": "other"}, {"set": {**ENTRY["set"], "train.seed": 99}}, {"set": {}}], ids=str)
def test_the_result_of_an_entry_that_was_edited_since_is_not_its_own(other: dict[str, Any], tmp_path: Path, started: list[str]) -> None:
    list_of(tmp_path, ENTRY | SCORES | other)
    assert started == ["first"]


@pytest.mark.parametrize(("name", "line"), [("third", "lists no training third; it has first, second")])
def test_a_training_that_is_not_listed_is_refused(reproduced: Clone, tmp_path: Path, name: str, line: str) -> None:
    listed = tmp_path / "list.yaml"
    listed.write_text(LIST)
    done = reproduced.attempt("python", "-m", "benchmarks.gpu.trainings", str(listed), name, ".", str(tmp_path), "cpu", "--seconds", "9")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and line in done.stderr
