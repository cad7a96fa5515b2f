"""Several DVC commands at once: correct results, or a refusal with its reason; never a wrong or partial result."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import zc.lockfile
from clones import Clone, files_of
from running import is_up_to_date, queue_once_idle, trained
from tally import Tally, every

pytestmark = pytest.mark.usefixtures("real_programs")

WHAT = "concurrent use"
BUSY = ("is busy, it is being blocked by", "Unable to acquire lock")
RETRAIN = ("dvc", "repro", "--force", "--single-item", "train")


def results(clone: Clone) -> dict[str, bytes]:
    return files_of(clone.folder, "metrics", "models") | {"dvc.lock": (clone.folder / "dvc.lock").read_bytes()}


@pytest.fixture(autouse=True)
def _nothing_is_left_running(tmp_path: Path) -> Iterator[None]:
    yield
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if Path(process.cwd()).is_relative_to(tmp_path):
                process.kill()


def until(sign: Callable[[], object], running: subprocess.Popen[str]) -> None:
    while not sign() and running.poll() is None:
        time.sleep(0.02)


def stage_process(running: subprocess.Popen[str], stage: str) -> psutil.Process | None:
    """The process of a stage that runs below a `dvc repro`."""
    for process in psutil.Process(running.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # short-lived processes of git
            if process.cmdline()[-2:] == ["-m", f"stages.{stage}"]:
                return process
    return None


def ended(running: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    stdout, stderr = running.communicate(timeout=600)
    return subprocess.CompletedProcess(running.args, running.returncode, stdout, stderr)


def during_training(clone: Clone, *command: str) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """How a forced training and a command within it ended; the training is paused while the command runs."""
    running = clone.start(*RETRAIN)
    until(lambda: trained(clone), running)
    held = stage_process(running, "train")
    assert held
    held.suspend()
    other = clone.attempt(*command)
    held.resume()
    return ended(running), other


@pytest.mark.parametrize("stage", every(["train", "acquire"], 1))
def test_of_two_repros_in_one_clone_the_second_is_refused_and_the_first_is_right(
    fresh: Clone, reproduced: Clone, tmp_path: Path, tally: Tally, stage: str
) -> None:
    clone, command = (reproduced, RETRAIN) if stage == "train" else (fresh, ("dvc", "repro"))
    clone = clone.copy(tmp_path / "clone")
    first = clone.start(*command)
    until(lambda: stage_process(first, stage), first)
    second = clone.attempt(*command)
    assert ended(first).returncode == 0 and results(clone) == results(reproduced)
    assert second.returncode != 0 and any(reason in second.stderr for reason in BUSY), second.stderr
    assert is_up_to_date(clone.dvc("status"))
    tally(WHAT, "right")
    tally(WHAT, "refused")


@pytest.mark.stress
def test_two_clones_with_one_cache_reproduce_at_once(fresh: Clone, reproduced: Clone, tmp_path: Path, tally: Tally) -> None:
    clones = [fresh.copy(tmp_path / name) for name in ("one", "other")]
    for clone in clones:
        clone.dvc("cache", "dir", "--local", str(tmp_path / "cache"))
    for running in [clone.start("dvc", "repro") for clone in clones]:
        done = ended(running)
        assert done.returncode == 0, done.stderr
    for clone in clones:
        assert results(clone) == results(reproduced) and is_up_to_date(clone.dvc("status"))
        tally(WHAT, "right")


def listed(clone: Clone) -> dict[str, object]:
    """Name of each experiment → its metrics, by `dvc exp show`."""
    experiments = json.loads(clone.dvc("exp", "show", "--json"))[1]["experiments"] or []
    return {one["name"]: one["revs"][0]["data"]["metrics"] for one in experiments}


CHANGES = {"sgd": "optimizer=sgd", "seed": "train.seed=12"}


@pytest.mark.stress
def test_a_queue_of_two_workers_gives_what_one_experiment_after_the_other_gives(reproduced: Clone, tmp_path: Path, tally: Tally) -> None:
    queued, single = (reproduced.copy(tmp_path / name) for name in ("queued", "single"))
    for name, change in CHANGES.items():
        queued.dvc("exp", "run", "--queue", "--name", name, "-S", change)
        single.dvc("exp", "run", "--temp", "--name", name, "-S", change)
    queued.dvc("queue", "start", "-j", "2")
    states = dict(re.findall(r"^\w+ +(\w+) +.*?(Success|Failed|Queued|Running) *$", queue_once_idle(queued, 240), re.MULTILINE))
    queued.dvc("queue", "stop")
    expected, queued_results = listed(single), listed(queued)
    assert set(expected) == set(states) == set(CHANGES)
    for name, state in states.items():
        assert queued_results.get(name) == (expected[name] if state == "Success" else None), name
        tally(WHAT, {"Success": "right", "Failed": "reported as failed"}[state])
    assert results(queued) == results(reproduced)


EXPERIMENT = ("dvc", "exp", "run", "--temp", "--name", "e")


@pytest.mark.stress
def test_an_experiment_in_a_temporary_folder_next_to_a_repro(reproduced: Clone, tmp_path: Path, tally: Tally) -> None:
    clone, single = (reproduced.copy(tmp_path / name) for name in ("clone", "single"))
    single.run(*EXPERIMENT, "-S", "optimizer=sgd")
    repro, experiment = during_training(clone, *EXPERIMENT, "-S", "optimizer=sgd")
    assert repro.returncode == 0 and results(clone) == results(reproduced)
    assert experiment.returncode == 0 and listed(clone) == listed(single)
    tally(WHAT, "right", cases=2)


@pytest.mark.stress
def test_an_experiment_that_is_the_training_that_runs_is_refused(reproduced: Clone, tmp_path: Path, tally: Tally) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    repro, experiment = during_training(clone, *EXPERIMENT, "--force", "-S", "train.patience=12")  # the value of params.yaml
    assert repro.returncode == 0 and results(clone) == results(reproduced)
    assert experiment.returncode != 0 and "the same training already runs in another process" in experiment.stderr
    assert listed(clone) == {}
    tally(WHAT, "right")
    tally(WHAT, "refused")


COMMANDS = [
    ("exp", "show"),
    ("status",),
    ("checkout",),
    ("commit", "--force"),
    ("gc", "--workspace", "--force"),
    ("push",),
    ("remove", "train"),
]


@pytest.mark.stress
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_training_is_right_whatever_command_falls_into_it(
    reproduced: Clone, tmp_path: Path, tally: Tally, command: tuple[str, ...]
) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    repro, other = during_training(clone, "dvc", *command)
    assert repro.returncode == 0 and results(clone) == results(reproduced)
    assert is_up_to_date(clone.dvc("status")) and clone.git("status", "--porcelain") == ""
    tally(WHAT, "right")
    tally(WHAT, "refused" if other.returncode else "right")


@pytest.mark.stress
@pytest.mark.parametrize("command", [("checkout", "--force"), ("exp", "run", "-S", "optimizer=sgd")], ids=" ".join)
def test_a_training_whose_folder_was_overwritten_is_refused_and_taken_up_again(
    reproduced: Clone, tmp_path: Path, tally: Tally, command: tuple[str, ...]
) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    repro, _ = during_training(clone, "dvc", *command)
    (line,) = re.findall(r"^error: .*$", repro.stderr, re.MULTILINE)
    assert repro.returncode != 0 and ("not what was logged" in line or "changed while it ran" in line)
    assert (clone.folder / "dvc.lock").read_bytes() == (reproduced.folder / "dvc.lock").read_bytes()
    clone.git("restore", "params.yaml")
    assert len(trained(clone)) == 1
    clone.run(*RETRAIN)
    assert results(clone) == results(reproduced) and is_up_to_date(clone.dvc("status"))
    tally(WHAT, "refused, right when run again")


@pytest.mark.stress
@pytest.mark.parametrize("waits", [False, True])
def test_a_training_that_ends_while_another_command_has_the_lock_loses_nothing(
    reproduced: Clone, tmp_path: Path, tally: Tally, waits: bool
) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    command = ("dvc", "--wait-for-lock", *RETRAIN[1:]) if waits else RETRAIN
    running = clone.start(*command)
    until(lambda: trained(clone), running)
    lock = zc.lockfile.LockFile(str(clone.folder / ".dvc" / "tmp" / "lock"))
    until(lambda: not trained(clone), running)
    if waits:
        time.sleep(8)  # longer than the three after which DVC gives up
        lock.close()
        assert ended(running).returncode == 0
    else:
        done = ended(running)
        lock.close()
        assert done.returncode != 0 and "Unable to acquire lock" in done.stderr
        clone.dvc("commit", "--force", "train")
    assert results(clone) == results(reproduced) and is_up_to_date(clone.dvc("status"))
    tally(WHAT, "right" if waits else "refused")


def edit_params(clone: Clone) -> str:
    path = clone.folder / "params.yaml"
    path.write_text(re.sub(r"(?m)^(rebalance:\n  seed: )7 ", r"\g<1>8 ", path.read_text()))
    return "rebalance.seed"


def edit_code(clone: Clone) -> str:
    with (clone.folder / "affectnet" / "tables" / "sampling_plan.py").open("a") as file:
        file.write("# edited\n")
    return "affectnet/tables/sampling_plan.py"


def replace_data(clone: Clone) -> str:
    path = clone.folder / "data" / "annotations.parquet"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return "data/annotations.parquet"


PAUSE = """
    Path("here").touch()
    while not Path("go").exists():
        __import__("time").sleep(0.01)
"""


@pytest.mark.parametrize("edit", every([edit_params, edit_code, replace_data], 1))
def test_what_is_edited_while_a_stage_runs_is_not_recorded_with_the_results_of_before(
    reproduced: Clone, tmp_path: Path, tally: Tally, edit: Callable[[Clone], str]
) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    code = clone.folder / "stages" / "rebalance.py"
    text, count = re.subn(r"(?m)^(def run\(.*?\) -> str:\n(?:    \"\"\".*?\"\"\")?)", rf"\g<1>{PAUSE}", code.read_text(), flags=re.DOTALL)
    assert count == 1
    code.write_text(text)
    clone.git("commit", "--quiet", "--all", "--message", "a stage that waits")
    lock = (clone.folder / "dvc.lock").read_bytes()
    running = clone.start("dvc", "repro", "--single-item", "rebalance")
    until((clone.folder / "here").exists, running)
    named = edit(clone)
    (clone.folder / "go").touch()
    done = ended(running)
    (line,) = re.findall(r"^error: .*$", done.stderr, re.MULTILINE)
    assert done.returncode != 0 and "changed while it ran, 1: " in line and named in line
    assert (clone.folder / "dvc.lock").read_bytes() == lock
    clone.git("restore", ".")
    clone.dvc("commit", "--force", "rebalance")
    assert "up to date" in clone.dvc("status", "rebalance")
    assert files_of(clone.folder, "data") == files_of(reproduced.folder, "data")
    tally(WHAT, "refused")
