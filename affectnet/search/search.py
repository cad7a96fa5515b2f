"""A search over params.yaml in which every trial is a DVC experiment: `python -m affectnet.search --trials 12 -S train.epochs=8`.

Optuna proposes values of `search.space`; each trial is one `dvc exp run --temp`, so that the working tree stays as it is and
`dvc exp show` lists the trial. Trials are compared by the score on our validation split, never on test. A trial ends with
`evaluate`; the next `dvc repro` makes the report and the ONNX file of the trial that was applied.

A trial whose score falls behind is pruned: it is interrupted and recorded as the same experiment with `train.stop_after` at the
epoch that it reached, which resumes the interrupted training and ends at once. So re-running the params of any recorded trial
reproduces it.

Ctrl-C, or the death of the search, interrupts the running trial; the next call resumes the study and that trial.

With `--jobs N` it starts itself N times, each with a GPU of its own; with `--storage` machines share the study. No trial is run twice,
and no more than `trials`.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import dvc.api
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from affectnet.errors import UserError, first_few, one_line
from affectnet.params import PARAMS_FILE, parse, read_document
from affectnet.reporting.values import leaves, setting
from affectnet.running.watchdog import is_alive
from affectnet.search.jobs import JOB, run_jobs
from affectnet.search.study import FIRST, SearchParams, Space, active, check_repository, open_study, parsed_change, shared_settings
from affectnet.search.trial import Experiment

METRICS = "metrics/evaluate.json"
POLL_SECONDS = 0.3

FAILURES_IN_A_ROW = 3
SEEDS_PER_JOB = 100_000
MOST_JOBS = 64
Values = dict[str, Any]


def propose(trial: Trial, space: Space, document: Mapping[str, Any], fixed: Mapping[str, Any]) -> Values:
    """Values of the params that are active in this trial; switches first, because they decide which entries are."""
    values: Values = {}
    for name in sorted(space, key=lambda name: ("." in name, list(space).index(name))):
        choices = space[name]
        if name in fixed or not active(name, {**fixed, **values}, document):
            continue
        if isinstance(choices, list):
            values[name] = trial.suggest_categorical(name, choices)
        elif isinstance(choices.low, int) and isinstance(choices.high, int):
            values[name] = trial.suggest_int(name, choices.low, choices.high, log=choices.log)
        else:
            values[name] = trial.suggest_float(name, choices.low, choices.high, log=choices.log)
    return values


class Search:
    """A study and how its trials run."""

    def __init__(self, params: SearchParams, changes: list[str]) -> None:
        self.params = params
        self.changes = changes
        self.document = read_document()
        self.interrupted = False
        self.fixed = dict(leaves(dict(map(parsed_change, changes))))
        check_repository()
        settings = shared_settings(self.document, self.fixed, params.space)
        if not any(name.startswith("search.space.") for name in settings):
            names = first_few(list(params.space))
            raise UserError(
                f"search.space: no param of it has an effect, {names}: the switches select other entries, or -S sets them all; all trials "
                "would be one training"
            )
        self.study = open_study(params, settings)
        self.job, self.starter = map(int, os.environ.get(JOB, "0 0").split())
        # The same seed would propose the first trials again when a study is resumed, or the same ones in each job.
        seed = params.seed + len(self.study.trials) + SEEDS_PER_JOB * self.job
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=bool(self.starter))

    def run(self) -> None:
        """Runs trials until the study holds `params.trials`, those of earlier calls and other machines included."""
        with self._ctrl_c_between_writes():
            if not self.starter:  # which has done it, once for all jobs
                self.requeue_dead_trials()
            failures = 0
            while self.done() < self.params.trials:
                trial = self.study.ask()
                if self._is_surplus(trial):  # the missing trials run in other processes
                    self.study.tell(trial, state=TrialState.FAIL)
                    return
                try:
                    failures = 0 if self._trial(trial) else failures + 1
                except KeyboardInterrupt:
                    self._requeue(self.study.trials[trial.number])
                    raise
                self._raise_if_interrupted()
                if failures == FAILURES_IN_A_ROW or (failures and not self.done()):
                    raise UserError(f"search: {failures} trials failed in a row; the error of the last is above; fix it and search again")

    def summary(self) -> str:
        """The best trial and how to use it."""
        complete = [trial for trial in self.study.trials if trial.state == TrialState.COMPLETE]
        pruned = sum(trial.state == TrialState.PRUNED for trial in self.study.trials)
        if not complete:
            return f"search: {self.params.study}: no trial is complete"
        best = self.study.best_trial
        return (
            f"search: {self.params.study}: {len(complete)} trials complete, {pruned} pruned; best is {self.name(best.number)} with a "
            f"validation score of {best.value:.3f}: {setting(best.user_attrs['values'])}\n"
            f"list them with dvc exp show; apply the best with dvc exp apply {self.name(best.number)}, then dvc repro makes its report"
        )

    def name(self, number: int) -> str:
        """The name of a trial's experiment."""
        return f"{self.params.study}-{self.study.user_attrs[FIRST] + number:03d}"

    @contextmanager
    def _ctrl_c_between_writes(self) -> Iterator[None]:
        """Delays Ctrl-C until the next pause: during a write it would leave Optuna's storage unusable. A second Ctrl-C interrupts at once.

        The handler is also set because a shell's background jobs ignore SIGINT, and the trainings would inherit that.
        """

        def record(number: int, frame: FrameType | None) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        before = signal.signal(signal.SIGINT, record)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _raise_if_interrupted(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt

    def _pause(self) -> None:
        if self.starter and os.getppid() != self.starter:
            self.interrupted = True
        self._raise_if_interrupted()
        time.sleep(POLL_SECONDS)

    def done(self) -> int:
        """How many trials are complete or pruned."""
        return sum(trial.state in {TrialState.COMPLETE, TrialState.PRUNED} for trial in self.study.trials)

    def _is_surplus(self, trial: Trial) -> bool:
        """Whether the study is complete with the trials before this one, once those that run have ended."""
        counted = {TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING}
        before = [other for other in self.study.trials if other.number < trial.number and other.state in counted]
        return len(before) >= self.params.trials

    def _trial(self, trial: Trial) -> bool:
        """Runs the trial and prints how it ended; returns False when it failed."""
        try:
            values = propose(trial, self.params.space, self.document, self.fixed)
        except ValueError as error:  # a study without recorded settings may have trials of other choices
            self.study.tell(trial, state=TrialState.FAIL)
            raise UserError(f"search.study: {self.params.study}: {one_line(str(error))}; give --study NAME for another") from None
        trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
        trial.set_user_attr("values", values)
        name = self.name(trial.number)
        try:
            with tempfile.TemporaryDirectory() as folder:
                pruned_at = self._watched(trial, values, Path(folder))
            score = _read_score(name)
        except subprocess.CalledProcessError as error:
            self.study.tell(trial, state=TrialState.FAIL)
            print(f"{name}: failed: {error.output}: {setting(values)}", flush=True)
            return False
        if pruned_at:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, score)
        pruned = f"pruned after epoch {pruned_at}, " if pruned_at else ""
        print(f"{name}: {pruned}validation score {score:.3f}: {setting(values)}", flush=True)
        return True

    def _watched(self, trial: Trial, values: Values, folder: Path) -> int:
        """Runs the trial's experiment; returns the epoch at which it was pruned, 0 if it was not."""
        name, epoch = self.name(trial.number), 0
        running = Experiment(name, values, self.changes, folder / "progress", folder / "log")
        try:
            while running.process.poll() is None:
                self._pause()
                for score in running.scores():
                    epoch += 1
                    trial.report(score, epoch)
                if epoch and trial.should_prune():
                    running.interrupt()
                    epoch += len(running.scores())  # one more may have ended in the meantime
                    break
            else:
                running.wait(self._pause)
                return 0
            if running.process.returncode == 0:  # it ended before the interrupt
                return 0
            stopped = [*self.changes, f"train.stop_after={epoch}"]
            running = Experiment(name, values, stopped, folder / "progress2", folder / "log2")
            running.wait(self._pause)
        except KeyboardInterrupt:
            running.interrupt()
            raise
        return epoch

    def _requeue(self, trial: FrozenTrial) -> None:
        """The next call proposes the trial again, and its training resumes."""
        self.study.tell(trial.number, state=TrialState.FAIL)
        self.study.enqueue_trial(trial.params)

    def finished(self) -> int:
        """How many trials have ended; those of dead processes are queued again."""
        self.requeue_dead_trials()
        return self.done()

    def requeue_dead_trials(self) -> None:
        """Requeues the trials that ran on this machine in a process that has ended."""
        hostname = socket.gethostname()
        for trial in self.study.get_trials(states=[TrialState.RUNNING]):
            host, _, process = trial.user_attrs.get("process", ":").rpartition(":")
            if host == hostname and not is_alive(int(process)):
                self._requeue(trial)


def _read_score(name: str) -> float:
    """The validation score of a recorded experiment. Errors: subprocess.CalledProcessError when DVC has none of this name."""
    try:
        content = dvc.api.read(METRICS, rev=name)
    except Exception as error:  # DVC has no common class of errors
        reason = one_line(str(error)) or type(error).__name__
        raise subprocess.CalledProcessError(1, "dvc exp run", output=f"not recorded: {reason}") from None
    return float(json.loads(content)["selection"]["score"])


def _refuse_own_section(change: str, options: Collection[str]) -> None:
    """Errors: UserError when the `-S` is for section `search`, which decides about the search and is read before any trial has params."""
    name, _ = parsed_change(change)
    section, _, field = name.partition(".")
    if section == "search":
        remedy = f"give --{field}" if field in options else f"set it in {PARAMS_FILE}"
        raise UserError(f"-S {name}: -S is for the trials, and this is of the search; {remedy}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m affectnet.search", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--trials", type=int, help="trials in the study, those of earlier calls included")
    parser.add_argument("--study", help="name of the study, and prefix of its experiments' names")
    parser.add_argument("--storage", help="URL of Optuna's storage, shared by all searching machines")
    parser.add_argument("--jobs", type=int, default=1, help="trials that run at the same time on this machine, one GPU each")
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="NAME=VALUE", help="for all trials, as for dvc exp run")
    options = vars(parser.parse_args())
    changes, jobs = options.pop("set_param"), options.pop("jobs")
    if not 1 <= jobs <= MOST_JOBS:
        raise UserError(f"--jobs: {jobs}, 1 to {MOST_JOBS} are possible")
    wrong = [change for change in changes if "=" not in change]
    if wrong:
        raise UserError(f"-S {wrong[0]}: expects NAME=VALUE")
    for change in changes:
        _refuse_own_section(change, options)
    document = read_document()
    section = document.get("search")
    if isinstance(section, dict):
        section.update({name: value for name, value in options.items() if value is not None})
    search = Search(parse(document, "search", SearchParams, PARAMS_FILE), changes)
    if search.starter:
        search.run()
        return
    try:
        if jobs == 1:
            search.run()
        else:
            run_jobs(jobs, sys.argv[1:], search.finished, search.params.trials)
    finally:
        print(search.summary(), flush=True)
