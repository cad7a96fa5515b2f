"""Progress: a bar on a terminal, a line per minute in a log file."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

LOGGED_EVERY_S = 60.0


def progress(items: Iterable[Item], what: str, total: int | None = None, unit: str = "file") -> Iterator[Item]:
    """The items, with a bar on standard error when that is a terminal, and else a line there per minute; none before the first minute."""
    if sys.stderr.isatty():
        return iter(tqdm(items, desc=what, total=total, unit=unit, dynamic_ncols=True))
    return logged(items, what, total, unit)


def logged(items: Iterable[Item], what: str, total: int | None, unit: str, now: Callable[[], float] = time.monotonic) -> Iterator[Item]:
    """The items; writes `epoch 3: 120 of 533 steps, 60 s` to standard error whenever a minute has passed. now: seconds of a clock."""
    of = f" of {total:,}" if (total := total if total is not None else len(items) if isinstance(items, Sized) else None) else ""
    began = last = now()
    for done, item in enumerate(items):
        if (time_s := now()) - last >= LOGGED_EVERY_S:
            last = time_s
            print(f"{what}: {done:,}{of} {unit}s, {time_s - began:,.0f} s", file=sys.stderr, flush=True)
        yield item
