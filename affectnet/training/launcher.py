"""Starts a module in several processes of this machine, through torch's own launcher, and ends as one process would."""

import json
import logging
import os
import signal
import sys
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from affectnet.errors import BUG, USER_MISTAKE, UserError, user_problems
from affectnet.files.atomic import write_json
from affectnet.running.watchdog import end_when

STARTER = "AFFECTNET_STARTER"
"""Environment variable with the number of the process that started this one."""

REPORTS = "AFFECTNET_REPORTS"
"""Environment variable with the folder where a process that fails leaves its report."""


def launch_processes(module: str, processes: int, device: torch.device, *arguments: str) -> str:
    """Runs `python -m module arguments …` in `processes` processes; returns the standard output of the first, whose progress bar is shown.

    Errors: UserError as a process reports it, and when the system killed one; SystemExit after a bug, whose traceback is printed,
    and after a signal. However this process ends, no other is left.
    """
    if device.type == "cuda" and processes > torch.cuda.device_count():
        raise UserError(
            f"params.yaml: runtime.processes: {processes}, but torch sees {torch.cuda.device_count()} GPU; use as many or fewer"
        )
    with TemporaryDirectory(prefix="affectnet-") as name:
        folder = Path(name)
        os.environ |= {STARTER: str(os.getpid()), REPORTS: name}
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        logging.disable(logging.CRITICAL)  # the launcher would log each failure at length in this process
        try:
            elastic_launch(_config(folder, processes), sys.executable)("-m", module, *arguments)
        except ChildFailedError as failed:
            raise _failure(folder, failed.failures) from None
        except SignalException as stopped:
            raise SystemExit(128 + stopped.sigval) from None
        finally:
            logging.disable(logging.NOTSET)
        (printed,) = folder.glob("*/attempt_0/0/stdout.log")
        return printed.read_text(encoding="utf-8").strip()


def _config(folder: Path, processes: int) -> LaunchConfig:
    silent = {rank: Std.ALL if rank else Std.OUT for rank in range(processes)}
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.1,
        signals_to_handle="SIGTERM,SIGHUP,SIGQUIT",  # Ctrl-C stays KeyboardInterrupt, and ends the others as these do
        logs_specs=DefaultLogsSpecs(log_dir=str(folder), redirects=silent),
    )


def _failure(folder: Path, failures: Mapping[int, ProcessFailure]) -> BaseException:
    """Why the processes ended: the user's mistake, else a kill, else the first bug; the others fail because of it."""
    reports = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    ]
    for report in reports:
        if report["problems"]:
            return UserError(*report["problems"])
    # SIGTERM is how the launcher ends the others, SIGABRT how torch ends a process that has lost another.
    for rank, failure in failures.items():
        if failure.exitcode < 0 and -failure.exitcode not in {signal.SIGTERM, signal.SIGABRT}:
            name = signal.Signals(-failure.exitcode).name
            return UserError(
                f"runtime.processes: process {rank} was ended by {name}; SIGKILL is most often lack of memory: "
                "use fewer processes or a smaller train.batch"
            )
    tracebacks = [report["traceback"] for report in reports] or [_last_words(failure) for failure in failures.values()]
    print(tracebacks[0], file=sys.stderr)
    return SystemExit(BUG)


def _last_words(failure: ProcessFailure) -> str:
    """The stderr of a process that failed before it could report; that of the first process is on the terminal already."""
    log = Path(failure.error_file).with_name("stderr.log")
    words = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return f"{words}process {failure.local_rank} ended with exit code {failure.exitcode}"


@contextmanager
def reporting_failures() -> Iterator[None]:
    """In a process of `launch_processes` the block ends when the launching process does, and its failure is reported only to that."""
    if STARTER not in os.environ:
        yield
        return
    folder, starter = Path(os.environ[REPORTS]), int(os.environ[STARTER])
    end_when(lambda: os.getppid() != starter)
    try:
        yield
    except Exception as error:
        problems = user_problems(error)
        if problems:
            _leave(folder, USER_MISTAKE, problems=problems)
        _leave(folder, BUG, traceback=traceback.format_exc())


def _leave(folder: Path, code: int, **report: Any) -> NoReturn:
    write_json(folder / f"{os.environ['RANK']}.json", {"problems": [], "traceback": "", **report})
    os._exit(code)  # threads that wait for another process would block or abort a normal exit
