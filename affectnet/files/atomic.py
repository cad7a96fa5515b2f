"""Files and folders that appear whole or not at all."""

import fcntl
import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, lasting: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well, removes it otherwise.

    What killed processes have left there is removed first, wherever they ran. lasting: the content is on the disk before its
    name is, so that a power cut leaves the old content or the new; without, the rename alone is atomic.
    """
    with _unfinished(path) as temporary:
        yield temporary
        if lasting:
            _to_disk(temporary)
        temporary.replace(path)
        if lasting:
            _to_disk(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing` for a folder: yields a new one beside `path`, which takes the place of the old one at the end."""
    with _unfinished(path) as temporary:
        temporary.mkdir()
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A name of this process alone beside `path`, removed when the block ends.

    A lock beside it says that its process lives, also to other containers and hosts, whose process numbers say nothing here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for lock in path.parent.glob(f".{glob.escape(path.name)}.*.lock"):
        _remove_if_left(lock)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    lock = temporary.with_suffix(".lock")
    with lock.open("x") as held:
        try:
            with suppress(OSError):  # a file system without locks: others cannot lock it either, and leave the file alone
                fcntl.flock(held, fcntl.LOCK_EX)
            yield temporary
        finally:
            _remove(temporary)
            lock.unlink(missing_ok=True)


def _remove_if_left(lock: Path) -> None:
    """Removes the lock and its unfinished file or folder, unless a process holds the lock."""
    with suppress(OSError), lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(lock.with_suffix(".part"))
        lock.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Waits until the disk has the content of the file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes the text in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the mapping, keys in their given order, with a final newline; NaN and infinity are refused (ValueError)."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, f"{text}\n")
