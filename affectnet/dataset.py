"""The faces of one split, decoded once into one memory-mapped array, and their labels."""

import hashlib
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image

from affectnet.atomic import replacing
from affectnet.errors import UserError
from affectnet.faces import AGAIN, FACES, ROWS_PER_GROUP, open_shard, shard_paths
from affectnet.parallel import in_order
from affectnet.progress import progress
from affectnet.scratch import scratch
from affectnet.tables import readable_parquet

LABELS = ("expression", "valence", "arousal")

KEEP_DECODED = 6
"""Decoded arrays kept on the disk: train, validation and test at two sizes."""


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

    The pixels are mapped from a file in the scratch folder, written once for each content and size: reading a larger set
    than memory holds costs no more than its pages. Errors: UserError when the split has no face.
    """
    shards = shard_paths(folder, split)
    labels = [_labels(shard) for shard in shards]
    count = sum(len(table) for table in labels)
    if not count:
        raise UserError(f"{folder}: the split {split} holds no face; see metrics/clean.json for why rows were rejected")
    columns = {name: np.concatenate([table[name].to_numpy() for table in labels]) for name in LABELS}
    pixels = np.load(_decoded(shards, count, image_px, workers), mmap_mode="r+")
    return Faces(
        images=torch.from_numpy(pixels),
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


def _decoded(shards: Sequence[Path], count: int, image_px: int, workers: int) -> Path:
    """The file with the decoded pixels, an npy array (count, image_px, image_px, 3) uint8; made if need be."""
    key = hashlib.sha256(f"{fingerprint(shards)} {image_px} {PIL.__version__}".encode()).hexdigest()[:24]
    path = scratch("decoded", key) / "pixels.npy"
    if path.exists():
        os.utime(path.parent)  # the newest are kept
        return path
    chunks, first = [], 0
    for shard in shards:
        with open_shard(shard) as file:
            metadata = file.metadata
        for group in range(metadata.num_row_groups):
            chunks.append((shard, group, first))
            first += metadata.row_group(group).num_rows
    with replacing(path) as unfinished:
        np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=(count, image_px, image_px, 3)).flush()
        _reserve(unfinished)
        done = in_order(partial(_decode_group, unfinished, image_px), chunks, workers, "thread")
        for _ in progress(done, "decode", len(chunks), "group"):
            pass
    _forget_old(path.parent.parent)
    return path


def _reserve(file: Path) -> None:
    """Takes the file's room on the disk, which on a full one is an error here, and would kill the process that writes a page later."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def _decode_group(array: Path, image_px: int, chunk: tuple[Path, int, int]) -> int:
    """Decodes one row group into the array from row `first` on; returns its number of rows."""
    shard, group, first = chunk
    with open_shard(shard) as file, readable_parquet(shard, AGAIN):
        images = file.read_row_group(group, columns=["image.bytes"])["image"].combine_chunks().field("bytes")
    pixels = np.load(array, mmap_mode="r+")
    for offset, content in enumerate(images):
        try:
            pixels[first + offset] = decode_face(content.as_py(), image_px)
        except Exception:  # a decoder that stumbles over broken bytes raises what it likes
            row = group * ROWS_PER_GROUP + offset + 1
            raise UserError(f"{shard}: row {row}: no readable image; {AGAIN}") from None
    return len(images)


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
