"""Crops every annotated face into Parquet shards, in parallel; the bytes do not depend on the number of workers."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from affectnet.errors import UserError
from affectnet.expressions import SPLITS
from affectnet.files.atomic import replacing_folder
from affectnet.images.crop import Crop, crop_face
from affectnet.images.crop_policy import CropPolicy
from affectnet.params import Runtime
from affectnet.running.dask_cluster import map_chunks
from affectnet.running.progress import progress
from affectnet.running.run_stage import launch
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.face_shards import FACES, ROWS_PER_GROUP, shard_name, shard_writer
from affectnet.tables.inventory import INVENTORY, checked_against_inventory, read_unchanged
from affectnet.tables.labels import read_labels
from affectnet.tables.source_pointer import Pointer


class CropParams(CropPolicy):
    """Section `crop`: the policy, and how many faces a shard holds."""

    rows_per_shard: int = Field(ge=ROWS_PER_GROUP)

    @property
    def policy(self) -> CropPolicy:
        return CropPolicy.model_validate(self.model_dump(exclude={"rows_per_shard"}))


class Shard(NamedTuple):
    """One file of faces: its name, and how many faces each of its row groups holds."""

    name: str
    groups: list[int]


def run(params: CropParams, runtime: Runtime, raw: Path, inventory: Path, annotations: Path, *, faces: Path) -> str:
    """Writes the shards of all splits; returns the summary line."""
    pointer = Pointer.read(raw)
    root = Path(pointer.root)
    columns, labels = ANNOTATIONS.read(annotations, ["image", "split", "left"]), read_labels(annotations)
    if params.margin and columns["left"].null_count == len(columns) and not params.align:
        raise UserError(
            f"crop.margin={params.margin:g}: no face of these data has a box, so no crop would have the margin, while `affectnet predict` "
            "would add it to the boxes that its detector draws; set 0"
        )
    shards = _shards(columns["split"], params.rows_per_shard)
    groups = [count for shard in shards for count in shard.groups]
    chunks = _chunks(annotations, _hashes(columns["image"], INVENTORY.read(inventory, ["path", "sha256"])), groups)
    done = progress(map_chunks(partial(_cut_chunk, root, params.policy), chunks, runtime, root), "crop", len(groups), "group")
    count = passed = aligned = 0
    with checked_against_inventory(), replacing_folder(faces) as unfinished:
        for shard in shards:
            with shard_writer(unfinished / shard.name, params.policy.model_dump(), pointer.name, labels) as writer:
                for table, unchanged, level in islice(done, len(shard.groups)):
                    writer.write(table)
                    count, passed, aligned = count + len(table), passed + unchanged, aligned + level
        next(done, None)
    note = ""
    if params.align:
        note = f", {count - aligned:,} not aligned, without landmarks"
    elif params.margin and (whole := columns["left"].null_count):
        note = f", {whole:,} without a box and a margin"
    return f"crop: {count:,} faces, longest side at most {params.image_px} px, {passed:,} passed through unchanged{note}"


def _shards(splits: pa.ChunkedArray, rows_per_shard: int) -> list[Shard]:
    """The shards in the order of the annotations, by each row's split. Errors: ValueError (a bug) when these are not in order."""
    codes = pc.index_in(splits, pa.array(SPLITS)).to_numpy()
    if (np.diff(codes) < 0).any():
        raise ValueError("annotations: not sorted by split")
    shards: list[Shard] = []
    for split, rows in zip(SPLITS, np.bincount(codes, minlength=len(SPLITS)).tolist(), strict=True):
        count = max(1, math.ceil(rows / rows_per_shard))
        for shard in range(count):
            left = min(rows_per_shard, rows - shard * rows_per_shard)
            groups = [min(ROWS_PER_GROUP, left - first) for first in range(0, left, ROWS_PER_GROUP)]
            shards.append(Shard(shard_name(split, shard, count), groups))
    return shards


def _hashes(images: pa.ChunkedArray, inventory: pa.Table) -> pa.Array:
    """The SHA-256 of each annotation's photograph, from the inventory."""
    order = pc.index_in(images, inventory["path"])
    if order.null_count:
        raise UserError(f"data/annotations.parquet: {order.null_count} photographs are not in data/inventory.parquet; run `dvc repro`")
    return inventory["sha256"].take(order).combine_chunks()


def _chunks(annotations: Path, hashes: pa.Array, groups: Sequence[int]) -> Iterator[pa.Table]:
    """The annotations with the hashes, one row group of faces at a time, so that few landmarks are in memory."""
    first, rest = 0, ANNOTATIONS.schema.empty_table()
    batches = ANNOTATIONS.pieces(annotations, ROWS_PER_GROUP)
    for count in groups:
        while len(rest) < count:
            rest = pa.concat_tables([rest, pa.Table.from_batches([next(batches)])])
        positions = pa.array(range(count))  # `take` copies; a slice pickles its parent buffers
        yield rest.take(positions).append_column("sha256", hashes.take(pc.add(positions, first))).combine_chunks()
        first, rest = first + count, rest.slice(count)


def _cut_chunk(root: Path, policy: CropPolicy, rows: pa.Table) -> tuple[pa.Table, int, int]:
    """The faces of one row group as a table, how many passed through unchanged, and how many were aligned."""
    cv2.setNumThreads(1)  # the workers run in parallel
    crops = [_cut_row(root, policy, row) for row in rows.to_pylist()]
    table = pa.table(
        {
            "image": [{"bytes": crop.content, "path": path} for crop, path in zip(crops, rows["image"].to_pylist(), strict=True)],
            **{name: rows[name] for name in ("expression", "valence", "arousal", "soft_label", "list", "row")},
            "landmarks": pa.array(
                [None if crop.landmarks is None else crop.landmarks.ravel() for crop in crops], FACES.schema.field("landmarks").type
            ),
            "width": [crop.width for crop in crops],
            "height": [crop.height for crop in crops],
        }
    )
    return table, sum(crop.passed_through for crop in crops), sum(crop.aligned for crop in crops)


def _cut_row(root: Path, policy: CropPolicy, row: dict[str, object]) -> Crop:
    path = root / str(row["image"])
    content = read_unchanged(path, row["sha256"])
    edges = [row[name] for name in ("left", "top", "right", "bottom")]
    box = None if edges[0] is None else tuple(edges)
    landmarks = None if row["landmarks"] is None else np.asarray(row["landmarks"], np.float32).reshape(68, 2)
    return crop_face(content, box, landmarks, policy, str(path))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(run)
