"""Verifies the download: every file hashed and decoded once, held against its lists, checksums and published counts."""

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from affectnet.atomic import replacing, write_json
from affectnet.cluster import spread
from affectnet.errors import UserError, first_few
from affectnet.inspection import inspect_file
from affectnet.inventory import INVENTORY, STATUSES
from affectnet.launch import launch
from affectnet.params import Runtime, Section
from affectnet.pointer import POINTER, Pointer
from affectnet.progress import progress
from affectnet.scratch import scratch
from affectnet.sources import open_source
from affectnet.sources.source import IMAGE_SUFFIXES, Source

Row = dict[str, Any]

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
    checksums = _read_checksums(Path(pointer.checksums)) if pointer.checksums else {}
    kinds = _kinds(seen, listed.images, set(source.annotation_files()))
    rows = _inspect(root, seen, kinds, any(len(digest) == 16 for digest in checksums.values()), runtime)
    mismatched = _mismatched(checksums, rows)
    table = _table(seen, kinds, rows, listed.images)
    counts = _counts(table, listed, len(mismatched), pointer.expected)
    INVENTORY.write(inventory, table)
    write_json(metrics, counts)
    _judge(table, counts, mismatched, params, inventory)
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
        raise UserError(
            f"{root}: links lead out of the root, {first_few(leaving)}; put the files themselves there, or make the root their folder"
        )
    return sorted(file for file in found if file.path != POINTER)


def _kinds(seen: Sequence[Seen], images: set[str], annotations: set[str]) -> dict[str, str]:
    def kind(path: str) -> str:
        if path in annotations:
            return "annotation"
        return "image" if path in images or PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES else "other"

    return {file.path: kind(file.path) for file in seen}


def _inspect(root: Path, seen: Sequence[Seen], kinds: Mapping[str, str], md5: bool, runtime: Runtime) -> dict[str, Row]:
    """What each file holds, by path: remembered where bytes and time are as they were, else read, in parallel."""
    memory, began = Memory(root), time.time_ns()
    rows = {file.path: row for file in seen if (row := memory.recall(file, kinds[file.path], md5)) is not None}
    unread = [file for file in seen if file.path not in rows]
    chunks = [unread[first : first + CHUNK] for first in range(0, len(unread), CHUNK)]
    work = ([(file.real, kinds[file.path]) for file in chunk] for chunk in chunks)
    done = spread(partial(_inspect_chunk, md5), work, runtime, root)
    for chunk, inspected in zip(chunks, progress(done, "verify", len(chunks), f"{CHUNK} files"), strict=True):
        rows.update((file.path, row) for file, row in zip(chunk, inspected, strict=True))
    memory.remember([file for file in seen if file.mtime_ns < began - SETTLED_NS], rows, kinds)
    return rows


def _inspect_chunk(md5: bool, chunk: list[tuple[Path, str]]) -> list[Row]:
    return [inspect_file(path, kind, md5).row() for path, kind in chunk]


class Memory:
    """What the last run read, so that a repeat costs one stat a file. Results are the same without it."""

    def __init__(self, root: Path) -> None:
        self.path = scratch("verify") / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.parquet"
        try:
            rows = pq.read_table(self.path, schema=REMEMBERED).to_pylist() if self.path.exists() else []
        except (pa.ArrowException, OSError):
            rows = []
        self.rows = {row["path"]: row for row in rows}

    def recall(self, file: Seen, kind: str, md5: bool) -> Row | None:
        row = self.rows.get(file.path)
        if row is None or (row["bytes"], row["mtime_ns"], row["kind"]) != (file.bytes, file.mtime_ns, kind) or (md5 and row["md5"] is None):
            return None
        return {name: value for name, value in row.items() if name not in {"path", "mtime_ns", "kind"}}

    def remember(self, seen: Sequence[Seen], rows: Mapping[str, Row], kinds: Mapping[str, str]) -> None:
        kept = [{"path": file.path, "mtime_ns": file.mtime_ns, "kind": kinds[file.path], **rows[file.path]} for file in seen]
        with replacing(self.path) as temporary:
            pq.write_table(pa.Table.from_pylist(kept, schema=REMEMBERED), temporary)


REMEMBERED = pa.schema(
    [
        *(("path", pa.string()), ("mtime_ns", pa.int64()), ("kind", pa.string()), ("bytes", pa.int64()), ("sha256", pa.binary())),
        *(("md5", pa.binary()), ("status", pa.string()), ("format", pa.string()), ("misnamed", pa.bool_()), ("width", pa.int32())),
        *(("height", pa.int32()), ("mode", pa.string()), ("dhash", pa.binary())),
    ]
)


def _table(seen: Sequence[Seen], kinds: Mapping[str, str], rows: Mapping[str, Row], listed: set[str]) -> pa.Table:
    """The inventory: files seen and files missing, sorted by path."""
    missing = listed - {file.path for file in seen}
    entries = [{"path": file.path, "kind": kinds[file.path], "listed": file.path in listed, **rows[file.path]} for file in seen]
    entries += [{"path": path, "kind": "image", "listed": True, "status": "missing", "misnamed": False} for path in missing]
    return pa.Table.from_pylist(sorted(entries, key=lambda entry: str(entry["path"])), schema=INVENTORY.schema)


def _read_checksums(path: Path) -> dict[str, bytes]:
    """Path below the root → digest, from a list as sha256sum or md5sum writes it. Errors: UserError on any other line."""
    found, wrong = {}, []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable checksum list: {error}") from None
    for number, line in enumerate(lines, 1):
        match = CHECKSUM.fullmatch(line)
        if match:
            name = match[3].replace("\\n", "\n").replace("\\\\", "\\") if match[1] else match[3]
            found[PurePosixPath(name).as_posix()] = bytes.fromhex(match[2])
        elif line and not line.startswith("#"):
            wrong.append(f"line {number}")
    if wrong:
        raise UserError(f"{path}: not in the format of sha256sum or md5sum, {first_few(wrong)}")
    return found


CHECKSUM = re.compile(r"(\\?)([0-9a-fA-F]{64}|[0-9a-fA-F]{32}) [ *](.+)")


def _mismatched(checksums: Mapping[str, bytes], rows: Mapping[str, Row]) -> list[str]:
    """Files of the checksum list that are not there or have another digest."""
    return sorted(path for path, digest in checksums.items() if path not in rows or digest not in (rows[path]["sha256"], rows[path]["md5"]))


def _counts(table: pa.Table, listed: Listed, mismatched: int, expected: Mapping[str, int]) -> dict[str, Any]:
    """metrics/verify.json: of all files `files` and `bytes`; of the listed images one count a status; then the differences."""
    of_listed = table.filter(table["listed"])
    statuses = {entry["values"]: entry["counts"] for entry in pc.value_counts(of_listed["status"]).to_pylist()}
    on_disk = table.filter(pc.not_equal(table["status"], "missing"))
    images = on_disk.filter(pc.and_(pc.equal(on_disk["kind"], "image"), pc.greater(on_disk["bytes"], 0)))
    return {
        "files": len(on_disk),
        "bytes": int(pc.sum(on_disk["bytes"]).as_py() or 0),
        "listed": len(of_listed),
        **{status: statuses.get(status, 0) for status in STATUSES},
        "misnamed": int(pc.sum(of_listed["misnamed"]).as_py() or 0),
        "unreferenced": int(pc.sum(pc.and_(pc.invert(on_disk["listed"]), pc.not_equal(on_disk["kind"], "annotation"))).as_py() or 0),
        "exact_duplicates": len(images) - len(pc.unique(images["sha256"])),
        "checksum_mismatch": mismatched,
        "rows": listed.rows,
        "expected_difference": {split: listed.rows.get(OFFICIAL[split], 0) - count for split, count in expected.items()},
    }


OFFICIAL = {"training": "train", "validation": "test"}
"""The official list that an expected count speaks of → our split of its rows."""


def _judge(table: pa.Table, counts: Mapping[str, Any], mismatched: Sequence[str], params: VerifyParams, inventory: Path) -> None:
    """Errors: UserError with a line for each kind of fault that exceeds the tolerance."""
    problems = []
    bad = table.filter(pc.and_(table["listed"], pc.not_equal(table["status"], "ok")))
    share = f"more than verify.tolerance {params.tolerance:g} allows"
    if len(bad) > params.tolerance * counts["listed"]:
        kinds = ", ".join(f"{counts[status]} {status}" for status in STATUSES[1:] if counts[status])
        names = first_few(bad["path"].to_pylist())
        problems.append(
            f"{inventory}: {len(bad)} of {counts['listed']:,} listed images cannot be used ({kinds}), {share}; {names}; "
            "the list is that file's column status"
        )
    if len(mismatched) > params.tolerance * max(counts["files"], 1):
        problems.append(f"{inventory}: checksums differ, {share}; {first_few(mismatched)}")
    for split, difference in counts["expected_difference"].items():
        listed = counts["rows"].get(OFFICIAL[split], 0)
        wanted = listed - difference
        if abs(difference) > params.tolerance * wanted:
            problems.append(
                f"{inventory}: the {split} list names {listed:,} images, {wanted:,} are expected, {share}; see datasets.<name>.expected"
            )
    if problems:
        raise UserError(*problems)


if __name__ == "__main__":
    launch(run)
