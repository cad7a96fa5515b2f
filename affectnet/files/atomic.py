"""Files and folders that appear completely or not at all."""

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
    """Yields a temporary path next to `path`; renames it to `path` when the block ends without an error, else removes it.

    Temporary files of killed processes are removed first, wherever these ran. lasting: the content is written to the disk before
    its name, so that a power cut leaves the old content or the new; without it only the rename is atomic.
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
    """As `replacing`, for a folder: yields a new one next to `path`, which replaces the old one at the end."""
    with _unfinished(path) as temporary:
        temporary.mkdir()
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A name next to `path` that only this process uses, removed when the block ends.

    A lock file shows that its process is alive, also to other containers and hosts, where process numbers mean nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for lock in path.parent.glob(f".{glob.escape(path.name)}.*.lock"):
        _remove_if_abandoned(lock)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    lock = temporary.with_suffix(".lock")
    with lock.open("x") as file:
        try:
            with suppress(OSError):  # a file system without locks: no other process can lock the file and remove it either
                fcntl.flock(file, fcntl.LOCK_EX)
            yield temporary
        finally:
            _remove(temporary)
            lock.unlink(missing_ok=True)


def _remove_if_abandoned(lock: Path) -> None:
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
    """Waits until the content of the file or folder is on the disk."""
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
    """Writes the mapping, keys in their order, with a final newline. Errors: ValueError for NaN and infinity."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, f"{text}\n")
