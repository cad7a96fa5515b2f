"""One search by several processes of this machine, one GPU each: they share the study and end when it is complete."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from affectnet.errors import UserError
from affectnet.running.parallel import cores

JOB = "AFFECTNET_SEARCH_JOB"
"""Environment variable of a search that is one of several: its number and the process number of the one that started them."""

VISIBLE_GPUS, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"


def run_jobs(jobs: int, arguments: Sequence[str], finished: Callable[[], int], trials: int) -> None:
    """Starts this search `jobs` times, and again as long as trials are missing and the last round has finished some.

    A job that was killed leaves its trial behind; the next round takes it up. arguments: of the search, without the number of jobs;
    finished: how many trials of the study have ended, after those of dead processes were queued again. Errors: UserError when no
    trial of a round has ended.
    """
    while (before := finished()) < trials:
        codes = _round(min(jobs, trials - before), arguments)
        if finished() == before:
            ends = ", ".join(f"exit code {code}" if code >= 0 else f"signal {-code}" for code in codes)
            raise UserError(
                f"search: no trial has ended in {len(codes)} processes ({ends}); their errors are above; fix them and search again"
            )


def _round(jobs: int, arguments: Sequence[str]) -> list[int]:
    """Runs this search in `jobs` processes at the same time and returns their exit codes.

    Errors: KeyboardInterrupt, once all of them have ended.
    """
    gpus = visible_gpus()
    running = [
        subprocess.Popen([sys.executable, "-m", "affectnet.search", *arguments], env=environment(job, jobs, gpus), start_new_session=True)
        for job in range(jobs)
    ]
    with _forwarded(running) as interrupted:
        codes = [process.wait() for process in running]
    if interrupted:
        raise KeyboardInterrupt
    return codes


@contextmanager
def _forwarded(running: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Passes Ctrl-C and the request to end on to the processes, each of which ends between two writes; lists the signals."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def environment(job: int, jobs: int, gpus: Sequence[str]) -> dict[str, str]:
    """Of one job: its GPU, by turns where there are fewer than jobs; without a GPU its share of the cores, unless the user has set it."""
    settings = {JOB: f"{job} {os.getpid()}"}
    if gpus:
        settings[VISIBLE_GPUS] = gpus[job % len(gpus)]
    elif THREADS not in os.environ:
        settings[THREADS] = str(max(1, cores() // jobs))
    return {**os.environ, **settings}


def visible_gpus() -> list[str]:
    """The names or numbers of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    if (named := os.environ.get(VISIBLE_GPUS)) is not None:
        return [name for name in named.split(",") if name.strip()]
    import torch  # noqa: PLC0415 (of several jobs only)

    return list(map(str, range(torch.cuda.device_count())))
