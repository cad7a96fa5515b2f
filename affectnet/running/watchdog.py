"""Ends this process when the process that it works for has ended: children of a killed parent would work on for hours."""

import _thread
import os
import threading
import time
from collections.abc import Callable

SEARCH = "AFFECTNET_SEARCH"
"""Environment variable with the process number of the search that started a stage's trial."""

CHECK_EVERY_S = 0.5

CLEANUP_S = 20.0
"""What Ctrl-C does in a stage may take so long: remove temporary files, end workers."""


def end_when(is_over: Callable[[], bool], cleanup_s: float = 0.0) -> None:
    """Checks `is_over` in a thread; once true, the process ends: with cleanup_s above 0 by Ctrl-C first, after that time at once."""
    threading.Thread(target=_watch, args=(is_over, cleanup_s), daemon=True).start()


def end_with_parent() -> None:
    """Ends a stage with the DVC that started it, and with its search. Started by hand or with nohup, a stage has no watch."""
    if "DVC_STAGE" in os.environ:
        parent, search = os.getppid(), os.environ.get(SEARCH)
        end_when(lambda: os.getppid() != parent or (search is not None and not is_alive(int(search))), CLEANUP_S)


def is_alive(process: int) -> bool:
    """Whether a process of this machine, by its number, has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def _watch(is_over: Callable[[], bool], cleanup_s: float) -> None:
    while not is_over():
        time.sleep(CHECK_EVERY_S)
    if cleanup_s:
        _thread.interrupt_main()
        time.sleep(cleanup_s)
    os._exit(1)
