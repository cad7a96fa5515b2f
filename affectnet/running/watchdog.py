"""Watchdog: ends this process when the process that started it has ended; else children of a killed parent would work on for hours."""

import _thread
import os
import threading
import time
from collections.abc import Callable

SEARCH = "AFFECTNET_SEARCH"
"""Environment variable with the process number of the search that started a stage's trial."""

CHECK_EVERY_S = 0.5

CLEANUP_S = 20.0
"""Time for a stage to end after Ctrl-C: it removes temporary files and ends its workers."""


def end_when(is_over: Callable[[], bool], cleanup_s: float = 0.0) -> None:
    """Checks `is_over` in a thread; once true, ends the process at once, or by Ctrl-C and after `cleanup_s` seconds at the latest."""
    threading.Thread(target=_watch, args=(is_over, cleanup_s), daemon=True).start()


def end_with_parent() -> None:
    """Ends a stage when the DVC or the search that started it ends. A stage started by hand or with nohup has no watchdog."""
    if "DVC_STAGE" in os.environ:
        parent, search = os.getppid(), os.environ.get(SEARCH)
        end_when(lambda: os.getppid() != parent or (search is not None and not is_alive(int(search))), CLEANUP_S)


def is_alive(process: int) -> bool:
    """Whether the process of this machine with this number has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process of another user
        pass
    return True


def _watch(is_over: Callable[[], bool], cleanup_s: float) -> None:
    while not is_over():
        time.sleep(CHECK_EVERY_S)
    if cleanup_s:
        _thread.interrupt_main()
        time.sleep(cleanup_s)
    os._exit(1)
