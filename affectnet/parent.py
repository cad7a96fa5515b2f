"""A stage ends with the DVC that started it: killed, DVC would leave it to train on, beside the next one."""

import _thread
import os
import threading
import time

LOOK_EVERY_S = 0.5
LAST_WORDS_S = 20.0
"""For what Ctrl-C does, which is what ends the stage: temporary files are removed, workers ended. Then it is ended hard."""


def end_with_parent() -> None:
    """Watches the process that started this one, when DVC says that it did; by hand or with nohup a stage lives on its own."""
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    _thread.interrupt_main()
    time.sleep(LAST_WORDS_S)
    os._exit(1)
