"""Verifies the download: every file hashed and decoded once, held against its lists, checksums and published counts."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from affectnet.atomic import replacing, write_json
from affectnet.errors import UserError, first_few
from affectnet.inspection import inspect_file
from affectnet.inventory import INVENTORY, STATUSES
from affectnet.launch import launch
from affectnet.params import Runtime, Section
from affectnet.parallel import in_order
from affectnet.pointer import POINTER, Pointer
from affectnet.progress import progress
from affectnet.scratch import scratch
from affectnet.sources import open_source
from affectnet.sources.source import IMAGE_SUFFIXES, Source

CHUNK = 64
SETTLED_NS = 2_000_000_000
"""A file whose time stamp is younger than this when it is read may change again within the same tick: it is not remembered."""


class VerifyParams(Section):
    """Section `verify`."""

    tolerance: float = Field(ge=0, le=1)


class Seen(NamedTuple):
    """A file as the directory shows it: path below the root (escaped where it is no UTF-8), its real name, bytes, time."""

    path: str
    real: Path
    bytes: int
    mtime_ns: int


class Listed(NamedTuple):
    """What the annotation lists name: images, and how many rows by official split."""

    images: set[str]
    rows: dict[str, int]


def run(params: VerifyParams, runtime: Runtime, raw: Path, *, inventory: Path, metrics: Path) -> str:
    """Writes the inventory and the counts, then fails if more than the tolerance is wrong; returns the summary line."""
    pointer = Pointer.read(raw)
    source, root = open_source(pointer), Path(pointer.root)
    listed = _listed(source)
    seen = _walk(root)
    checksums = _read_checksums(pointer.checksums) if pointer.checksums else {}
    kinds = _kinds(seen, listed.images, set(source.annotation_files()))
    rows = _inspect(root, seen, kinds, any(len(digest) == 16 for digest in checksums.values()), runtime.workers)
    missing = sorted(listed.images - {file.path for file in seen})
    table = _table(seen, kinds, rows, listed.images, missing)
    INVENTORY.write(inventory, table)
    mismatched = sorted(path for path, digest in checksums.items() if digest not in _digests(rows.get(path)))
    counts = _counts(table, listed, mismatched, pointer.expected)
    write_json(metrics, counts)
    _judge(table, counts, mismatched, params.tolerance, inventory)
    return (
        f"verify: {counts['files']:,} files, {counts['bytes'] / 1e6:,.1f} MB, {counts['listed']:,} images listed: {counts['ok']:,} ok, "
        + ", ".join(f"{counts[status]:,} {status.replace('_', ' ')}" for status in STATUSES[1:])
        + f"; {counts['unreferenced']:,} unreferenced"
    )


def _listed(source: Source) -> Listed:
    """Errors: UserError when a list names a path that is absolute or climbs out of the root."""
    images: set[str] = set()
    rows: dict[str, int] = {}
    for split, paths in source.images():
        images.update(paths.drop_null().to_pylist())
        rows[split] = rows.get(split, 0) + len(paths)
    images.discard("")
    climbing = sorted(path for path in images if ".." in path.split("/") or path.startswith("/") or "\0" in path)
    if climbing:
        raise UserError(f"{source.root}: listed paths lead out of the root, {first_few(climbing)}; mend the list")
    return Listed(images, rows)


def _walk(root: Path) -> list[Seen]:
    """Every file below the root, sorted. Errors: UserError when a link leads out of the root."""
    found, leaving = [], []
    for folder, below, files in os.walk(root):
        below.sort()
        for name in [*files, *(name for name in below if os.path.islink(os.path.join(folder, name)))]:  # noqa: PTH114, PTH118 (420,000 files)
            real = Path(folder, name)
            if real.is_symlink() and not real.resolve().is_relative_to(root):
                leaving.append(real)
            elif real.is_file():
                stat = real.stat()
                path = real.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()
                found.append(Seen(path, real, stat.st_size, stat.st_mtime_ns))
    if leaving:
        raise UserError(f"{root}: links lead out of the root, {first_few(leaving)}; put the files themselves there, or make the root their folder")
    return sorted(file for file in found if file.path != POINTER)


def _kinds(seen: Sequence[Seen], images: set[str], annotations: set[str]) -> dict[str, str]:
    def kind(path: str) -> str:
        if path in annotations:
            return "annotation"
        return "image" if path in images or PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES else "other"

    return {file.path: kind(file.path) for file in seen}


def _inspect(root: Path, seen: Sequence[Seen], kinds: Mapping[str, str], md5: bool, workers: int) -> dict[str, dict[str, Any]]:
    """What each file holds, by path: remembered where bytes and time are as they were, else read, in parallel."""
    memory = _Memory(root)
    rows = {file.path: row for file in seen if (row := memory.recall(file, kinds[file.path], md5)) is not None}
    unread = [file for file in seen if file.path not in rows]
    chunks = [unread[first : first + CHUNK] for first in range(0, len(unread), CHUNK)]
    done = in_order(partial(_inspect_chunk, dict(kinds) if len(kinds) < CHUNK else {}, md5), _with_kinds(chunks, kinds), workers)
    for chunk, inspected in zip(chunks, progress(done, "verify", len(chunks), "chunk"), strict=True):
        rows.update((file.path, row) for file, row in zip(chunk, inspected, strict=True))
    memory.remember(seen, rows, kinds)
    return rows


def _with_kinds(chunks: Sequence[Sequence[Seen]], kinds: Mapping[str, str]) -> Iterator[list[tuple[Path, str]]]:
    return ([(file.real, kinds[file.path]) for file in chunk] for chunk in chunks)


def _inspect_chunk(_: dict[str, str], md5: bool, chunk: list[tuple[Path, str]]) -> list[dict[str, Any]]:
    return [asdict(inspect_file(path, kind, md5)) for path, kind in chunk]


class _Memory:
    """What the last run read, so that a repeat costs one stat a file. Results are the same without it."""

    def __init__(self, root: Path) -> None:
        self.path = scratch("verify") / f"{hashlib.sha256(str(root).encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.parquet"
        try:
            rows = pq.read_table(self.path).to_pylist() if self.path.exists() else []
        except (pa.ArrowException, OSError):
            rows = []
        self.rows = {row.pop("path"): row for row in rows}

    def recall(self, file: Seen, kind: str, md5: bool) -> dict[str, Any] | None:
        row = self.rows.get(file.path)
        fresh = row is not None and (row["seen_bytes"], row["mtime_ns"], row["kind"]) == (file.bytes, file.mtime_ns, kind)
        if row is None or not fresh or (md5 and row["md5"] is None):
            return None
        return {name: value for name, value in row.items() if name not in {"seen_bytes", "mtime_ns", "kind"}}

    def remember(self, seen: Sequence[Seen], rows: Mapping[str, Mapping[str, Any]], kinds: Mapping[str, str]) -> None:
        now = max((file.mtime_ns for file in seen), default=0)
        now = max(now, self.path.parent.stat().st_mtime_ns if self.path.parent.exists() else 0)
        kept = [
            {"path": file.path, "seen_bytes": file.bytes, "mtime_ns": file.mtime_ns, "kind": kinds[file.path], **rows[file.path]}
            for file in seen
            if rows[file.path]["status"] != "unreadable"
        ]
        with replacing(self.path) as temporary:
            pq.write_table(pa.Table.from_pylist(kept, schema=_MEMORY), temporary)


_MEMORY = pa.schema(
    [
        *(("path", pa.string()), ("seen_bytes", pa.int64()), ("mtime_ns", pa.int64()), ("kind", pa.string()), ("bytes", pa.int64())),
        *(("sha256", pa.binary()), ("md5", pa.binary()), ("status", pa.string()), ("format", pa.string()), ("misnamed", pa.bool_())),
        *(("width", pa.int32()), ("height", pa.int32()), ("mode", pa.string()), ("dhash", pa.binary())),
    ]
)
