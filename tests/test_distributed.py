"""Training in several real processes, by the stage's command, on the CPU."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pytest
import torch
from chain import TINY, curves, entry, run_stage
from exchange import COUNT, batch_loss, exchange, rows, targets
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from safetensors.torch import load_file
from torch import nn

from affectnet.errors import UserError
from affectnet.running.progress_file import PROGRESS_FILE
from affectnet.training.augmentation.augment import Augment, params_class
from affectnet.training.augmentation.draws import Draws
from affectnet.training.distributed import Group, Processes
from affectnet.training.launcher import STARTER, launch_processes
from affectnet.training.losses.dynamic_learned import class_gradients

# torch's launcher leaves the log files of the processes open.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")

ROOT = Path(__file__).parent.parent
MODEL = Path("models/model.safetensors")
CPU = torch.device("cpu")
EXACT = {**TINY, "architecture": "vgg16", "dropout": 0.0}
"""A network whose outputs for a face depend on no other face and on no draw."""


def one_of(count: int, rank: int) -> Processes:
    """A group of several processes, for methods that need no other process."""
    group = Processes.__new__(Processes)
    group.rank, group.count = rank, count
    return group


@given(st.integers(1, 9), st.integers(0, 40))
def test_shares_are_contiguous_cover_all_rows_and_differ_by_one_at_most(count: int, faces: int) -> None:
    shares = [one_of(count, rank).own_rows(faces) for rank in range(count)]
    assert [row for share in shares for row in range(faces)[share]] == list(range(faces))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1 and max(lengths) == lengths[0]


@settings(max_examples=20)
@given(st.integers(5, 30), st.integers(1, 5))
def test_a_share_of_a_batch_is_augmented_as_in_the_whole_batch(faces: int, count: int) -> None:
    images = torch.randint(0, 256, (faces, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(faces))
    augment = Augment(params_class().model_validate(entry("augmentation", "standard")))

    def augmented(share: slice) -> torch.Tensor:
        return augment(images[share], Draws(torch.Generator().manual_seed(1), CPU, faces, share))

    parts = [augmented(one_of(count, rank).own_rows(faces)) for rank in range(count)]
    torch.testing.assert_close(torch.cat(parts), augmented(slice(0, faces)))


def test_a_step_too_small_for_the_processes_is_refused_before_it_starts() -> None:
    with pytest.raises(UserError, match=r"train\.batch: a step of 5 faces leaves fewer than two to each of 3 processes"):
        one_of(3, 0).refuse_small_steps(11, 6)
    one_of(3, 0).refuse_small_steps(12, 6)
    Group(CPU).refuse_small_steps(1, 2)


def test_what_passes_between_processes_is_what_one_process_has(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=exchange, args=(rank, tmp_path)) for rank in range(COUNT)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    weight, whole = nn.Parameter(torch.tensor([[1.0], [2.0]])), targets()
    outputs = rows(7, 2) @ weight
    (gradient,) = torch.autograd.grad(batch_loss(outputs, whole), weight)
    gathered = [rows(faces, width) for faces in range(8) for width in (0, 2)]
    mean = class_gradients(rows(7, 2), rows(7, 2), whole.expression)
    for rank in range(COUNT):
        received = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(
            received, [*gathered, outputs.detach(), whole.expression, whole.affect, whole.rows, gradient, torch.tensor([0.1]), mean]
        )


def choose(model: Mapping[str, Any] = EXACT, **changes: Any) -> None:
    """Writes to params.yaml: the network, two processes, and changes of section `train` or of the selected entries."""
    yaml, path = YAML(), Path("params.yaml")
    document = yaml.load(path)
    document["runtime"].update(processes=2, device="cpu", workers=1)
    document["models"]["vgg16_small"] = dict(model)
    document["train"].update({"epochs": 3, "batch": 10, **{name: value for name, value in changes.items() if name in document["train"]}})
    for switch, plural in (("optimizer", "optimizers"), ("loss", "losses"), ("task", "tasks")):
        if switch in changes:
            document[switch], document[plural]["chosen"] = "chosen", changes[switch]
    yaml.dump(document, path)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Trains in two processes, and returns the summary line."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(STARTER, "")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)}
    yield lambda: launch_processes("stages.train", 2, CPU)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def assert_as_in_one_process() -> None:
    """Trains again in this process, and compares all epochs and the weights with the existing ones."""
    logged, weights = curves(), load_file(MODEL)
    run_stage("train")
    in_one = curves()
    assert set(in_one) == set(logged) and len(in_one["train/loss"]) == len(logged["train/loss"])
    for name, values in in_one.items():
        atol = 1e-3 if name.endswith("_ccc") else 1e-5  # near 0 it is a quotient of rounding errors
        np.testing.assert_allclose(logged[name], values, rtol=1e-4, atol=atol, err_msg=name)
    for name, tensor in load_file(MODEL).items():
        apart = ~torch.isclose(weights[name], tensor, rtol=1e-3, atol=1e-4)  # Adam scales the rounding error of a gradient near 0 up
        assert apart.float().mean() < 2e-3, name


def test_a_killed_process_ends_all_and_the_training_goes_on_as_in_one_process(prepared: Path, two: Callable[[], str]) -> None:
    choose(epochs=100, patience=100, accumulate=2)
    progress = prepared / "progress.jsonl"
    environment = {**os.environ, PROGRESS_FILE: str(progress)}
    del environment[STARTER]
    process = subprocess.Popen([sys.executable, "-m", "stages.train"], env=environment, stdout=PIPE, stderr=PIPE, text=True)
    end = time.monotonic() + 180
    while not progress.exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    started = children(process.pid)
    os.kill(started[1], signal.SIGKILL)
    output, errors = process.communicate(timeout=120)
    (line,) = [line for line in errors.splitlines() if not line.startswith("train: epoch ")]  # warnings of collapsed epochs
    assert process.returncode == 2 and output == ""
    assert line.startswith("error: runtime.processes: process 1 was ended by SIGKILL")
    assert not any(Path(f"/proc/{pid}").exists() for pid in started) and not MODEL.exists()
    reached = len(progress.read_text().splitlines())
    choose(epochs=100, patience=100, accumulate=2, stop_after=reached + 1)
    line = two()
    assert f"{reached + 1} epochs on cpu" in line and "\n" not in line
    assert_as_in_one_process()


def test_batch_statistics_in_the_loss_and_weights_that_learn_are_those_of_one_process(prepared: Path, two: Callable[[], str]) -> None:
    choose(
        {**EXACT, "freeze_epochs": 1},
        epochs=2,
        accumulate=2,
        clip_norm=1.0,
        ema=0.5,
        task=entry("task", "both", affect_loss="sum", weighting="uncertainty"),
        loss=entry("loss", "dynamic_learned"),
        optimizer=entry("optimizer", "sam", lr=0.01),
    )
    assert "2 epochs on cpu" in two()
    assert_as_in_one_process()


def test_the_users_mistake_comes_through_as_itself(prepared: Path, two: Callable[[], str], capfd: pytest.CaptureFixture[str]) -> None:
    choose(optimizer=entry("optimizer", "sgd", lr=1e12, reference_batch=0))
    with pytest.raises(UserError, match="the loss is NaN or infinite at epoch 1"):
        two()
    assert capfd.readouterr() == ("", "") and not MODEL.exists()
