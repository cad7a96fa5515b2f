"""The dataset of one split: its faces, decoded once into a memory-mapped array, and their labels."""

import hashlib
import json
import math
import os
import shutil
import sys
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.expressions import EXPRESSIONS
from affectnet.files.atomic import replacing, write_json
from affectnet.files.cache_dir import cache_folder
from affectnet.files.sha256 import file_sha256
from affectnet.images.resize import decode_face
from affectnet.running.parallel import in_order
from affectnet.running.progress import progress
from affectnet.tables.contract import readable_parquet
from affectnet.tables.face_shards import CROP_AGAIN, FACES, ROWS_PER_GROUP, open_shard, read_face_labels, shard_paths

LABELS = ("expression", "valence", "arousal", "soft_label")

PIXELS, CHECKSUMS = "pixels.uint8", "checksums.json"
"""The decoded pixels without a header, which could be damaged too; and the CRC-32 of each row group, checked at 2 GB/s on one core."""

KEEP_DECODED = 6
"""Decoded arrays kept on disk: train, validation and test at two sizes."""

RowGroup = tuple[Path, int, int]
"""A row group of a split: its shard, its number in the shard, and the row of the split that it begins with."""


@dataclass(frozen=True)
class FaceDataset:
    """n faces: images (n, px, px, 3) uint8 RGB; expression (n,) int64 codes; valence, arousal (n,) float32, NaN where missing.

    labels: the names of the codes; soft_label: (n, 8) float32 share of each of AffectNet's expressions, NaN where missing, None where no
    face has one.
    """

    images: torch.Tensor
    expression: torch.Tensor
    valence: torch.Tensor
    arousal: torch.Tensor
    labels: tuple[str, ...] = EXPRESSIONS
    soft_label: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)


def load_faces(folder: Path, split: str, image_px: int, workers: int) -> FaceDataset:
    """The split's faces, resized to image_px × image_px (antialiased, bicubic), in the order of the shards.

    The pixels are mapped read-only from a file in the cache folder, which is written once per content and side: a dataset may be
    larger than memory. Errors: UserError when the split has no faces.
    """
    shards = shard_paths(folder, split)
    names = read_face_labels(folder, split)
    labels = [_labels(shard, len(names)) for shard in shards]
    count = sum(len(table) for table in labels)
    if not count:
        raise UserError(f"{folder}: the split {split} holds no faces; see metrics/clean.json for why rows were rejected")
    columns = {name: np.concatenate([table[name].to_numpy() for table in labels]) for name in ("expression", "valence", "arousal")}
    pixels = _decoded(shards, count, image_px, workers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing writes to it
        images = torch.from_numpy(pixels)
    return FaceDataset(
        images=images,
        expression=torch.from_numpy(columns["expression"].astype(np.int64)),
        valence=torch.from_numpy(columns["valence"].astype(np.float32)),
        arousal=torch.from_numpy(columns["arousal"].astype(np.float32)),
        labels=names,
        soft_label=_soft_labels(pa.concat_tables(labels)["soft_label"]),
    )


def _soft_labels(column: pa.ChunkedArray) -> torch.Tensor | None:
    labelled = pc.is_valid(column).to_numpy()
    if not labelled.any():
        return None
    shares = np.full((len(column), len(EXPRESSIONS)), np.nan, np.float32)
    shares[labelled] = pc.list_flatten(column.filter(labelled)).to_numpy().reshape(-1, len(EXPRESSIONS))
    return torch.from_numpy(shares)


def _labels(shard: Path, names: int) -> pa.Table:
    with open_shard(shard) as file, readable_parquet(shard, CROP_AGAIN):
        table = file.read(list(LABELS))
    if wrong := [line for column in FACES.columns if column.name in LABELS for line in column.violations(table[column.name], names)]:
        raise UserError(f"{shard}: not the faces that crop wrote, {'; '.join(wrong)}; {CROP_AGAIN}")
    return table


def shards_sha256(shards: Sequence[Path]) -> str:
    """SHA-256 over the names and contents of the shards, in hex."""
    digest = hashlib.sha256()
    for path in shards:
        digest.update(path.name.encode() + file_sha256(path))
    return digest.hexdigest()


def _decoded(shards: Sequence[Path], count: int, image_px: int, workers: int) -> NDArray[np.uint8]:
    """The decoded pixels, (count, image_px, image_px, 3), mapped for reading; decoded when their file is missing or damaged."""
    key = hashlib.sha256(f"{shards_sha256(shards)} {image_px} px {PIL.__version__}".encode()).hexdigest()[:24]
    path = cache_folder("decoded", key) / PIXELS
    shape = (count, image_px, image_px, 3)
    groups = _row_groups(shards)
    if _undamaged(path, shape, groups, workers):
        os.utime(path.parent)  # `_remove_old` keeps the newest
    else:
        with replacing(path) as unfinished:
            _reserve(unfinished, math.prod(shape))
            checksums = in_order(partial(_decode_group, unfinished, shape), groups, workers, "thread")
            write_json(path.with_name(CHECKSUMS), {"crc32": list(progress(checksums, "decode", len(groups), "group"))})
        _remove_old(path.parent.parent)
    return np.memmap(path, np.uint8, "r", shape=shape)


def _row_groups(shards: Sequence[Path]) -> list[RowGroup]:
    groups: list[RowGroup] = []
    first = 0
    for shard in shards:
        with open_shard(shard) as file:
            metadata = file.metadata
        for group in range(metadata.num_row_groups):
            groups.append((shard, group, first))
            first += metadata.row_group(group).num_rows
    return groups


def _undamaged(path: Path, shape: tuple[int, ...], groups: Sequence[RowGroup], workers: int) -> bool:
    """Whether the file exists and has the checksums it was written with. A damaged one is removed and reported."""
    if not path.exists():
        return False
    try:
        written = json.loads(path.with_name(CHECKSUMS).read_bytes())
    except (FileNotFoundError, ValueError):
        written = None
    length = path.stat().st_size
    face_bytes = math.prod(shape[1:])
    if length == shape[0] * face_bytes:
        first_rows = [*(first for _, _, first in groups), shape[0]]
        edges = [row * face_bytes for row in first_rows]
        checksums = in_order(partial(_checksum, path), list(pairwise(edges)), workers, "thread")
        if written == {"crc32": list(progress(checksums, "check", len(groups), "group"))}:
            return True
    print(f"decode: {path}: {length:,} bytes that do not match {CHECKSUMS}; decoding again", file=sys.stderr)
    path.unlink()  # the disk may not have room for both
    return False


def _checksum(path: Path, edges: tuple[int, int]) -> int:
    """CRC-32 of the file's bytes from one edge to the other. Read, not mapped: a disk fault under a mapped page would kill the process."""
    with path.open("rb") as file:
        file.seek(edges[0])
        return zlib.crc32(file.read(edges[1] - edges[0]))


def _reserve(file: Path, length: int) -> None:
    """Writes a file of `length` zeros, so that a full disk is an error here; later it would kill the process that writes a mapped page."""
    with file.open("wb") as opened:
        opened.truncate(length)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, length)


def _decode_group(file: Path, shape: tuple[int, ...], row_group: RowGroup) -> int:
    """Decodes one row group into the file; returns the CRC-32 of its pixels."""
    shard, group, first = row_group
    with open_shard(shard) as table, readable_parquet(shard, CROP_AGAIN):
        images = table.read_row_group(group, columns=["image.bytes"])["image"].combine_chunks().field("bytes")
    pixels = np.memmap(file, np.uint8, "r+", shape=shape)
    for offset, content in enumerate(images):
        try:
            pixels[first + offset] = decode_face(content.as_py(), shape[1])
        except Exception as error:  # decoders raise errors of many kinds on broken bytes
            reraise_machine_fault(error, shard)
            row = group * ROWS_PER_GROUP + offset + 1
            raise UserError(f"{shard}: row {row}: unreadable image; {CROP_AGAIN}") from None
    return zlib.crc32(pixels[first : first + len(images)].data)


def _remove_old(folder: Path) -> None:
    """Removes all but the newest decoded arrays. One that another process maps stays readable there until it is unmapped."""
    arrays = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in arrays[:-KEEP_DECODED]:
        shutil.rmtree(old, ignore_errors=True)
