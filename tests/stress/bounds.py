"""Limits on broken data: the time after which a hanging test ends the run, and the memory of a real process."""

import faulthandler
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MOST_S, MOST_MB = 300, 2000


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Ends the whole run with a traceback when a test hangs, also in C code."""
    faulthandler.dump_traceback_later(MOST_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Ended(NamedTuple):
    """How a process ended: exit code, output, and its peak memory or that of its largest worker."""

    code: int
    out: str
    error: str
    peak_mb: int


def real_stage(stage: str) -> Ended:
    """`python -m stages.<stage>` in the working folder, in a new process. Errors: TimeoutExpired when it hangs."""
    return real_module(f"stages.{stage}")


def real_module(*arguments: str) -> Ended:
    """`python -m <arguments>`, as `real_stage`."""
    reader = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10); sys.exit(done.returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", reader, sys.executable, "-m", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=MOST_S / 2,
    )
    *out, peak = done.stdout.splitlines()
    return Ended(done.returncode, "\n".join(out), done.stderr, int(peak))
