"""A stage ends with the DVC that started it, and with the search that started that: killed, they would leave it to train on."""

import _thread
import os
import threading
import time

SEARCH = "AFFECTNET_SEARCH"
"""Environment variable with the process number of the search whose trial a stage belongs to."""
LOOK_EVERY_S = 0.5
LAST_WORDS_S = 20.0
"""For what Ctrl-C does, which is what ends the stage: temporary files are removed, workers ended. Then it is ended hard."""


def end_with_parent() -> None:
    """Watches the process that started this one, when DVC says that it did; by hand or with nohup a stage lives on its own."""
    if "DVC_STAGE" in os.environ:
        search = os.environ.get(SEARCH)
        threading.Thread(target=_watch, args=(os.getppid(), int(search) if search else None), daemon=True).start()


def is_alive(process: int) -> bool:
    """Whether a process of this machine, by its number, has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def _watch(parent: int, search: int | None) -> None:
    while os.getppid() == parent and (search is None or is_alive(search)):
        time.sleep(LOOK_EVERY_S)
    _thread.interrupt_main()
    time.sleep(LAST_WORDS_S)
    os._exit(1)
