"""The search, with real experiments in a reduced clone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from clones import ENVIRONMENT, Clone
from optuna.trial import TrialState
from running import trained

from affectnet.errors import UserError
from affectnet.params import parse, read_document
from affectnet.running.parallel import cores
from affectnet.running.progress_file import PROGRESS_FILE, append_progress, read_progress
from affectnet.search.jobs import JOB, environment, visible_gpus
from affectnet.search.search import Search, _read_score, main, propose
from affectnet.search.study import SETTINGS, Range, SearchParams, active, parsed_change, shared_settings
from affectnet.search.trial import Experiment

DOCUMENT = read_document(Path(__file__).parent.parent / "params.yaml")
SPACE: dict[str, list[Any] | Range] = {
    "optimizer": ["adam", "sgd"],
    "optimizers.adam.lr": Range(low=1e-4, high=1e-2, log=True),
    "optimizers.sgd.lr": Range(low=1e-2, high=0.1, log=True),
    "rebalance.limit": Range(low=10, high=20, log=False),
}


def test_a_param_counts_when_its_switch_selects_it() -> None:
    assert active("optimizers.adam.lr", {}, DOCUMENT) and not active("optimizers.sgd.lr", {}, DOCUMENT)
    assert active("optimizers.sgd.lr", {"optimizer": "sgd"}, DOCUMENT) and active("train.batch", {}, DOCUMENT)
    smoothing = "losses.weighted.label_smoothing"
    assert active(smoothing, {"loss": "weighted"}, DOCUMENT) and not active(smoothing, {"loss": "plain"}, DOCUMENT)


def test_proposals_stay_in_their_ranges_and_leave_out_what_is_fixed() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        values = propose(study.ask(), SPACE, DOCUMENT, {})
        other = {"adam": "sgd", "sgd": "adam"}[values["optimizer"]]
        assert f"optimizers.{other}.lr" not in values and values["rebalance.limit"] in range(10, 21)
        assert 1e-4 <= values[f"optimizers.{values['optimizer']}.lr"] <= 0.1
    fixed = propose(study.ask(), SPACE, DOCUMENT, {"optimizer": "sgd", "rebalance.limit": 12})
    assert set(fixed) == {"optimizers.sgd.lr"}


def test_the_shipped_section_is_valid_and_names_params_that_exist() -> None:
    for name in parse(DOCUMENT, "search", SearchParams).space:
        home: Any = DOCUMENT
        for part in name.split("."):
            home = home[part]
        assert not isinstance(home, dict)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"low": 0.2, "high": 0.1, "log": False}, "optimizers.adam.lr: low 0.2 is above high 0.1"),
        ({"low": 4, "high": 3, "log": False}, "optimizers.adam.lr: low 4 is above high 3"),
        ({"low": 0, "high": 0.1, "log": True}, "optimizers.adam.lr: log needs a low above 0, not 0"),
        ([], "optimizers.adam.lr: an empty list, nothing to choose from"),
    ],
)
def test_choices_that_hold_nothing_are_refused(bounds: Any, said: str) -> None:
    space = {"optimizer": ["adam", "sgd"], "optimizers.adam.lr": bounds}
    with pytest.raises(UserError) as caught:
        parse({**DOCUMENT, "search": {**DOCUMENT["search"], "space": space}}, "search", SearchParams)
    assert len(caught.value.problems) == 1 and f"search.space: {said}" in str(caught.value)


SCORED = ["task", "dataset", "labels", "datasets.demo.layout", "clean.expressions", "clean.validation_share", "train.stop_after"]


@pytest.mark.parametrize("name", SCORED)
def test_trials_whose_scores_mean_different_things_are_refused(name: str) -> None:
    space = {"optimizers.adam.lr": [0.1], "clean.label_issues": ["keep", "reject"], name: [1, 2]}
    with pytest.raises(UserError) as caught:
        parse({**DOCUMENT, "search": {**DOCUMENT["search"], "space": space}}, "search", SearchParams)
    expected = f"search.space: {name}: trials that differ in it are scored on other faces or by another score; set it by -S {name}=…"
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", ["evaluate.averaging", "inspect.examples", "audit.folds", "runtime.workers"])
def test_a_param_without_a_part_in_the_score_is_refused(name: str) -> None:
    space = {"optimizers.adam.lr": [0.1], name: [1, 2]}
    with pytest.raises(UserError, match=f"search.space: {name}: has no part in the score of a trial"):
        parse({**DOCUMENT, "search": {**DOCUMENT["search"], "space": space}}, "search", SearchParams)


def test_a_space_of_which_nothing_has_an_effect_is_refused(repository: Clone) -> None:
    space = {"optimizers.sgd.lr": [0.1, 0.01]}
    params = parse({**DOCUMENT, "search": {**DOCUMENT["search"], "space": space}}, "search", SearchParams)
    with pytest.raises(UserError, match=r"search\.space: no param of it has an effect, 1: optimizers.sgd.lr: the switches select other"):
        Search(params, ["optimizer=adam"])
    Search(params, ["optimizer=sgd"])


def test_the_choice_null_is_null_to_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command: list[str] = []
    monkeypatch.setattr(subprocess, "Popen", lambda parts, **_: command.extend(parts))
    values = {"train.epochs": None, "train.batch": 8, "optimizer": "sgd", "optimizers.sgd.nesterov": True}
    Experiment("one", values, [], tmp_path / "progress", tmp_path / "log")
    changes = [part for part in command if "=" in part]
    assert dict(map(parsed_change, changes)) == values and changes[0] == "train.epochs=null"


@pytest.mark.parametrize("bounds", [[3], *({"low": low, "high": low, "log": log} for low in (3, 0.5) for log in (False, True))])
def test_choices_of_one_value_propose_it(bounds: Any) -> None:
    space = parse({**DOCUMENT, "search": {**DOCUMENT["search"], "space": {"train.batch": bounds}}}, "search", SearchParams).space
    only = bounds[0] if isinstance(bounds, list) else bounds["low"]
    assert propose(optuna.create_study().ask(), space, DOCUMENT, {}) == {"train.batch": only}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("optimizer=sgd", ("optimizer", "sgd")),
        ("params.yaml:optimizer=sgd", ("optimizer", "sgd")),
        ("./params.yaml:++optimizer='sgd'", ("optimizer", "sgd")),
        ('optimizer="sgd"', ("optimizer", "sgd")),
        ("+optimizers.adam.lr=1e-3", ("optimizers.adam.lr", 0.001)),
        ("~train.note=a=b:c", ("train.note", "a=b:c")),
        ("other.yaml:optimizer=sgd", ("other.yaml:optimizer", "sgd")),
        ("train.note=[a", ("train.note", "[a")),
        ("train.batch=null", ("train.batch", None)),
    ],
)
def test_a_change_is_read_as_dvc_reads_it(change: str, expected: tuple[str, Any]) -> None:
    assert parsed_change(change) == expected


@pytest.mark.parametrize("change", ["params.yaml:optimizer=sgd", 'optimizer="sgd"', "++optimizer=sgd"])
def test_a_param_of_all_trials_is_not_proposed_in_any_spelling(repository: Clone, change: str) -> None:
    search = Search(parse(read_document(), "search", SearchParams), [change])
    settings = search.study.user_attrs[SETTINGS]
    assert settings["optimizer"] == "sgd" and "optimizers.sgd.nesterov" in settings and "optimizers.adam.algorithm" not in settings
    values = propose(search.study.ask(), search.params.space, search.document, search.fixed)
    assert not {"optimizer", "optimizers.adam.lr"} & set(values)
    space = {name: choices for name, choices in SPACE.items() if name.startswith("optimizer")}
    assert set(propose(optuna.create_study().ask(), space, DOCUMENT, search.fixed)) == {"optimizers.sgd.lr"}


def test_the_params_of_a_mapping_are_those_of_all_trials(repository: Clone) -> None:
    search = Search(parse(read_document(), "search", SearchParams), ["optimizers.adam={lr: 0.1, weight_decay: 0.0}", "optimizer=adam"])
    assert search.study.user_attrs[SETTINGS]["optimizers.adam.lr"] == 0.1
    space = {name: choices for name, choices in SPACE.items() if name.startswith("optimizer")}
    assert not {"optimizers.adam.lr", "optimizer"} & set(propose(optuna.create_study().ask(), space, DOCUMENT, search.fixed))


def test_what_is_logged_is_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress"
    append_progress({"score": 1.0})
    monkeypatch.setenv(PROGRESS_FILE, str(path))
    assert read_progress(path) == []
    append_progress({"score": 0.5})
    append_progress({"score": 0.6})
    with path.open("a") as file:
        file.write('{"score": 0.')
    assert [values["score"] for values in read_progress(path)] == [0.5, 0.6] and read_progress(path, 1) == [{"score": 0.6}]


def test_what_the_trials_share_is_all_that_can_count_and_is_not_searched() -> None:
    settings = shared_settings(DOCUMENT, {"optimizer": "adam", "train.epochs": 8}, SPACE)
    assert settings["train.epochs"] == 8 and settings["optimizer"] == "adam" and settings["dataset"] == "demo"
    assert "optimizers.adam.algorithm" in settings and not any(name.startswith("optimizers.sgd") for name in settings)
    assert settings["search.space.optimizers.adam.lr"] == {"low": 1e-4, "high": 1e-2, "log": True}
    assert not {"optimizers.adam.lr", "rebalance.limit", "search.space.optimizers.sgd.lr", "search.trials"} & set(settings)
    assert "augmentations.standard.degrees" in settings and not any(name.startswith("augmentations.strong") for name in settings)
    assert not any(name.startswith(("runtime.", "export.")) for name in settings)
    both = shared_settings(DOCUMENT, {}, SPACE)
    assert both["search.space.optimizer"] == ["adam", "sgd"] and {"optimizers.sgd.nesterov", "optimizers.adam.algorithm"} <= set(both)


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        (["-S", "train.epochs"], "expects NAME=VALUE"),
        (["--storage", "nonsense"], "cannot be opened"),
        (["--trials", "0"], r"search\.trials"),
        (["-S", "search.trials=2"], r"-S search\.trials: .*; give --trials$"),
        (["-S", "params.yaml:search.study=mine"], r"-S search\.study: .*; give --study$"),
        (["-S", "./params.yaml:++search.study=mine"], r"-S search\.study: .*; give --study$"),
        (["-S", "search.seed=4"], r"-S search\.seed: .*; set it in params\.yaml$"),
        (["-S", "~search.space.optimizer=x"], r"-S search\.space\.optimizer: .*; set it in params\.yaml$"),
    ],
)
def test_a_mistake_is_one_line(repository: Clone, monkeypatch: pytest.MonkeyPatch, argument: list[str], reason: str) -> None:
    monkeypatch.setattr("sys.argv", ["search", *argument])
    with pytest.raises(UserError, match=reason) as caught:
        main()
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)


def test_outside_a_repository_and_in_a_shallow_clone_nothing_is_started(
    repository: Clone, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.git("commit", "--quiet", "--allow-empty", "--message", "second")
    folder = tmp_path_factory.mktemp("shallow")
    repository.git("clone", "--quiet", "--depth", "1", repository.folder.as_uri(), str(folder / "clone"))
    monkeypatch.setattr("sys.argv", ["search"])
    monkeypatch.setattr("affectnet.search.search.Experiment", None)
    for start, reason in ((folder / "clone", r"shallow.*run `git fetch --unshallow`"), (folder, "not a git repository")):
        shutil.copy(repository.folder / "params.yaml", folder)
        monkeypatch.chdir(start)
        with pytest.raises(UserError, match=reason) as caught:
            main()
        assert "\n" not in str(caught.value)


def test_without_git_a_search_is_one_line(repository: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["search"])
    with pytest.raises(UserError, match="git: not installed"):
        main()


def names(*trials: int) -> list[str]:
    """The names of the experiments of these trials, in the study of params.yaml."""
    return list(map(Search(parse(read_document(), "search", SearchParams), []).name, trials))


def test_the_numbers_of_experiments_go_on_where_git_has_some_already(repository: Clone) -> None:
    assert names(0, 1) == ["search-000", "search-001"]
    for name in ("search-000", "search-006", "search-b-009", "research-007", "search-8b"):
        repository.git("update-ref", f"refs/exps/1f/5a93/{name}", "HEAD")
    assert names(0, 1) == ["search-000", "search-001"]
    shutil.rmtree(repository.folder / ".dvc")  # as `make clean` does
    assert names(0, 1) == ["search-007", "search-008"] == names(0, 1)


def test_an_experiment_runs_where_no_command_is_on_the_path(repository: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    running = Experiment("one", {}, [], tmp_path / "progress", tmp_path / "log")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        running.wait(lambda: time.sleep(0.05))
    assert "not inside of a DVC repository" in caught.value.output


def test_a_result_that_dvc_does_not_have_is_a_failed_trial(repository: Clone) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _read_score("search-000")
    assert caught.value.output.startswith("not recorded: ") and "\n" not in caught.value.output


class Watched:
    """In place of a trial's experiment: it runs until it is interrupted, and ends an epoch at each query."""

    def __init__(self, *_: Any) -> None:
        self.process = subprocess.Popen(["sleep", "600"])

    def scores(self) -> list[float]:
        return [0.5]

    def interrupt(self) -> None:
        self.process.terminate()
        self.process.wait()


def test_ctrl_c_is_heeded_when_nothing_is_being_written(repository: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a commit it would leave Optuna's session unusable, and the trial could not be requeued."""
    document = {**DOCUMENT, "search": {**DOCUMENT["search"], "storage": f"sqlite:///{repository.folder}/studies.db"}}
    search = Search(parse(document, "search", SearchParams), [])
    monkeypatch.setattr("affectnet.search.search.Experiment", Watched)
    written = []

    def report(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        written.append(search.interrupted)

    monkeypatch.setattr(optuna.trial.Trial, "report", report)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    assert written == [True] and signal.getsignal(signal.SIGINT) is handler
    stopped, waiting = search.study.trials
    assert (stopped.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    assert waiting.system_attrs["fixed_params"] == stopped.params != {}


def experiments(clone: Clone) -> dict[str, Any]:
    """Name → params and metrics, as `dvc exp show` lists them."""
    ((entry, *_), *_) = [json.loads(clone.dvc("exp", "show", "--json"))[1:]]
    return {one["name"]: one["revs"][0]["data"] for one in entry["experiments"] or []}


def test_a_search_survives_ctrl_c_prunes_resumes_and_is_listed(
    reproduced: Clone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    before = (clone.folder / "params.yaml").read_bytes()
    command = [sys.executable, "-m", "affectnet.search", "--trials", "1", "-S", "optimizer=adam", "-S", "train.epochs=20"]
    environment = {**ENVIRONMENT, "PATH": os.defpath, "DVC_SITE_CACHE_DIR": os.environ["DVC_SITE_CACHE_DIR"]}
    running = subprocess.Popen(command, cwd=clone.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not trained(clone) and running.poll() is None:  # until the trial's first epoch is stored
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130 and "interrupted" in said.splitlines()[-1]
    assert experiments(clone) == {}

    monkeypatch.chdir(clone.folder)
    monkeypatch.setenv("PATH", os.defpath)
    params = parse({**read_document(), "search": {**read_document()["search"], "trials": 2}}, "search", SearchParams)
    search = Search(params, ["optimizer=adam", "train.epochs=20"])
    stopped, waiting = search.study.trials
    assert (stopped.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: self.number == 2)
    search.run()
    states = [trial.state for trial in search.study.trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED]
    assert search.study.trials[1].params == stopped.params
    listed = experiments(clone)
    assert set(listed) == {"search-001", "search-002"}
    train = {name: entry["params"]["params.yaml"]["data"]["train"] for name, entry in listed.items()}
    reached = train["search-002"]["stop_after"]
    assert train["search-001"]["stop_after"] == 0 and 1 <= reached < train["search-002"]["epochs"] == 20
    score = listed["search-001"]["metrics"]["metrics/evaluate.json"]["data"]["selection"]["score"]
    assert search.study.best_value == score and "best is search-001" in search.summary()
    assert (clone.folder / "params.yaml").read_bytes() == before and clone.git("status", "--porcelain") == ""


def study_of(clone: Clone, trials: int) -> Search:
    document = {**DOCUMENT, "search": {**DOCUMENT["search"], "storage": f"sqlite:///{clone.folder}/studies.db", "trials": trials}}
    return Search(parse(document, "search", SearchParams), [])


def test_processes_of_one_study_run_no_trial_too_many(repository: Clone) -> None:
    first, second = study_of(repository, 2), study_of(repository, 2)
    asked = [search.study.ask() for search in (first, second, first, second)]
    assert [first._is_surplus(trial) for trial in asked] == [False, False, True, True]
    second.study.tell(asked[1], state=TrialState.FAIL)  # its process is dead, and the trial is queued again
    assert [first._is_surplus(trial) for trial in asked[2:]] == [False, True]


def test_jobs_propose_different_trials_each_on_its_gpu(repository: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    proposed = []
    for job in range(2):
        monkeypatch.setenv(JOB, f"{job} {os.getpid()}")
        search = study_of(repository, 2)
        proposed.append(propose(search.study.ask(), search.params.space, DOCUMENT, {}))
    assert proposed[0] != proposed[1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8f")
    assert [environment(job, 3, visible_gpus())["CUDA_VISIBLE_DEVICES"] for job in range(3)] == ["3", "GPU-8f", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert visible_gpus() == [] and environment(0, cores(), [])["OMP_NUM_THREADS"] == "1"
