"""Full or read-only disks, and workers that the system kills: one line, exit code 2, and the next run is correct."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from clones import Clone
from ruamel.yaml import YAML
from running import Running, half_files, state
from tally import Tally, every

pytestmark = pytest.mark.usefixtures("real_programs")

DISK_BYTES = 200 * 2**20
LEFT_BYTES = {
    "acquire": 2**16,
    "verify": 2**12,
    "clean": 2**12,
    "crop": 2**14,
    "rebalance": 2**10,
    "train": 2**13,
    "evaluate": 2**10,
    "report": 2**14,
    "export": 2**14,
}
"""Stage → free bytes on the disk when it begins, less than it writes. `fingerprint` writes nothing when nothing has changed."""


@pytest.fixture(scope="module")
def disk(reproduced: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A reproduced clone on a separate disk."""
    point = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", point], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk of our own: {mounted.stderr.strip()}")
    try:
        yield reproduced.copy(point / "clone")
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


def run_stage(clone: Clone, stage: str) -> subprocess.CompletedProcess[str]:
    return clone.attempt("python", "-m", f"stages.{stage}")


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of the error. Fails on any other output."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr[-3000:]
    return lines[0]


def fill(folder: Path, left: int) -> Path:
    """Writes a file that leaves `left` bytes of the disk free."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - left)
    return ballast


@pytest.mark.parametrize("stage", every(list(LEFT_BYTES), 1))
def test_a_full_disk_is_one_line_and_what_was_there_stays_whole(stage: str, disk: Clone, reproduced: Clone, tally: Tally) -> None:
    _forget(disk)
    ballast = fill(disk.folder.parent, LEFT_BYTES[stage])
    try:
        line = one_line(run_stage(disk, stage))
    finally:
        ballast.unlink()
    assert "No space left on device; free some of the disk" in line
    assert not half_files(disk) and not [path for path in disk.folder.rglob("*.part") if path.is_file()]
    disk.dvc("repro", "--force", "--single-item", stage)
    assert state(disk) == state(reproduced)
    tally("full disk", "one line, exit code 2, next run right")


@pytest.mark.parametrize("stage", every(list(LEFT_BYTES), 1))
def test_a_read_only_disk_is_one_line(stage: str, disk: Clone, reproduced: Clone, tally: Tally) -> None:
    mounted = disk.folder.parent
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    try:
        assert "Read-only file system; make it writable" in one_line(run_stage(disk, stage))
    finally:
        subprocess.run(["mount", "-o", "remount,rw", mounted], check=True)
    assert state(disk) == state(reproduced)
    tally("read-only folder", "one line, exit code 2, nothing changed")


@pytest.mark.parametrize("stage", every(["acquire", "crop", "verify"], 1))
def test_a_worker_that_the_system_kills_is_one_line_and_no_hang(
    stage: str, reproduced: Clone, tmp_path_factory: pytest.TempPathFactory, tally: Tally
) -> None:
    clone = reproduced.copy(tmp_path_factory.mktemp("memory") / "clone")
    _forget(clone)
    yaml = YAML()
    document = yaml.load(clone.folder / "params.yaml")
    document["runtime"]["workers"] = 2
    yaml.dump(document, clone.folder / "params.yaml")
    running = Running(clone, "python", "-m", f"stages.{stage}")
    while running.process.poll() is None and not (workers := workers_of(running.process.pid)):
        pass
    workers[0].send_signal(signal.SIGKILL)
    assert running.end() == 2, running.log.read_text()
    (message,) = [line for line in running.log.read_text().splitlines() if line.strip()]
    assert message.startswith("error: runtime.workers: a worker process was killed, most often for lack of memory")
    assert not half_files(clone)
    clone.dvc("repro", "--force", "--single-item", stage)
    assert state(clone) == state(reproduced)
    tally("worker killed for want of memory", "one line, exit code 2, next run right")


def workers_of(process: int) -> list[psutil.Process]:
    """The pool's workers: children of the fork server, which is a child of the process."""
    try:
        return [worker for server in psutil.Process(process).children() for worker in server.children()]
    except psutil.Error:
        return []


def _forget(clone: Clone) -> None:
    """Removes the caches outside the outputs, so that a stage writes everything again."""
    for path in sorted((clone.folder / ".dvc" / "tmp" / "affectnet").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
