"""The inventory: one row per file of the download, as `verify` read it. All later stages depend on it."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.files.cache_dir import cache_folder
from affectnet.tables.contract import Column, Contract

MEMORY = "verify"
"""Name of the folder, in the cache folder, with the files that verify has read, by size and time."""

VERIFY_AGAIN = "run `dvc repro -f verify`, which reads every file again, then `dvc repro`"

DHASH_BYTES = 16

STATUSES = (
    "ok",  # decodes whole
    "missing",  # named by an annotation list, not on the disk
    "empty",  # zero bytes
    "truncated",  # begins like an image, ends too early
    "not_an_image",  # named or listed as an image, with other content
    "unreadable",  # the operating system or the decoder refused it
    "altered",  # decodes whole, with another checksum than the list of checksums has
)

INVENTORY = Contract(
    "inventory",
    "one file of the download, sorted by path; files that are listed but missing included",
    (
        Column("path", pa.string(), "path below the root, with `/`"),
        Column("kind", pa.string(), "what the file is for", choices=("image", "annotation", "other")),
        Column("status", pa.string(), "whether it can be used", choices=STATUSES),
        Column("bytes", pa.int64(), "length of the file", "bytes", low=0, nullable=True),
        Column("sha256", pa.binary(32), "SHA-256 of the whole file", nullable=True),
        Column("format", pa.string(), "image format by its first bytes, as Pillow names it", nullable=True),
        Column("misnamed", pa.bool_(), "the extension belongs to another format"),
        Column("width", pa.int32(), "width as a viewer shows it, turned by EXIF orientation", "px", low=1, nullable=True),
        Column("height", pa.int32(), "height as a viewer shows it, turned by EXIF orientation", "px", low=1, nullable=True),
        Column("mode", pa.string(), "pixel mode, as Pillow names it", nullable=True),
        Column("dhash", pa.binary(DHASH_BYTES), "difference hash of the grey image: 64 horizontal, then 64 vertical bits", nullable=True),
        Column("listed", pa.bool_(), "an annotation list names it"),
    ),
)


class ChangedFileError(UserError):
    """A file of the download is not the one in the inventory."""


@contextmanager
def checked_against_inventory() -> Iterator[None]:
    """Clears verify's memory of the files when the block raises ChangedFileError, and raises it again.

    A disk may flip a bit without a change of size or time. Verify would then recall the old hash for ever, and the later stages
    would refuse the file for ever.
    """
    try:
        yield
    except ChangedFileError:
        shutil.rmtree(cache_folder(MEMORY))
        raise


def read_unchanged(path: Path, sha256: object) -> bytes:
    """The bytes of a file of the download. sha256: in the inventory. Errors: ChangedFileError when it cannot be read, or has another."""
    try:
        content = path.read_bytes()
    except OSError as error:
        reraise_machine_fault(error, path)
        raise ChangedFileError(f"{path}: was readable for verify, now {error.strerror}; {VERIFY_AGAIN}") from None
    if hashlib.sha256(content).digest() != sha256:
        raise ChangedFileError(f"{path}: has changed since verify read it; {VERIFY_AGAIN}")
    return content
