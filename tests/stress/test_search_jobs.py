"""A search by two processes of one machine, one of which is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clones import ENVIRONMENT, Clone
from optuna.trial import TrialState
from running import trained

from affectnet.params import parse, read_document
from affectnet.search.search import Search
from affectnet.search.study import SearchParams

pytestmark = pytest.mark.stress


def children_of(process: int) -> list[int]:
    """The searches that this one has started."""
    listed = subprocess.run(["pgrep", "-P", str(process), "-f", "affectnet.search"], capture_output=True, text=True, check=False)
    return list(map(int, listed.stdout.split()))


def test_a_killed_job_costs_no_trial_and_none_runs_twice(reproduced: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    command = [sys.executable, "-m", "affectnet.search", "--jobs", "2", "--trials", "3", "-S", "optimizer=adam", "-S", "train.epochs=6"]
    environment = {**ENVIRONMENT, "DVC_SITE_CACHE_DIR": os.environ["DVC_SITE_CACHE_DIR"]}
    running = subprocess.Popen(command, cwd=clone.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not trained(clone) and running.poll() is None:
        time.sleep(0.05)
    killed = children_of(running.pid)[0]
    os.kill(killed, signal.SIGKILL)
    said, errors = running.communicate(timeout=400)
    assert running.returncode == 0, errors
    monkeypatch.chdir(clone.folder)
    document = read_document()
    params = parse({**document, "search": {**document["search"], "trials": 3}}, "search", SearchParams)
    search = Search(params, ["optimizer=adam", "train.epochs=6"])
    ended = [trial for trial in search.study.trials if trial.state in {TrialState.COMPLETE, TrialState.PRUNED}]
    names = clone.git("for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps").split()
    assert len(ended) == 3 == len({str(trial.params) for trial in ended})
    assert sorted(names) == sorted(search.name(trial.number) for trial in ended)
    assert f"best is {search.name(search.study.best_trial.number)}" in said
    assert clone.git("status", "--porcelain") == ""
