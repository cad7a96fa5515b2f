"""A search called again with other settings."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from clones import Clone
from ruamel.yaml import YAML

from affectnet.params import parse, read_document
from affectnet.search.search import Search
from affectnet.search.study import SearchParams

CALL = ["-S", "dataset=folder", "-S", "datasets.folder.root=/data/one", "-S", "train.epochs=1"]


@pytest.fixture
def searched(repository: Clone) -> Clone:
    """A repository whose study has one trial of these settings."""
    search = Search(parse(read_document(), "search", SearchParams), CALL[1::2])
    values = {"optimizer": "adam", "loss": "weighted"}
    trial = search.study.ask()
    for name, value in values.items():
        trial.suggest_categorical(name, [value])
    trial.set_user_attr("values", values)
    search.study.tell(trial, 0.5)
    return repository


def call(clone: Clone, *changes: str) -> subprocess.CompletedProcess[str]:
    return clone.attempt("python", "-m", "affectnet.search", "--trials", "1", *changes)


def with_params(change: Callable[[Any], object]) -> None:
    yaml = YAML()
    document = yaml.load(Path("params.yaml"))
    change(document)
    yaml.dump(document, Path("params.yaml"))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ([*CALL, "-S", "datasets.folder.root=/data/two"], r"datasets\.folder\.root"),
        (["-S", "task=affect"], "dataset"),
        ([*CALL, "-S", "train.epochs=2"], r"train\.epochs"),
        ([*CALL, "-S", "optimizer=adam"], "optimizer"),
    ],
)
def test_a_study_of_other_settings_is_refused_in_one_line(searched: Clone, changes: list[str], name: str) -> None:
    done = call(searched, *changes)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    for part in ("search.study: search has other settings", name.replace("\\", ""), "give --study NAME"):
        assert part in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["search"]["space"].update(optimizer=["adam", "sgd", "adamw"]),
        lambda document: document["search"]["space"]["optimizers.adam.lr"].update(low=1e-5),
        lambda document: document["search"]["space"].update({"train.batch": [32, 64]}),
    ],
)
def test_a_study_of_another_space_is_refused_in_one_line(searched: Clone, change: Callable[[Any], object]) -> None:
    with_params(change)
    done = call(searched, *CALL)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "search.space." in done.stderr and "give --study NAME" in done.stderr


def test_a_mistake_in_the_first_call_does_not_bind_the_study(repository: Clone) -> None:
    for changes in (CALL, [*CALL, "-S", "datasets.folder.root=/data/two"]):
        done = call(repository, *changes)
        assert done.returncode == 2 and "failed" in done.stdout and "other settings" not in done.stderr


def test_other_choices_than_those_of_a_study_without_settings_are_one_line(repository: Clone) -> None:
    folder = repository.folder / ".dvc" / "tmp" / "affectnet" / "search"
    folder.mkdir(parents=True)
    study = optuna.create_study(study_name="search", storage=f"sqlite:///{folder}/studies.db")
    trial = study.ask()
    trial.set_user_attr("values", {"optimizer": trial.suggest_categorical("optimizer", ["adam", "adamw"])})
    study.tell(trial, 0.5)
    done = repository.attempt("python", "-m", "affectnet.search", "--trials", "2", *CALL)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "give --study NAME" in done.stderr


def test_a_study_is_taken_up_with_other_means_and_another_one_begins_by_name(searched: Clone) -> None:
    with_params(lambda document: (document["search"].update(seed=9, prune_after=7), document["runtime"].update(workers=1)))
    done = call(searched, *CALL)
    assert done.returncode == 0 and "best is search-000 with a validation score of 0.500" in done.stdout
    other = call(searched, "-S", "task=affect", "--study", "other")
    assert "other settings" not in other.stderr and "other-000" in other.stdout
