"""Verifies the download: hashes and decodes each file once, and compares the files with lists, checksums and published counts."""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from affectnet.cleaning import inspection
from affectnet.cleaning.inspection import inspect_file
from affectnet.errors import UserError, first_few, many, reraise_machine_fault
from affectnet.files.atomic import replacing, write_json
from affectnet.files.cache_dir import cache_folder
from affectnet.files.checksums import CHECKSUMS, check_paths, mismatched, read_checksums
from affectnet.files.file_walk import HIDDEN, files_below, readable
from affectnet.images import decode, formats
from affectnet.images.decode import HEIF_UNREAD, pillow_heif
from affectnet.images.formats import IMAGE_SUFFIXES
from affectnet.params import Runtime, Section
from affectnet.running.dask_cluster import map_chunks
from affectnet.running.parallel import ranges
from affectnet.running.progress import progress
from affectnet.running.run_stage import launch
from affectnet.sources.registry import open_source
from affectnet.sources.source import Source
from affectnet.tables.inventory import DHASH_BYTES, INVENTORY, MEMORY, STATUSES
from affectnet.tables.source_pointer import POINTER, Pointer

CHUNK = 64
"""Files that a worker reads at a time."""

PIECE = 8192
"""Files that are gathered in Python before they become an Arrow table."""

SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again without a new time stamp: it is not remembered."""

IMAGE_NAME = rf"[^/]({'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))})$"

SEEN = pa.schema([("path", pa.string()), ("real", pa.binary()), ("bytes", pa.int64()), ("mtime_ns", pa.int64())])
"""A file before it is read: path below the root; its real name where that is not UTF-8, so that the path is escaped; bytes; time."""

INSPECTED = pa.schema(
    [
        *(("path", pa.string()), ("mtime_ns", pa.int64()), ("kind", pa.string()), ("bytes", pa.int64()), ("sha256", pa.binary(32))),
        *(("md5", pa.binary(16)), ("status", pa.string()), ("format", pa.string()), ("misnamed", pa.bool_()), ("width", pa.int32())),
        *(("height", pa.int32()), ("mode", pa.string()), ("dhash", pa.binary(DHASH_BYTES))),
    ]
)
"""A file after it was read: its time before, and the result of inspect_file."""


class VerifyParams(Section):
    """Section `verify`."""

    tolerance: float = Field(ge=0, le=1)
    follow_links: bool


class Listed(NamedTuple):
    """The images that the annotation lists name, each once, and the number of rows by split."""

    images: pa.Array
    rows: dict[str, int]


def run(params: VerifyParams, runtime: Runtime, raw: Path, *, inventory: Path, metrics: Path) -> str:
    """Writes the inventory and the counts, then fails if more than the tolerance is wrong; returns the summary line."""
    pointer = Pointer.read(raw)
    root = Path(pointer.root)
    seen = _walk(root, params.follow_links)  # before the lists are read: a list may be a link, too
    source = open_source(pointer)
    listed = _listed(source)
    checksums = read_checksums(Path(pointer.checksums)) if pointer.checksums else CHECKSUMS.empty_table()
    check_paths(checksums, seen["path"], pointer.checksums, root)
    md5 = bool(pc.any(pc.equal(pc.binary_length(checksums["digest"]), 16)).as_py())
    inspected = _inspect(root, _with_kinds(seen, listed.images, source.annotation_files()), md5, runtime)
    differing = mismatched(checksums, inspected)
    table = _table(inspected, listed.images, differing)
    counts = _counts(table, listed, len(differing), {str(split): count for split, count in pointer.expected.items()})
    INVENTORY.write(inventory, table, {"labelling": json.dumps(pointer.labelling(), sort_keys=True)})
    write_json(metrics, counts)
    _judge(table, counts, differing, params, inventory, pointer)
    return (
        f"verify: {counts['files']:,} files, {counts['bytes'] / 1e6:,.1f} MB, {counts['listed']:,} images listed: {counts['ok']:,} ok, "
        + ", ".join(f"{counts[status]:,} {status.replace('_', ' ')}" for status in STATUSES[1:])
        + f"; {counts['unreferenced']:,} unreferenced, {counts['unreferenced_images']:,} of them images"
        + (f"; {many(len(differing), 'file')} without the checksum that is listed" if differing else "")
    )


def _listed(source: Source) -> Listed:
    """The images and rows of the lists. Errors: UserError when a list names a path that is absolute or leads out of the root."""
    pieces: list[pa.Array] = []
    rows: dict[str, int] = {}
    for split, paths in source.images():
        pieces.append(paths)
        rows[split] = rows.get(split, 0) + len(paths)
    images = pc.unique(pa.chunked_array(pieces, pa.string()))
    images = images.filter(pc.not_equal(images, ""))
    absolute = pc.or_(pc.starts_with(images, "/"), pc.match_substring(images, "\0"))
    outside = images.filter(pc.or_(absolute, pc.match_substring_regex(images, r"(^|/)\.\.(/|$)")))
    if len(outside):
        raise UserError(f"{source.root}: listed paths lead out of the root, {first_few(sorted(outside.to_pylist()))}; fix the list")
    return Listed(images, rows)


def _walk(root: Path, follow_links: bool) -> pa.Table:
    """Every file below the root as SEEN, sorted by path. Errors: UserError when a link leads out of the root, or a folder is unreadable."""
    files = files_below(root, follow_links)
    pieces = []
    while piece := list(islice(files, PIECE)):
        columns = zip(*piece, strict=True)
        pieces.append(pa.record_batch([pa.array(column, kind) for column, kind in zip(columns, SEEN.types, strict=True)], schema=SEEN))
    seen = pa.Table.from_batches(pieces, SEEN)
    return seen.filter(pc.not_equal(seen["path"], POINTER)).sort_by([("path", "ascending"), ("real", "ascending")])


def _with_kinds(seen: pa.Table, images: pa.Array, annotations: Sequence[str]) -> pa.Table:
    """The files with column `kind`. A file that a list names is an image, also with another suffix, and also the list itself."""
    hidden = pc.match_substring_regex(seen["path"], HIDDEN.pattern)
    image = pc.and_(pc.match_substring_regex(seen["path"], IMAGE_NAME, ignore_case=True), pc.invert(hidden))
    annotation = pc.is_in(seen["path"], pa.array(map(readable, annotations), pa.string()))
    kind = pc.if_else(pc.is_in(seen["path"], images), "image", pc.if_else(annotation, "annotation", pc.if_else(image, "image", "other")))
    return seen.append_column("kind", kind).combine_chunks()


def _inspect(root: Path, seen: pa.Table, md5: bool, runtime: Runtime) -> pa.Table:
    """The files as INSPECTED, in any order: recalled where bytes and time are unchanged, else read, in parallel.

    The files that were read before an error or Ctrl-C are remembered, too.
    """
    memory = Memory(root)
    began = time.time_ns()
    known, unread = memory.recall(seen, md5)
    chunks = (unread.take(pa.array(rows)) for rows in ranges(len(unread), CHUNK))
    done = map_chunks(partial(_inspect_chunk, root, md5), chunks, runtime, root)
    tables, last = [known], INSPECTED.empty_table()
    try:
        for batch in progress(done, "verify", math.ceil(len(unread) / CHUNK), f"{CHUNK} files"):
            last = pa.concat_tables([last, pa.Table.from_batches([batch])])
            if len(last) >= PIECE:  # many small batches take more memory than their content
                tables, last = [*tables, last.combine_chunks()], INSPECTED.empty_table()
    finally:
        inspected = pa.concat_tables([*tables, last])
        if len(unread):
            memory.remember(inspected.filter(pc.less(inspected["mtime_ns"], began - SETTLED_NS)))
    return inspected


def _inspect_chunk(root: Path, md5: bool, files: pa.Table) -> pa.RecordBatch:
    """Reads the files of these rows of SEEN with their kind; returns INSPECTED."""
    rows = []
    for file in files.to_pylist():
        name = file["path"] if file["real"] is None else os.fsdecode(file["real"])
        inspected = inspect_file(root / name, file["kind"], md5).row()
        if file["real"] is not None and file["kind"] == "image" and inspected["status"] == "ok":
            inspected["status"] = "unreadable"  # crop cannot open it by the escaped path
        rows.append({**file, **inspected})
    return pa.RecordBatch.from_pylist(rows, schema=INSPECTED)


class Memory:
    """The files that the last run read with the same code and decoders, so that a repeat costs one stat per file. It changes no result."""

    def __init__(self, root: Path) -> None:
        readers = [Path(module.__file__ or "").read_bytes() for module in (decode, formats, inspection)]
        versions = [f"{name} {version(name)}".encode() for name in ("Pillow", "simplejpeg")] + [f"pillow-heif {pillow_heif()}".encode()]
        key = hashlib.sha256(b"\0".join([*readers, *versions, os.fsencode(root)])).hexdigest()[:16]
        self.path = cache_folder(MEMORY) / f"{key}.parquet"
        try:
            self.table = pq.read_table(self.path, schema=INSPECTED, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            reraise_machine_fault(error, self.path)  # not a broken table: the next run may be able to read it
            self.table = INSPECTED.empty_table()

    def recall(self, seen: pa.Table, md5: bool) -> tuple[pa.Table, pa.Table]:
        """INSPECTED for the unchanged files, and the other files of `seen`."""
        remembered = self.table.take(pc.index_in(seen["path"], self.table["path"]))
        equal = [pc.equal(remembered[name], seen[name]) for name in ("bytes", "mtime_ns", "kind")]
        unchanged = pc.fill_null(reduce(pc.and_, [*equal, *([pc.is_valid(remembered["md5"])] * md5)]), False)
        return remembered.filter(unchanged), seen.filter(pc.invert(unchanged)).combine_chunks()

    def remember(self, inspected: pa.Table) -> None:
        """Replaces the memory."""
        with replacing(self.path) as temporary:
            pq.write_table(inspected, temporary, write_page_checksum=True)


def _table(inspected: pa.Table, images: pa.Array, differing: Sequence[str]) -> pa.Table:
    """The inventory: the files that exist, and the listed files that are missing, sorted by path. differing: paths of other checksums."""
    altered = pc.and_(pc.equal(inspected["status"], "ok"), pc.is_in(inspected["path"], pa.array(differing, pa.string())))
    altered = pc.and_(altered, pc.equal(inspected["kind"], "image"))
    status = pc.if_else(altered, "altered", inspected["status"])
    inspected = inspected.set_column(inspected.schema.get_field_index("status"), "status", status)
    missing = images.filter(pc.invert(pc.is_in(images, inspected["path"])))
    constants = {"kind": "image", "status": "missing", "misnamed": False, "listed": True}
    absent = pa.table({"path": missing, **{name: pa.repeat(value, len(missing)) for name, value in constants.items()}})
    present = inspected.drop_columns(["mtime_ns", "md5"]).append_column("listed", pc.is_in(inspected["path"], images))
    return pa.concat_tables([present, absent], promote_options="default").sort_by("path").combine_chunks()


def _counts(table: pa.Table, listed: Listed, differing: int, expected: Mapping[str, int]) -> dict[str, Any]:
    """metrics/verify.json: number and bytes of all files, one count per status of the listed images, and the differences."""
    table = table.select(["kind", "status", "bytes", "sha256", "misnamed", "listed"])
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
        "unreferenced_images": int(pc.sum(pc.invert(images["listed"])).as_py() or 0),
        "exact_duplicates": len(images) - len(pc.unique(images["sha256"])),
        "checksum_mismatch": differing,
        "rows": listed.rows,
        "expected_difference": {split: listed.rows.get(OFFICIAL[split], 0) - count for split, count in expected.items()},
    }


OFFICIAL = {"training": "train", "validation": "test"}
"""The official list of an expected count → our split of its rows."""


def _judge(
    table: pa.Table, counts: Mapping[str, Any], differing: Sequence[str], params: VerifyParams, inventory: Path, pointer: Pointer
) -> None:
    """Errors: UserError with one line per kind of fault above the tolerance, and per split without an image."""
    needed = ("train", "test") if pointer.test_share is None else ("train",)
    problems = [
        f"{pointer.root}: no image is listed for the split {split}; of {counts['files']:,} files, {counts['unreferenced_images']:,} "
        f"are images that no list names; see {pointer.params} in params.yaml"
        for split in needed
        if not counts["rows"].get(split)
    ]
    bad = table.filter(pc.and_(table["listed"], pc.not_equal(table["status"], "ok")))
    share = f"more than verify.tolerance {params.tolerance:g} allows"
    if len(bad) > params.tolerance * counts["listed"]:
        kinds = ", ".join(f"{counts[status]} {status}" for status in STATUSES[1:] if counts[status])
        names = first_few(bad["path"].to_pylist())
        unread = pc.sum(pc.and_(pc.equal(bad["status"], "unreadable"), pc.equal(bad["format"], "HEIF"))).as_py()
        heif = f"; {unread:,} are {HEIF_UNREAD}" if unread else ""
        problems.append(
            f"{inventory}: {len(bad)} of {counts['listed']:,} listed images cannot be used ({kinds}), {share}; {names}{heif}; "
            "the list is that file's column status"
        )
    annotation = table.filter(pc.equal(table["kind"], "annotation"))["path"].to_pylist()
    if changed := sorted(set(differing) & set(annotation)):
        problems.append(
            f"{pointer.root}: annotations have another checksum than {pointer.checksums} lists, {first_few(changed)}; fetch them again"
        )
    if len(differing) > params.tolerance * max(counts["files"], 1):
        problems.append(f"{inventory}: checksums differ, {share}; {first_few(differing)}")
    for split, difference in counts["expected_difference"].items():
        listed = counts["rows"].get(OFFICIAL[split], 0)
        expected = listed - difference
        if abs(difference) > params.tolerance * expected:
            problems.append(
                f"params.yaml: {pointer.params}.expected.{split}: {expected:,}, but the list names {listed:,} images, a difference that is "
                f"{share}; fix the download, set it to {listed}, or {pointer.params}.expected to null"
            )
    if problems:
        raise UserError(*problems)


if __name__ == "__main__":
    launch(run)
