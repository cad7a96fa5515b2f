"""A trial of a search as a running `dvc exp run --temp`: started, watched, interrupted."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from affectnet.errors import one_line
from affectnet.running.progress_file import PROGRESS_FILE, read_progress
from affectnet.running.watchdog import SEARCH

LAST_STAGE = "evaluate"


class Experiment:
    """One `dvc exp run --temp` in a process group of its own, and the progress file of its training."""

    def __init__(self, name: str, values: Mapping[str, Any], changes: list[str], progress: Path, log: Path) -> None:
        self.progress = progress
        self.log = log
        self.epochs_read = 0
        settings = [*(f"{key}={'null' if value is None else value}" for key, value in values.items()), *changes]
        command = [
            sys.executable,
            "-m",
            "dvc",
            "--wait-for-lock",  # another job may hold it for a moment
            "exp",
            "run",
            "--temp",
            "--name",
            name,
            *(part for setting in settings for part in ("-S", setting)),
            LAST_STAGE,
        ]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])  # for the stages' `python`
        environment = {**os.environ, "PATH": path, PROGRESS_FILE: str(progress), SEARCH: str(os.getpid())}
        with log.open("w", encoding="utf-8") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def scores(self) -> list[float]:
        """The scores of the epochs that ended since the last call."""
        epochs = read_progress(self.progress, self.epochs_read)
        self.epochs_read += len(epochs)
        return [values["score"] for values in epochs]

    def wait(self, pause: Callable[[], None]) -> None:
        """Returns when it has ended. Errors: subprocess.CalledProcessError, whose output is the first error line, when it fails."""
        while (code := self.process.poll()) is None:
            pause()
        if code:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            errors = [line for line in lines if line.lower().startswith("error:")] or lines or [f"exit code {code}"]
            raise subprocess.CalledProcessError(code, "dvc exp run", output=one_line(errors[0]))

    def interrupt(self) -> None:
        """Sends Ctrl-C to dvc and its trainer, which keeps its last epoch, and waits for both."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait()
