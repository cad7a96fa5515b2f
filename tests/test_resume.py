import multiprocessing
import os
from pathlib import Path

import pytest
import torch

from affectnet.errors import UserError
from affectnet.resume import resume_key, training_state
from affectnet.scratch import scratch


def test_the_key_changes_with_params_and_data_and_nothing_else(workspace: Path) -> None:
    data = workspace / "data.bin"
    data.write_bytes(b"1")
    key = resume_key({"a": 1}, [data])
    assert resume_key({"a": 1}, [data]) == key
    assert resume_key({"a": 2}, [data]) != key
    data.write_bytes(b"2")
    assert resume_key({"a": 1}, [data]) != key


def test_state_is_kept_after_a_failure_and_removed_after_success(workspace: Path) -> None:
    with pytest.raises(RuntimeError), training_state("k") as state:
        assert state.load() is None
        state.save({"epoch": 3, "weights": torch.ones(2)})
        raise RuntimeError
    with training_state("k") as state:
        found = state.load()
        assert found is not None and found["epoch"] == 3 and torch.equal(found["weights"], torch.ones(2))
    with training_state("k") as state:
        assert state.load() is None


def test_an_unreadable_state_starts_afresh_and_says_so(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with training_state("k") as state:
        state.path.write_bytes(b"half a file")
        assert state.load() is None
    assert "starting from the first epoch" in capsys.readouterr().err


def _hold(folder: str, ready: object, done: object) -> None:

    os.chdir(folder)
    with training_state("k"):
        ready.set()  # type: ignore[attr-defined]
        done.wait()  # type: ignore[attr-defined]


def test_a_second_trainer_of_the_same_training_is_refused_until_the_first_is_dead(workspace: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(workspace), ready, done))
    process.start()
    assert ready.wait(180)
    with pytest.raises(UserError, match="already runs in another process"), training_state("k"):
        pass
    process.kill()
    process.join()
    with training_state("k"):
        pass


def test_a_temporary_experiment_uses_the_main_clones_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "main" / ".dvc" / "tmp" / "exps" / "tmpabc"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert scratch("x") == tmp_path / "main" / ".dvc" / "tmp" / "affectnet" / "x"
