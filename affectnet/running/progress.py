"""Progress bars on a terminal, and nothing elsewhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None, unit: str = "file") -> Iterator[Item]:
    """The items, with a bar on standard error when that is a terminal."""
    return iter(tqdm(items, desc=what, total=total, unit=unit, disable=None, dynamic_ncols=True))
