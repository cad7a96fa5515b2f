"""`dvc repro` in a clone, watched from outside: its stages, its end, and the files it leaves behind."""

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from clones import Clone
from ruamel.yaml import YAML
from safetensors import safe_open

from affectnet.training.resume import ENDED

STAGES = ("fingerprint", "acquire", "verify", "clean", "inspect", "crop", "detect", "rebalance", "train", "evaluate", "report", "export")
LOOK_EVERY_S = 0.05
ASK_EVERY_S = 10.0  # a `dvc queue status` costs two seconds of a core
LONGEST_S = 180.0


class Running:
    """A command in a clone, in a process group of its own; its output goes to `log`."""

    def __init__(self, clone: Clone, *command: str) -> None:
        self.clone, self.log = clone, clone.folder.parent / f"{clone.folder.name}.log"
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored, which children inherit
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=clone.folder, env=clone.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def stage(self, name: str) -> psutil.Process | None:
        """The process of the stage once it has started; None when the command has ended without it."""
        until = time.monotonic() + LONGEST_S
        while self.process.poll() is None:
            for child in _below(self.process.pid):
                if is_stage(child, name):
                    return child
            assert time.monotonic() < until, self.log.read_text()[-2000:]
            time.sleep(LOOK_EVERY_S)
        return None

    def send(self, number: signal.Signals, victim: str, stage: psutil.Process | None) -> None:
        """Sends the signal to `stage`, `dvc` or `both`; to DVC when the stage has ended."""
        if victim == "both" and self.process.poll() is None:
            os.killpg(self.process.pid, number)
        elif victim == "stage" and stage is not None and stage.is_running():
            stage.send_signal(number)
        else:
            self.process.send_signal(number)

    def end(self) -> int:
        """Waits for the command and all its processes, and returns its exit code. Fails when a process stays."""
        code = self.process.wait(LONGEST_S)
        until = time.monotonic() + 40
        while left := [process for process in psutil.process_iter(["cwd", "cmdline", "status"]) if _in(process, self.clone.folder)]:
            assert time.monotonic() < until, [process.info for process in left]
            time.sleep(LOOK_EVERY_S)
        return code


def queue_once_idle(clone: Clone, longest_s: float) -> str:
    """The output of `dvc queue status` once nothing is queued or running, or after `longest_s` seconds."""
    until = time.monotonic() + longest_s
    while re.search(r"Queued|Running", said := clone.dvc("queue", "status")) and time.monotonic() < until:
        time.sleep(ASK_EVERY_S)
    return said


def trained(clone: Clone) -> list[Path]:
    """The states of trainings that run or ended before their last epoch, once the first epoch is done."""
    states = (clone.folder / ".dvc" / "tmp" / "affectnet" / "resume").glob("*/last.pt")
    return [path for path in states if not (path.parent / ENDED).exists()]


def is_stage(process: psutil.Process, name: str) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return command[1:3] == ["-m", f"stages.{name}"]


def executed(output: str) -> list[str]:
    """The stages that `dvc repro` or `dvc exp run` ran, by its output; without `fingerprint`, which always runs."""
    return [stage for stage in re.findall(r"Running stage '(\w+)'", output) if stage != "fingerprint"]


def is_up_to_date(status: str) -> bool:
    """Whether `dvc status` names only `fingerprint`, which always runs."""
    return status.split() == ["fingerprint:", "always", "changed"]


def durations(clone: Clone) -> dict[str, float]:
    """Seconds that each stage takes in an undisturbed `dvc repro`; 0 for one that ended between two looks."""
    running, seconds = Running(clone, "dvc", "repro"), dict.fromkeys(STAGES, 0.0)
    while running.process.poll() is None:
        time.sleep(LOOK_EVERY_S)
        for child in _below(running.process.pid):
            for name in STAGES:
                if is_stage(child, name):
                    seconds[name] = time.time() - child.create_time()
    assert running.end() == 0, running.log.read_text()[-3000:]
    return seconds


def state(clone: Clone) -> dict[str, str]:
    """SHA-256 of every file below data, models and metrics, and of the content of dvc.lock.

    DVC writes its lock in place. One that a kill cut off after a stage is valid, and the missing stages then come back in run order,
    while DVC otherwise appends a new stage at the end.
    """
    files = [path for name in ("data", "models", "metrics") for path in (clone.folder / name).rglob("*")]
    contents = {path.relative_to(clone.folder).as_posix(): path.read_bytes() for path in sorted(files) if path.is_file()}
    lock = YAML(typ="safe").load(clone.folder / "dvc.lock")
    contents["dvc.lock"] = json.dumps(lock, sort_keys=True).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def half_files(clone: Clone) -> list[str]:
    """Files with a final name that cannot be read."""
    problems = []
    for path in [clone.folder / "dvc.lock", *(path for name in ("data", "models", "metrics") for path in (clone.folder / name).rglob("*"))]:
        hidden = any(part.startswith(".") for part in path.relative_to(clone.folder).parts)
        try:
            if hidden or not path.is_file():
                continue
            if path.suffix == ".parquet":
                pq.read_metadata(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".safetensors":
                with safe_open(path, "np") as file:
                    file.keys()
            elif path.suffix == ".lock":
                YAML(typ="safe").load(path.read_text())
        except Exception as error:
            problems.append(f"{path}: {error!r}")
    return problems


def _below(process: int) -> list[psutil.Process]:
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.Error:
        return []


def _in(process: psutil.Process, folder: Path) -> bool:
    where = process.info["cwd"]
    return bool(where) and Path(where).is_relative_to(folder) and process.info["status"] != psutil.STATUS_ZOMBIE
