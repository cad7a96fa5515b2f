"""Lists of checksums as sha256sum and md5sum write them, and the files that differ from them."""

import re
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from affectnet.errors import UserError, first_few, many, one_line, reraise_machine_fault
from affectnet.files.sha256 import file_sha256

CHECKSUMS = pa.schema([("path", pa.string()), ("digest", pa.binary())])
"""Path below the root, and 32 bytes of SHA-256 or 16 of MD5."""

CHECKSUM = re.compile(r"(\\?)([0-9a-fA-F]{64}|[0-9a-fA-F]{32}) [ *](.+)")
ESCAPE, ESCAPED = re.compile(r"\\([nr\\])"), {"n": "\n", "r": "\r", "\\": "\\"}


def read_checksums(path: Path) -> pa.Table:
    """CHECKSUMS from a list as sha256sum or md5sum writes it; of a path's lines the last counts. Errors: UserError on any other line."""
    digests: dict[str, bytes] = {}
    invalid = []
    try:
        if not path.is_file():
            raise UserError(f"{path}: unreadable checksum list: not a file")
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                text = line.removesuffix("\n").removesuffix("\r")
                if match := CHECKSUM.fullmatch(text):
                    name = ESCAPE.sub(lambda escape: ESCAPED[escape[1]], match[3]) if match[1] else match[3]
                    digests[PurePosixPath(name).as_posix()] = bytes.fromhex(match[2])
                elif text and not text.startswith("#"):
                    invalid.append(f"line {number}")
    except (OSError, UnicodeDecodeError) as error:
        reraise_machine_fault(error, path)
        raise UserError(f"{path}: unreadable checksum list: {error}") from None
    if invalid:
        raise UserError(f"{path}: not in the format of sha256sum or md5sum, {first_few(invalid)}")
    return pa.table([pa.array(digests.keys(), pa.string()), pa.array(digests.values(), pa.binary())], schema=CHECKSUMS)


def sha256_or_none(path: Path) -> bytes | None:
    """The file's SHA-256; None for anything but a readable file (a pipe would never end)."""
    try:
        return file_sha256(path) if path.is_file() else None
    except OSError as error:
        reraise_machine_fault(error, path)
        return None


def _as_on_windows(listed: pa.ChunkedArray, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """For each listed path the row of the only path that differs just in case or slashes; null where there is none, or more than one."""
    names = pc.utf8_lower(pc.replace_substring_regex(pc.replace_substring(listed, "\\", "/"), r"^(\./)+", ""))
    folded = pc.utf8_lower(paths)
    several = [entry["values"] for entry in pc.value_counts(folded).to_pylist() if entry["counts"] > 1]
    unique = pc.invert(pc.is_in(names, pa.array(several, pa.string())))
    return pc.if_else(unique, pc.index_in(names, folded), pa.scalar(None, pa.int32()))


def _rows_of(listed: pa.ChunkedArray, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """For each listed path the row of its file; null where there is none.

    A listed path without a file stands for the only file whose path differs just in case, or in `/` for `\\`, as in lists made on
    Windows.
    """
    at = pc.index_in(listed, paths)
    return pc.coalesce(at, _as_on_windows(listed, paths)) if at.null_count else at


def check_paths(checksums: pa.Table, paths: pa.ChunkedArray, listing: str | None, root: Path) -> None:
    """Errors: UserError when the list names files, and not one of them is among these paths below the root."""
    listed = checksums["path"]
    if len(listed) and _rows_of(listed, paths).null_count == len(listed):
        raise UserError(
            f"{listing}: lists {many(len(listed), 'file')}, as {one_line(listed[0].as_py())}, and {root} has none of them; "
            "its paths must count from the root: make the list there, or cut off what stands before them"
        )


def mismatched(checksums: pa.Table, files: pa.Table) -> list[str]:
    """Files of the checksum list that are missing or have another digest, by their own path where they exist."""
    at = _rows_of(checksums["path"], files["path"])
    sha256, md5 = (pc.equal(checksums["digest"], files[name].take(at).cast(pa.binary())) for name in ("sha256", "md5"))
    paths = pc.coalesce(files["path"].take(at), checksums["path"])
    return sorted(paths.filter(pc.invert(pc.fill_null(pc.or_kleene(sha256, md5), False))).to_pylist())
