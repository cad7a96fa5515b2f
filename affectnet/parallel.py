"""One function mapped over chunks of work, in order, with a bounded number under way."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Literal, TypeVar

from affectnet.errors import UserError

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def cores() -> int:
    """Processors that this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    function: Callable[[Chunk], Result], chunks: Iterable[Chunk], workers: int, kind: Literal["process", "thread"] = "process"
) -> Iterator[Result]:
    """function(chunk) for each chunk, in the order of the chunks, at most two chunks a worker under way: memory stays flat.

    workers: 0 is one per core, 1 stays in this process. `thread` is for functions that let go of the interpreter lock, as
    Pillow's decoding does. Errors: what `function` raises; UserError when the system kills a worker process.
    """
    workers = workers or cores()
    if workers == 1:
        yield from map(function, chunks)
        return
    with _executor(workers, kind) as executor:
        waiting: deque[Future[Result]] = deque()
        try:
            for chunk in chunks:
                waiting.append(executor.submit(function, chunk))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError("runtime.workers: a worker process was killed, most often for lack of memory; use fewer workers") from None
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _executor(workers: int, kind: str) -> Executor:
    if kind == "thread":
        return ThreadPoolExecutor(workers)
    # A fork of this process would copy its threads' locks (Arrow and torch have threads); a fork server has none.
    context = multiprocessing.get_context("forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn")
    return ProcessPoolExecutor(workers, context, initializer=_prepare_worker)


def _prepare_worker() -> None:
    """Ctrl-C is the parent's to handle, and a worker whose parent was killed ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
