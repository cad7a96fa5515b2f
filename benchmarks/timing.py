"""Medians of interleaved runs, and the table that compares them with their peers."""

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from affectnet.errors import one_line

ROOT = Path(__file__).parent.parent
Clock = Callable[[], float]
Scale = Literal["smallest", "small", "full"]
"""Amount of work: enough to see that it runs, five minutes, or the sizes of the goals."""

ABSENT = math.nan
"""The value of a peer that is not installed."""


@dataclass(frozen=True)
class Row:
    """One comparison. values: the measurements, `ours` first, ABSENT for a peer that is not installed; goal: the least ratio of our speed
    to that of the fastest peer.

    unit: `…/s` grows with speed; any other (s, MB) falls with it.
    """

    what: str
    unit: str
    values: Mapping[str, float]
    goal: float | None = None

    @property
    def ratio(self) -> float:
        """Speed of ours by that of the fastest other; NaN when no other is installed."""
        ours, *others = (value for value in self.values.values() if not math.isnan(value))
        if not others:
            return math.nan
        return ours / max(others) if self.unit.endswith("/s") else min(others) / ours

    @property
    def cells(self) -> tuple[str, ...]:
        ours, *others = self.values.items()
        verdict = "" if self.goal is None else "met" if self.ratio >= self.goal else "MISSED"
        shown = ", ".join(f"{name} {'not installed' if math.isnan(value) else f'{value:,.{digits(value)}f}'}" for name, value in others)
        goal = "" if self.goal is None else f"≥ {self.goal:.2f}"
        return self.what, self.unit, f"{ours[1]:,.{digits(ours[1])}f}", shown, f"{self.ratio:.2f}", goal, verdict


@dataclass(frozen=True)
class Failure:
    """A part of the benchmarks that ended with an error."""

    part: str
    error: Exception

    @property
    def cells(self) -> tuple[str, ...]:
        stderr = self.error.stderr.strip() if isinstance(self.error, subprocess.CalledProcessError) and self.error.stderr else ""
        reason = stderr.splitlines()[-1] if stderr else f"{type(self.error).__name__}: {self.error}"
        return self.part, "", "failed", one_line(reason), "", "", "FAILED"


HEAD = ("what", "unit", "ours", "peers", "speed / fastest peer", "goal", "")
WIDTHS = (54, 8, 8, 60, 26, 6, 6)
"""Of the columns, in characters; fixed, because rows are printed as they are measured."""


def installed(package: str) -> bool:
    """Whether a peer can be measured; `make bench` installs all of them."""
    return find_spec(package) is not None


def digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2


def line(cells: Sequence[str]) -> str:
    """A line of the Markdown table."""
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)) + " |"


def heading() -> str:
    """The table's first two lines."""
    return line(HEAD) + "\n|" + "|".join("-" * (width + 2) for width in WIDTHS) + "|"


def medians(cases: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter) -> dict[str, float]:
    """Seconds of each case, the median of `every`."""
    return {name: statistics.median(values) for name, values in every(cases, rounds, clock).items()}


def every(cases: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter) -> dict[str, list[float]]:
    """Seconds of each case in each of the rounds, in which each runs once, so that a slow moment of the machine hits all.

    The first round is not counted. clock: `time.process_time` for work on one core, which other programs disturb least.
    """
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(rounds + 1):
        for name, case in cases.items():
            began = clock()
            case()
            if round_:
                taken[name].append(clock() - began)
    return taken


@dataclass(frozen=True)
class Process:
    """A finished process: wall time in seconds, and its peak memory in MB, without its workers."""

    seconds: float
    megabytes: float


def run_process(arguments: Sequence[str], folder: Path, **environment: str) -> Process:
    """Runs `python …` in the folder with this project on its path. Errors: subprocess.CalledProcessError, with its stderr."""
    command = [sys.executable, *arguments]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    measured = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, *command],
        cwd=folder,
        env={**variables, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    code, seconds, kibibytes = map(float, measured.stdout.split())
    if code:
        raise subprocess.CalledProcessError(int(code), command, stderr=measured.stderr)
    return Process(seconds, kibibytes / 1024 * 1.048576)


MEASURE = """
import os, sys, time
began = time.perf_counter()
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent), 0)
print(os.waitstatus_to_exitcode(status), time.perf_counter() - began, usage.ru_maxrss)
"""
"""Linux counts the parent's memory at the start as the child's peak, so a small process has to start it."""
