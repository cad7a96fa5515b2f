import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import cast

import pytest

from affectnet.errors import UserError
from affectnet.running.parallel import in_order, local_pool

ROOT = Path(__file__).parent.parent


def late(number: int) -> tuple[int, int]:
    time.sleep(0.02 * (number % 3 == 0))
    return number, os.getpid()


def refuse(number: int) -> int:
    if number == 5:
        raise UserError("place: number 5")
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_work(workers: int) -> None:
    done = list(in_order(late, range(30), workers))
    assert [number for number, _ in done] == list(range(30))
    assert (os.getpid() in {process for _, process in done}) == (workers == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_users_error_comes_through_as_itself(workers: int) -> None:
    with pytest.raises(UserError, match="place: number 5"):
        list(in_order(refuse, range(30), workers))


@pytest.mark.parametrize("ending", ["whole", "let go", "error"])
def test_no_thread_of_the_pool_outlives_it(ending: str) -> None:
    """Python's clean-up at exit writes to the pipe of each pool with a running thread, which may be closing it."""
    results = in_order(refuse if ending == "error" else late, range(30), 2)
    if ending == "let go":
        next(results)
        cast(Generator[object], results).close()
    elif ending == "error":
        with pytest.raises(UserError):
            list(results)
    else:
        list(results)
    assert not [thread for thread in threading.enumerate() if "Executor" in type(thread).__name__]


def vanish(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_is_killed_is_the_users_to_know() -> None:
    with pytest.raises(UserError, match=r"runtime\.workers: a worker process was killed"):
        list(in_order(vanish, range(30), 2))


def test_no_more_than_two_chunks_a_worker_are_under_way() -> None:
    taken: list[int] = []

    def chunks() -> Iterator[int]:
        for number in range(30):
            taken.append(number)
            yield number

    for number, _ in enumerate(in_order(late, chunks(), 2)):
        assert len(taken) - number <= 4
    assert len(taken) == 30


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\nfrom affectnet.running.parallel import in_order\n"
        "def slow(n):\n    open(f'{sys.argv[1]}/{os.getpid()}', 'w').close()\n    time.sleep(600)\n"
        "if __name__ == '__main__':\n    list(in_order(slow, range(8), 2))\n"
    )
    pids = tmp_path / "pids"
    pids.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(pids)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    _until(lambda: len(list(pids.iterdir())) == 2)
    parent.kill()
    parent.wait()
    _until(lambda: not any(Path(f"/proc/{path.name}").exists() for path in pids.iterdir()))


def _until(condition: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("error", [OSError("handle is closed"), OSError(errno.EBADF, "Bad file descriptor")])
def test_a_pool_that_breaks_while_it_starts_a_worker_is_one_line(error: OSError) -> None:
    with pytest.raises(UserError, match="a worker process was killed"), local_pool(2, "process"):
        raise error


def test_another_fault_of_the_machine_is_not_a_killed_worker() -> None:
    with pytest.raises(OSError, match="No space left"), local_pool(2, "process"):
        raise OSError(errno.ENOSPC, "No space left on device")
