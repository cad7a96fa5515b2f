"""Cuts every annotated face into Parquet shards, in parallel; the bytes do not depend on the number of workers."""

import hashlib
import math
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from affectnet.annotations import ANNOTATIONS
from affectnet.cluster import spread
from affectnet.cropping import Crop, CropPolicy, cut
from affectnet.errors import UserError
from affectnet.expressions import SPLITS
from affectnet.faces import FACES, ROWS_PER_GROUP, shard_name, shard_writer
from affectnet.inventory import INVENTORY
from affectnet.launch import launch
from affectnet.params import Runtime
from affectnet.pointer import Pointer
from affectnet.progress import progress


class CropParams(CropPolicy):
    """Section `crop`: the policy, and how many faces a shard holds."""

    rows_per_shard: int = Field(ge=ROWS_PER_GROUP)

    @property
    def policy(self) -> CropPolicy:
        return CropPolicy.model_validate(self.model_dump(exclude={"rows_per_shard"}))


def run(params: CropParams, runtime: Runtime, raw: Path, inventory: Path, annotations: Path, *, faces: Path) -> str:
    """Writes the shards of all splits; returns the summary line."""
    root = Path(Pointer.read(raw).root)
    rows = _with_hashes(ANNOTATIONS.read(annotations), INVENTORY.read(inventory, ["path", "sha256"]))
    unfinished = faces.with_name(f".{faces.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    done = progress(
        spread(partial(_cut_chunk, root, params.policy), _chunks(rows, params), runtime, root), "crop", _groups(rows, params), "group"
    )
    count = passed = aligned = 0
    for split in SPLITS:
        of_split = int(pc.sum(pc.equal(rows["split"], split)).as_py() or 0)
        shards = max(1, math.ceil(of_split / params.rows_per_shard))
        for shard in range(shards):
            left = min(params.rows_per_shard, of_split - shard * params.rows_per_shard)
            with shard_writer(unfinished / shard_name(split, shard, shards), params.policy.model_dump()) as writer:
                for _ in range(math.ceil(left / ROWS_PER_GROUP)):
                    table, unchanged, level = next(done)
                    writer.write(table)
                    count, passed, aligned = count + len(table), passed + unchanged, aligned + level
    next(done, None)
    shutil.rmtree(faces, ignore_errors=True)
    unfinished.rename(faces)
    unaligned = f", {count - aligned:,} not aligned for want of landmarks" if params.align else ""
    return f"crop: {count:,} faces, longest side at most {params.image_px} px, {passed:,} passed through unchanged{unaligned}"


def _with_hashes(rows: pa.Table, inventory: pa.Table) -> pa.Table:
    """The annotations with the SHA-256 that verify found for their photographs, in their own order."""
    order = pc.index_in(rows["image"], inventory["path"])
    if order.null_count:
        raise UserError(f"data/annotations.parquet: {order.null_count} photographs are not in data/inventory.parquet; run `dvc repro`")
    return rows.append_column("sha256", inventory["sha256"].take(order)).combine_chunks()


def _chunks(rows: pa.Table, params: CropParams) -> Iterator[pa.Table]:
    """One row group at a time: splits in order, each shard starting a group of its own."""
    for split in SPLITS:
        positions = np.flatnonzero(pc.equal(rows["split"], split).to_numpy())
        for first in range(0, len(positions), params.rows_per_shard):
            shard = positions[first : first + params.rows_per_shard]
            for group in range(0, len(shard), ROWS_PER_GROUP):
                yield rows.take(pa.array(shard[group : group + ROWS_PER_GROUP]))


def _groups(rows: pa.Table, params: CropParams) -> int:
    counts = (int(pc.sum(pc.equal(rows["split"], split)).as_py() or 0) for split in SPLITS)
    return sum(
        math.ceil(min(params.rows_per_shard, count - first) / ROWS_PER_GROUP)
        for count in counts
        for first in range(0, count, params.rows_per_shard)
    )


def _cut_chunk(root: Path, policy: CropPolicy, rows: pa.Table) -> tuple[pa.Table, int, int]:
    """The faces of one row group as a table, how many passed through unchanged, and how many were aligned."""
    crops = [_cut_row(root, policy, row) for row in rows.to_pylist()]
    table = pa.table(
        {
            "image": [{"bytes": crop.content, "path": path} for crop, path in zip(crops, rows["image"].to_pylist(), strict=True)],
            **{name: rows[name] for name in ("expression", "valence", "arousal", "list", "row")},
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
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: was readable for verify, now {error.strerror}; run `dvc repro -f verify`") from None
    if hashlib.sha256(content).digest() != row["sha256"]:
        raise UserError(f"{path}: has changed since verify read it; run `dvc repro -f verify`")
    edges = [row[name] for name in ("left", "top", "right", "bottom")]
    box = None if edges[0] is None else tuple(edges)
    landmarks = None if row["landmarks"] is None else np.asarray(row["landmarks"], np.float32).reshape(68, 2)
    return cut(content, box, landmarks, policy, str(path))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(run)
