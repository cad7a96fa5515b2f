"""A pipeline that is killed repeatedly ends with the bytes of an undisturbed one."""

import json
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import Clone
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from running import LOOK_EVERY_S, STAGES, Running, half_files, state, trained
from tally import Tally, every
from voluptuous import Invalid

pytestmark = pytest.mark.usefixtures("real_programs")

ROUNDS = [("train", None), *[(*STAGES, None)] * 6]
"""The stages that are killed in each round, and None for a moment of the whole `dvc repro`."""
HOW = [
    *[(signal.SIGKILL, victim) for victim in ("stage", "dvc", "both")] * 4,
    (signal.SIGINT, "both"),  # as Ctrl-C on a terminal
    (signal.SIGTERM, "dvc"),
    (signal.SIGTERM, "stage"),
]
LIKE_CTRL_C = {130, 1, 252, 255, -signal.SIGTERM, -signal.SIGKILL}


@pytest.mark.parametrize("index", every(range(len(ROUNDS)), 1))
def test_whatever_is_killed_at_whatever_moment_the_end_is_the_same(
    index: int,
    fresh: Clone,
    reproduced: Clone,
    seconds: dict[str, float],
    tmp_path_factory: pytest.TempPathFactory,
    tally: Tally,
) -> None:
    """Each round kills its stages once each and `dvc repro` at a random moment, and then lets everything end."""
    expected = state(reproduced)
    clone = fresh.copy(tmp_path_factory.mktemp("killed") / "clone")
    draw = random.Random(index)
    killed = []
    for position, victim_stage in enumerate(ROUNDS[index]):
        number, victim = HOW[(index + position * 11) % len(HOW)]
        running = Running(clone, "dvc", "repro")
        stage = running.stage(victim_stage) if victim_stage else None
        time.sleep(draw.uniform(0, 0.95 * seconds[victim_stage] if victim_stage else sum(seconds.values()) / 4))
        running.send(number, victim if victim_stage else "dvc", stage)
        code, kill = running.end(), f"{number.name} in {victim_stage or 'dvc repro'}"
        assert code in LIKE_CTRL_C or (code == 0 and victim_stage in {STAGES[-1], None}), f"{kill}: exit code {code}"
        if code == 0:
            tally(kill, "after the end of all, not counted")
        else:
            killed.append(kill)
        for name, (read, mend) in WRITTEN_IN_PLACE.items():
            if is_cut_off(clone, name, read):
                clone.run(*mend, name)
                tally(f"{name}, which DVC writes in place, cut off", f"said by DVC; {' '.join(mend)}")
        assert not half_files(clone)
    done = clone.attempt("dvc", "repro")
    same = done.returncode == 0 and state(clone) == expected
    for kill in killed:
        tally(kill, "end state equal, byte for byte" if same else "DIVERGED")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert state(clone) == expected
    assert not [*clone.folder.rglob("*.part"), *clone.folder.rglob(".*.lock")]
    assert not trained(clone)


@pytest.mark.stress
def test_a_killed_search_trains_no_further_and_its_trial_is_taken_up(reproduced: Clone, tmp_path: Path, tally: Tally) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    command = [sys.executable, "-m", "affectnet.search", "--trials", "1", "-S", "optimizer=adam", "-S", "train.epochs=60"]
    running = Running(clone, *command)
    assert running.stage("train") is not None, running.log.read_text()[-2000:]
    while not trained(clone) and running.process.poll() is None:
        time.sleep(LOOK_EVERY_S)
    running.send(signal.SIGKILL, "dvc", None)
    assert running.end() == -signal.SIGKILL
    said = clone.run(*command)
    assert re.search(r"^search-001: validation score 0\.\d", said, re.MULTILINE)
    assert clone.dvc("exp", "list", "--name-only").split() == ["search-001"]
    tally("a search, by SIGKILL", "its training ended with it, its trial was taken up")


def read_lock(path: Path) -> None:
    COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(path))


def read_users(path: Path) -> None:
    """Reads DVC's list of files in use, which exists from the first use on."""
    if path.exists():
        json.loads(path.read_bytes())


WRITTEN_IN_PLACE = {"dvc.lock": (read_lock, ("git", "restore")), ".dvc/tmp/rwlock": (read_users, ("rm",))}
"""File of DVC → how it is read, and the fix that docs/reliability.md names."""


def is_cut_off(clone: Clone, name: str, read: Callable[[Path], None]) -> bool:
    """Whether DVC cannot read this file of its own, which its next `dvc repro` must report."""
    try:
        read(clone.folder / name)
    except (ValueError, YAMLError, Invalid):
        done = clone.attempt("dvc", "repro")
        assert done.returncode == 255 and name in done.stderr, done.stderr
        return True
    return False
