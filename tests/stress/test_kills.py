"""A pipeline that is killed again and again ends as one that nobody disturbed, byte for byte."""

import json
import random
import signal
import time

import pytest
from clones import Clone
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from running import STAGES, Running, half_files, state
from tally import Tally, every
from voluptuous import Invalid

LIVES = [("verify", "train", "export", None), *[(*STAGES, None)] * 6]
"""The stages that are struck in each life, and None for some moment of the whole."""
HOW = [
    *[(signal.SIGKILL, victim) for victim in ("stage", "dvc", "both")] * 3,
    (signal.SIGINT, "both"),  # as Ctrl-C on a terminal
    (signal.SIGTERM, "dvc"),
    (signal.SIGTERM, "stage"),
]
RWLOCK = ".dvc/tmp/rwlock"
LIKE_CTRL_C = {130, 1, 252, 255, -signal.SIGTERM, -signal.SIGKILL}


@pytest.mark.parametrize("life", every(range(len(LIVES)), 1))
def test_whatever_is_killed_at_whatever_moment_the_end_is_the_same(
    life: int,
    fresh: Clone,
    reproduced: Clone,
    seconds: dict[str, float],
    tmp_path_factory: pytest.TempPathFactory,
    tally: Tally,
) -> None:
    """In each life its stages are struck once each, and `dvc repro` at some moment of the whole, and then all is left to end."""
    expected = state(reproduced)
    clone = fresh.copy(tmp_path_factory.mktemp("killed") / "clone")
    draw = random.Random(life)
    struck = []
    for position, name in enumerate(LIVES[life]):
        number, victim = HOW[(life + position * 5) % len(HOW)]
        running = Running(clone, "dvc", "repro")
        stage = running.stage(name) if name else None
        time.sleep(draw.uniform(0, 0.95 * seconds[name] if name else sum(seconds.values()) / 4))
        running.send(number, victim if name else "dvc", stage)
        assert running.end() in LIKE_CTRL_C or running.process.returncode == 0
        if not whole_lock(clone):
            clone.git("restore", "dvc.lock")
            tally("dvc.lock, which DVC writes in place, cut off", "said by DVC, restored from Git")
        if not whole_list_of_users(clone):
            (clone.folder / RWLOCK).unlink()
            tally(f"{RWLOCK}, which DVC writes in place, cut off", "said by DVC, removed")
        assert not half_files(clone)
        struck.append((name or "dvc repro", number.name))
    done = clone.attempt("dvc", "repro")
    same = done.returncode == 0 and state(clone) == expected
    for name, signal_name in struck:
        tally(f"{signal_name} in {name}", "end state equal, byte for byte" if same else "DIVERGED")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert state(clone) == expected
    assert not list(clone.folder.rglob("*.part"))
    assert not [path for path in (clone.folder / ".dvc" / "tmp" / "affectnet" / "resume").glob("*") if path.is_dir()]


def whole_list_of_users(clone: Clone) -> bool:
    """Whether DVC can read its list of who uses which file; if not, its next command that asks has to say so."""
    path = clone.folder / RWLOCK
    if not path.exists():
        return True
    try:
        json.loads(path.read_bytes())
    except ValueError:
        done = clone.attempt("dvc", "repro")
        assert done.returncode == 255 and RWLOCK in done.stderr, done.stderr
        return False
    return True


def whole_lock(clone: Clone) -> bool:
    """Whether DVC can read its dvc.lock; if not, its next command has to say so."""
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(clone.folder / "dvc.lock"))
    except (YAMLError, Invalid):
        done = clone.attempt("dvc", "status")
        assert done.returncode == 255 and "dvc.lock" in done.stderr, done.stderr
        return False
    return True
