"""A search's study: the settings that all its trials share, and the numbers of their experiments."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from affectnet.errors import UserError, brief, first_few
from affectnet.files.cache_dir import cache_folder
from affectnet.params import PARAMS_FILE, Section, parse_document, switches
from affectnet.reporting.values import leaves

WITHOUT_EFFECT = {"runtime", "search", "report", "export", "evaluate", "inspect", "detect", "audit"}
"""Sections of params.yaml that do not change a trial's score, which `train` computes on our validation split."""

SETTINGS, FIRST = "settings", "first"
"""Attributes of the study: the settings that its trials share, and the number of its first experiment."""


class Range(Section):
    """From low to high, both included, so that one value may be both; integers when both are."""

    low: int | float
    high: int | float
    log: bool


Space = Mapping[str, list[Any] | Range]


SCORED = {"dataset", "datasets", "labels", "task", "acquire", "verify"}
"""Switches and sections that decide which faces the score of a trial is of, and what it is."""

TRAINING_ONLY = {"label_issues", "label_confidence"}
"""Params of section `clean` that leave validation as it is."""


class SearchParams(Section):
    """Section `search`: the trials of a search; no stage tracks it."""

    study: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    storage: str | None
    trials: int = Field(ge=1)
    seed: int = Field(ge=0)
    prune_after: int = Field(ge=0)
    space: dict[str, list[Any] | Range] = Field(min_length=1)

    @field_validator("space")
    @classmethod
    def _comparable_trials(cls, space: dict[str, list[Any] | Range]) -> dict[str, list[Any] | Range]:
        """Errors: ValueError for a param that decides which faces of validation are scored, by what, or after how many epochs."""
        for name in space:
            section, _, key = name.partition(".")
            if section in SCORED or (section == "clean" and key not in TRAINING_ONLY) or name == "train.stop_after":
                problem = "{name}: trials that differ in it are scored on other faces or by another score; set it by -S {name}=…"
                raise PydanticCustomError("incomparable", problem, {"name": name})
            if section in WITHOUT_EFFECT:
                problem = "{name}: has no part in the score of a trial, which train computes on our validation split; set it by -S {name}=…"
                raise PydanticCustomError("without_effect", problem, {"name": name})
        return space

    @field_validator("space")
    @classmethod
    def _choices_with_values(cls, space: dict[str, list[Any] | Range]) -> dict[str, list[Any] | Range]:
        """Errors: ValueError for an empty list, and for a range whose ends are in the wrong order or whose logarithm does not exist."""
        for name, choices in space.items():
            if isinstance(choices, list):
                if not choices:
                    raise PydanticCustomError("empty", "{name}: an empty list, nothing to choose from", {"name": name})
                continue
            ends = {"name": name, "low": str(choices.low), "high": str(choices.high)}
            if choices.low > choices.high:
                raise PydanticCustomError("reversed", "{name}: low {low} is above high {high}", ends)
            if choices.log and choices.low <= 0:
                raise PydanticCustomError("no_logarithm", "{name}: log needs a low above 0, not {low}", ends)
        return space


def switch_of(name: str, document: Mapping[str, Any]) -> str | None:
    """The switch that selects the catalogue entry to which a param belongs; None for a param of a section."""
    catalogue = name.partition(".")[0]
    return next((switch for switch, entries in switches(document).items() if entries == catalogue), None)


def active(name: str, chosen: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether a param has an effect: one of a catalogue's entry has when its switch, as chosen or as in params.yaml, selects that entry."""
    switch, entry = switch_of(name, document), name.partition(".")[2].partition(".")[0]
    if switch is None:
        return True
    section, _, key = switch.rpartition(".")
    as_it_stands = document[section][key] if section else document[key]
    return bool(chosen.get(switch, as_it_stands) == entry)


def shared_settings(document: Mapping[str, Any], fixed: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Dotted name → value of the settings that the trials share: the space, and each param that can have an effect and is not searched.

    fixed: the values of `-S`. Values are as JSON gives them, so that they equal those from the study's storage.
    """
    searched = {name: choices for name, choices in space.items() if name not in fixed}
    params = {**dict(leaves(document)), **fixed}

    def may_count(name: str) -> bool:
        switch = switch_of(name, document) or ""
        choices = searched.get(switch)
        selections: list[Mapping[str, Any]] = [{switch: choice} for choice in choices] if isinstance(choices, list) else [fixed]
        return name.partition(".")[0] not in WITHOUT_EFFECT and any(active(name, selection, document) for selection in selections)

    settings = {name: value for name, value in params.items() if name not in searched and may_count(name)}
    settings |= {
        f"search.space.{name}": choices.model_dump() if isinstance(choices, Range) else choices
        for name, choices in searched.items()
        if may_count(name)
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def parsed_change(change: str) -> tuple[str, Any]:
    """Dotted name and value of a `-S`, which DVC also takes as `params.yaml:NAME` and with Hydra's `+`, `++` or `~` before the name."""
    name, _, text = change.partition("=")
    file, colon, inner = name.partition(":")
    name = inner if colon and Path(file) == PARAMS_FILE else name
    try:
        value = parse_document(f"value: {text}", name)["value"]
    except UserError:  # text to Hydra can be none to YAML
        value = text
    return name.lstrip("+~"), value


def open_study(params: SearchParams, settings: dict[str, Any]) -> optuna.Study:
    """The study of this name, created if it is new. Errors: UserError when its storage cannot be opened, or its settings differ."""
    storage = params.storage or f"sqlite:///{cache_folder('search') / 'studies.db'}"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            study_name=params.study,
            storage=storage,
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=params.prune_after),
        )
    except Exception as error:  # SQLAlchemy and the database drivers have different classes of errors
        raise UserError(f"search.storage: {storage}: cannot be opened: {type(error).__name__}: {error}") from None
    if FIRST not in study.user_attrs:  # a new study, or one from before this attribute
        study.set_user_attr(FIRST, 0 if study.trials else _first_free_number(params.study))
    if SETTINGS not in study.user_attrs or all(trial.state == TrialState.FAIL for trial in study.trials):
        study.set_user_attr(SETTINGS, settings)  # failed trials have no score, and their settings may be why
    differing = _differences(study.user_attrs[SETTINGS], settings)
    if differing:
        raise UserError(f"search.study: {params.study} has other settings, {first_few(differing)}; give --study NAME for another")
    return study


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings that differ, with both values.

    A param on only one side belongs to another catalogue entry, whose switch differs, or to another version of the code; it is ignored.
    """
    spaces = {name for name in {*before, *now} if name.startswith("search.space.")}
    return [
        f"{name} ({brief(before.get(name))} there, {brief(now.get(name))} here)"
        for name in sorted({*before} & {*now} | spaces)
        if before.get(name) != now.get(name)
    ]


def _first_free_number(study: str) -> int:
    """One above the largest number of an experiment with the study's name: experiments outlive the study's storage."""
    names = git("for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps").splitlines()
    numbers = [int(match[1]) for name in names if (match := re.fullmatch(rf"{re.escape(study)}-(\d+)", name))]
    return max(numbers, default=-1) + 1


def check_repository() -> None:
    """Errors: UserError where DVC cannot record an experiment: outside a Git repository, and in a shallow clone."""
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise UserError("search: this clone is shallow, and DVC cannot record experiments in it; run `git fetch --unshallow` first")


def git(*arguments: str) -> str:
    """Git's output. Errors: UserError when it is not installed, or with its first line when it fails."""
    try:
        process = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError("git: not installed, or not on PATH; DVC records experiments in Git") from None
    if process.returncode:
        reason = next(iter(process.stderr.splitlines()), f"exit code {process.returncode}")
        raise UserError(f"git {arguments[0]}: {reason}; run this in a clone of the repository")
    return process.stdout
