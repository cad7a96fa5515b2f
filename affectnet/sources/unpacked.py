"""Downloads whose images are inside larger files: unpacked once, one file per image, then read like any other download."""

import fcntl
import hashlib
import inspect
import json
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from affectnet.errors import UserError, first_few
from affectnet.expressions import SPLITS
from affectnet.files.atomic import replacing_folder
from affectnet.files.checksums import sha256_or_none
from affectnet.running.progress import progress
from affectnet.sources.maps import splits_of
from affectnet.sources.source import ROWS, Layout, Source, batch, layout
from affectnet.tables.source_pointer import Pointer

LIST = "rows.parquet"
"""The rows of an unpacked download, as UNPACKED."""

COLUMNS = ROWS.names[: ROWS.names.index("relative") + 1]
UNPACKED = pa.schema([*(ROWS.field(name) for name in COLUMNS), ("bytes", pa.int64())])
"""ROWS without the values that no container has, and `bytes`, the length of the image's file."""

ROWS_PER_BATCH = 4096


class Member(NamedTuple):
    """One row of a container: its position, its labels, and the bytes of its image, None where it has none.

    list: its file below the root; row: its number in the file, from 1; split: None for a row that is left out; suffix: of the
    image's name; fault and detail: as in ROWS.
    """

    list: str
    row: int
    split: str | None
    suffix: str = ""
    content: bytes | None = None
    expression: int | None = None
    fault: str | None = None
    detail: str | None = None

    @property
    def image(self) -> str | None:
        """The path of the unpacked image; None for a row without a usable image."""
        return None if self.fault else f"{self.list.rpartition('.')[0]}/{self.row:07d}{self.suffix}"


class Container(Layout):
    """A layout whose images are inside larger files."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that hold images and labels, sorted."""

    @abstractmethod
    def members(self) -> Iterator[Member]:
        """Each row of each file, once. Errors: UserError when a file cannot be read to its end."""


@layout("unpacked")
class Unpacked(Source):
    """The images that `unpack` wrote from a Container, and the list of its rows."""

    sign = re.compile(rf"^{re.escape(LIST)}$")

    def annotation_files(self) -> list[str]:
        return [LIST]

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        for part in self._batches(["split", "image"]):
            for split in SPLITS:
                yield split, part.filter(pc.equal(part["split"], split))["image"]

    def rows(self) -> Iterator[pa.RecordBatch]:
        for part in self._batches(COLUMNS):
            yield batch(len(part), **{name: part[name] for name in COLUMNS})

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(self.root / LIST) as file:
                yield from file.iter_batches(ROWS_PER_BATCH, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.root / LIST}: cannot be read ({error}); run `dvc repro -f acquire`") from None


def unpack(container: Container, folder: Path) -> Pointer:
    """The pointer to the container's images, which are written below `folder` unless they are all there already.

    Their folder is named by the SHA-256 of the container's files, the options and this code, and its content never changes.
    One process at a time writes it, and it appears completely or not at all.
    """
    images = folder / _key(container)
    folder.mkdir(parents=True, exist_ok=True)
    with images.with_name(f"{images.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_complete(images):
            with replacing_folder(images) as unfinished:
                _write(container, unfinished)
    return replace(
        container.pointer, layout="unpacked", root=str(images), classes={}, splits={}, options={}, unpacked_from=str(container.root)
    )


def _key(container: Container) -> str:
    """16 hex digits that identify the unpacked bytes: of the container's files, the options and the code."""
    digests = {container.below(file): (sha256_or_none(file) or b"").hex() for file in container.files()}
    code = b"".join(Path(inspect.getfile(part)).read_bytes() for part in (type(container), Container, splits_of))
    return hashlib.sha256(json.dumps([digests, container.pointer.labelling()]).encode() + code).hexdigest()[:16]


def _is_complete(images: Path) -> bool:
    """Whether the list exists, and each image that it names at its length."""
    try:
        rows = pq.read_table(images / LIST, columns=["image", "bytes"]).to_pylist()
        return all((images / row["image"]).stat().st_size == row["bytes"] for row in rows if row["bytes"] is not None)
    except (OSError, pa.ArrowException):
        return False


def _write(container: Container, folder: Path) -> None:
    """Writes the images and their list. Errors: UserError when the training or test split has no row, unless test is cut off later."""
    splits: set[str | None] = set()
    rows = progress(container.members(), "acquire", unit="row")
    with pq.ParquetWriter(folder / LIST, UNPACKED) as writer:
        while members := list(islice(rows, ROWS_PER_BATCH)):
            for member in members:
                _write_image(folder, member)
            splits |= {member.split for member in members}
            writer.write_batch(_rows(members))
    needed = ("train", "test") if container.pointer.test_share is None else ("train",)
    if absent := [split for split in needed if split not in splits]:
        files = first_few([container.below(file) for file in container.files()])
        raise UserError(
            f"{container.root}: no row for the split {' and '.join(absent)} in {files}; see params.yaml: {container.pointer.params}"
        )


def _write_image(folder: Path, member: Member) -> None:
    if member.image is None or member.content is None:
        return
    path = folder / member.image
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(member.content)


def _rows(members: Iterable[Member]) -> pa.RecordBatch:
    """The members as UNPACKED."""
    rows = [
        {
            **member._asdict(),
            "image": member.image,
            "bytes": None if member.image is None or member.content is None else len(member.content),
        }
        for member in members
    ]
    return pa.RecordBatch.from_pylist(rows, schema=UNPACKED)
