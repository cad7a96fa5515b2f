"""The faces of one split, decoded once into one memory-mapped array, and their labels."""

import hashlib
import io
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
import torch
from numpy.typing import NDArray
from PIL import Image

from affectnet.errors import UserError, pass_machine_fault
from affectnet.files.atomic import replacing, write_json
from affectnet.files.cache_dir import scratch
from affectnet.running.parallel import in_order
from affectnet.running.progress import progress
from affectnet.tables.contract import readable_parquet
from affectnet.tables.face_shards import AGAIN, FACES, ROWS_PER_GROUP, open_shard, shard_paths

LABELS = ("expression", "valence", "arousal")

PIXELS, CHECKSUMS = "pixels.uint8", "checksums.json"
"""The decoded pixels, bare, since a header could be damaged too; and the CRC-32 of each row group, 2 GB a second on one core."""

KEEP_DECODED = 6
"""Decoded arrays kept on the disk: train, validation and test at two sizes."""

Group = tuple[Path, int, int]
"""A row group of a split: its shard, its number there, and the row of the split that it begins with."""


@dataclass(frozen=True)
class Faces:
    """n faces: images (n, px, px, 3) uint8 RGB; expression (n,) int64 codes 0–7; valence, arousal (n,) float32, NaN where absent."""

    images: torch.Tensor
    expression: torch.Tensor
    valence: torch.Tensor
    arousal: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)


def load_faces(folder: Path, split: str, image_px: int, workers: int) -> Faces:
    """The split's faces, resized to image_px × image_px (antialiased, bicubic), in the order of the shards.

    The pixels are mapped, for reading alone, from a file in the scratch folder, written once for each content and size:
    reading a larger set than memory holds costs no more than its pages. Errors: UserError when the split has no face.
    """
    shards = shard_paths(folder, split)
    labels = [_labels(shard) for shard in shards]
    count = sum(len(table) for table in labels)
    if not count:
        raise UserError(f"{folder}: the split {split} holds no face; see metrics/clean.json for why rows were rejected")
    columns = {name: np.concatenate([table[name].to_numpy() for table in labels]) for name in LABELS}
    pixels = _decoded(shards, count, image_px, workers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor does anything here write to it
        images = torch.from_numpy(pixels)
    return Faces(
        images=images,
        expression=torch.from_numpy(columns["expression"].astype(np.int64)),
        valence=torch.from_numpy(columns["valence"].astype(np.float32)),
        arousal=torch.from_numpy(columns["arousal"].astype(np.float32)),
    )


def _labels(shard: Path) -> pa.Table:
    with open_shard(shard) as file, readable_parquet(shard, AGAIN):
        table = file.read(list(LABELS))
    if wrong := [line for column in FACES.columns if column.name in LABELS for line in column.violations(table[column.name])]:
        raise UserError(f"{shard}: not the faces as they were written, {'; '.join(wrong)}; {AGAIN}")
    return table


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 over the files' names and contents, in hex."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _decoded(shards: Sequence[Path], count: int, image_px: int, workers: int) -> NDArray[np.uint8]:
    """The decoded pixels, (count, image_px, image_px, 3), mapped for reading; decoded if need be, or if their file is damaged."""
    key = hashlib.sha256(f"{fingerprint(shards)} {image_px} px {PIL.__version__}".encode()).hexdigest()[:24]
    path, shape, groups = scratch("decoded", key) / PIXELS, (count, image_px, image_px, 3), _groups(shards)
    if _undamaged(path, shape, groups, workers):
        os.utime(path.parent)  # the newest are kept
    else:
        with replacing(path) as unfinished:
            _reserve(unfinished, math.prod(shape))
            done = in_order(partial(_decode_group, unfinished, shape), groups, workers, "thread")
            write_json(path.with_name(CHECKSUMS), {"crc32": list(progress(done, "decode", len(groups), "group"))})
        _forget_old(path.parent.parent)
    return np.memmap(path, np.uint8, "r", shape=shape)


def _groups(shards: Sequence[Path]) -> list[Group]:
    groups, first = [], 0
    for shard in shards:
        with open_shard(shard) as file:
            metadata = file.metadata
        for group in range(metadata.num_row_groups):
            groups.append((shard, group, first))
            first += metadata.row_group(group).num_rows
    return groups


def _undamaged(path: Path, shape: tuple[int, ...], groups: Sequence[Group], workers: int) -> bool:
    """Whether the file is there, and as it was written; a damaged one is removed, which is told."""
    if not path.exists():
        return False
    try:
        written = json.loads(path.with_name(CHECKSUMS).read_bytes())
    except (FileNotFoundError, ValueError):
        written = None
    length, face_bytes = path.stat().st_size, math.prod(shape[1:])
    if length == shape[0] * face_bytes:
        edges = [first * face_bytes for first in (*(first for _, _, first in groups), shape[0])]
        checked = in_order(partial(_checksum, path), list(pairwise(edges)), workers, "thread")
        if written == {"crc32": list(progress(checked, "check", len(groups), "group"))}:
            return True
    print(f"decode: {path}: {length:,} bytes, not as they were written beside {CHECKSUMS}; decoding again", file=sys.stderr)
    path.unlink()  # the disk need not have room for both
    return False


def _checksum(path: Path, edges: tuple[int, int]) -> int:
    """CRC-32 of the file's bytes from one edge to the other. Read, since a fault of the disk under a mapped page would kill the process."""
    with path.open("rb") as file:
        file.seek(edges[0])
        return zlib.crc32(file.read(edges[1] - edges[0]))


def _reserve(file: Path, length: int) -> None:
    """A file of so many zeros. On a full disk it is an error here; later it would kill the process that writes a mapped page."""
    with file.open("wb") as opened:
        opened.truncate(length)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, length)


def _decode_group(file: Path, shape: tuple[int, ...], at: Group) -> int:
    """Decodes one row group into the file; returns the CRC-32 of its pixels."""
    shard, group, first = at
    with open_shard(shard) as table, readable_parquet(shard, AGAIN):
        images = table.read_row_group(group, columns=["image.bytes"])["image"].combine_chunks().field("bytes")
    pixels = np.memmap(file, np.uint8, "r+", shape=shape)
    for offset, content in enumerate(images):
        try:
            pixels[first + offset] = decode_face(content.as_py(), shape[1])
        except Exception as error:  # a decoder that stumbles over broken bytes raises what it likes
            pass_machine_fault(error, shard)
            row = group * ROWS_PER_GROUP + offset + 1
            raise UserError(f"{shard}: row {row}: no readable image; {AGAIN}") from None
    return zlib.crc32(pixels[first : first + len(images)].data)


def open_crop(content: bytes) -> Image.Image:
    """One crop as it is stored: in its own size and mode, not yet decoded."""
    return Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))


def decode_face(content: bytes, image_px: int) -> NDArray[np.uint8]:
    """One crop as the network sees it: (image_px, image_px, 3) uint8 RGB."""
    return resize_face(open_crop(content), image_px)


def resize_face(image: Image.Image, image_px: int) -> NDArray[np.uint8]:
    """A crop resized to the network's input: (image_px, image_px, 3) uint8 RGB, antialiased bicubic."""
    image = image.convert("RGB")
    if image.size != (image_px, image_px):
        image = image.resize((image_px, image_px), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _forget_old(folder: Path) -> None:
    """Removes all but the newest decoded arrays; one that is mapped elsewhere lives on until it is let go."""
    arrays = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in arrays[:-KEEP_DECODED]:
        shutil.rmtree(old, ignore_errors=True)
