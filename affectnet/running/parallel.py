"""One function mapped over chunks of work, in order, with a bounded number under way."""

import errno
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

from affectnet.errors import UserError
from affectnet.running.watchdog import end_when

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

CLOSED = "handle is closed"
"""What multiprocessing says, without a number, when a pool breaks while it starts a worker."""

CHECK_AFTER_S = 30.0
"""Seconds without a result after which a pool checks that its workers are still there."""


class Pool(NamedTuple):
    """Workers: their executor, the largest number of chunks under way, and a check that raises an error when the workers are gone."""

    executor: Executor
    most_chunks: int
    check_workers: Callable[[], None] = lambda: None


def cores() -> int:
    """Processors that this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ranges(count: int, most: int) -> Iterator[range]:
    """The numbers below `count` in ranges of at most `most`, in order: chunks of work."""
    return (range(first, min(first + most, count)) for first in range(0, count, most))


def in_order(
    function: Callable[[Chunk], Result], chunks: Iterable[Chunk], workers: int, kind: Literal["process", "thread"] = "process"
) -> Iterator[Result]:
    """function(chunk) for each chunk, by workers of this machine; see `map_over_pool`.

    workers: 0 is one per core, 1 stays in this process. `thread` is for functions that release the interpreter lock, as
    Pillow's decoding does. Errors: what `function` raises; UserError when the system kills a worker process.
    """
    return map_over_pool(local_pool(workers, kind), function, chunks)


def map_over_pool(opening: AbstractContextManager[Pool], function: Callable[[Chunk], Result], chunks: Iterable[Chunk]) -> Iterator[Result]:
    """function(chunk) for each chunk, in the order of the chunks. The pool bounds the chunks under way, so memory stays flat.

    The pool opens with the first chunk and closes after the last, or when the iterator is closed.
    """
    with opening as pool:
        waiting: deque[Future[Result]] = deque()
        for chunk in chunks:
            waiting.append(pool.executor.submit(function, chunk))
            if len(waiting) >= pool.most_chunks:
                yield _result(waiting.popleft(), pool)
        while waiting:
            yield _result(waiting.popleft(), pool)


def _result(future: Future[Result], pool: Pool) -> Result:
    while not wait([future], CHECK_AFTER_S).done:
        pool.check_workers()
    return future.result()


@contextmanager
def local_pool(workers: int, kind: Literal["process", "thread"]) -> Iterator[Pool]:
    """This machine's processes or threads, two chunks under way for each; a single worker is this process itself."""
    workers = workers or cores()
    if workers == 1:
        yield Pool(InThisProcess(), 1)
        return
    others = set(multiprocessing.active_children())
    with _executor(workers, kind) as executor:
        try:
            yield Pool(executor, 2 * workers)
        except (BrokenProcessPool, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EBADF and str(error) != CLOSED:
                raise
            # If a worker dies while another is starting, ProcessPoolExecutor can hang; terminate the survivors.
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise UserError("runtime.workers: a worker process was killed, most often for lack of memory; use fewer workers") from None
        finally:
            executor.shutdown(cancel_futures=True)  # joins the manager thread, which otherwise races with the exit of Python


class InThisProcess(Executor):
    """Runs each call when it is submitted, so that an error has the caller's traceback."""

    def submit(self, function: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(function(*args, **kwargs))
        return future


def _executor(workers: int, kind: str) -> Executor:
    if kind == "thread":
        return ThreadPoolExecutor(workers)
    # A fork of this process would copy its threads' locks (Arrow and torch have threads); a fork server has none.
    context = multiprocessing.get_context("forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn")
    return ProcessPoolExecutor(workers, context, initializer=_prepare_worker)


def _prepare_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends this worker when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_when(lambda: not parent.is_alive())
