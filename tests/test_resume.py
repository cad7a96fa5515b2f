import contextlib
import multiprocessing
import os
import resource
import tracemalloc
from pathlib import Path

import pytest
import torch

from affectnet.errors import UserError
from affectnet.files.cache_dir import cache_folder
from affectnet.training.resume import resume_key, training_state


def test_the_key_changes_with_params_and_data_and_nothing_else(workspace: Path) -> None:
    data = workspace / "data.bin"
    data.write_bytes(b"1")
    key = resume_key({"a": 1}, [data])
    assert resume_key({"a": 1}, [data]) == key
    assert resume_key({"a": 2}, [data]) != key
    data.write_bytes(b"2")
    assert resume_key({"a": 1}, [data]) != key


def epoch_of(key: str) -> int | None:
    """The epoch of the state under the key, read by a training that fails."""
    with contextlib.suppress(InterruptedError), training_state(key) as state:
        content = state.load()
        raise InterruptedError
    return None if content is None else content["epoch"]


def train(key: str, epoch: int) -> None:
    """Runs a training under the key to its end."""
    with training_state(key) as state:
        state.save({"epoch": epoch, "weights": torch.ones(2)})


def test_a_state_is_kept_after_a_failure_and_after_success(workspace: Path) -> None:
    with pytest.raises(RuntimeError), training_state("k") as state:
        assert state.load() is None
        state.save({"epoch": 3, "weights": torch.ones(2)})
        raise RuntimeError
    with training_state("k") as state:
        content = state.load()
        assert content is not None and content["epoch"] == 3 and torch.equal(content["weights"], torch.ones(2))
    assert epoch_of("k") == 3


def test_the_state_of_an_ended_training_is_kept_until_another_ends_and_that_of_a_failed_one_longer(workspace: Path) -> None:
    train("ended", 3)
    with pytest.raises(RuntimeError), training_state("failed") as state:
        state.save({"epoch": 2})
        raise RuntimeError
    with training_state("other"):
        held = cache_folder("resume", "ended") / "last.pt"
        assert held.exists()
    assert not held.exists() and epoch_of("failed") == 2
    train("other", 1)
    train("other", 4)
    assert epoch_of("other") == 4 and epoch_of("failed") == 2


def test_the_state_of_an_ended_training_that_is_taken_up_again_is_not_removed(workspace: Path) -> None:
    train("ended", 3)
    with pytest.raises(RuntimeError), training_state("ended"):
        train("other", 1)
        raise RuntimeError
    train("another", 1)
    assert epoch_of("ended") == 3 and epoch_of("other") is None


def test_a_state_is_written_without_a_copy_in_memory(workspace: Path) -> None:
    weights = torch.zeros(8 << 20)
    with training_state("k") as state:
        tracemalloc.start()
        state.save({"weights": weights})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < weights.nbytes / 8


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_state_that_the_disk_does_not_take_is_the_systems_error_and_leaves_the_last_one(workspace: Path, share: float) -> None:
    train("k", 3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(OSError, match="File too large"), training_state("k") as state:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(4_000_000 * share), limits[1]))
        try:
            state.save({f"weights {part}": torch.zeros(100_000) for part in range(10)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert epoch_of("k") == 3


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
    assert cache_folder("x") == tmp_path / "main" / ".dvc" / "tmp" / "affectnet" / "x"
