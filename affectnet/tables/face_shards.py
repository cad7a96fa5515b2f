"""The shards of cropped faces: Parquet that Hugging Face's `datasets` opens with its images, one series a split."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.tables.annotations import LANDMARKS
from affectnet.tables.contract import PARQUET_OPTIONS, CheckedWriter, Column, Contract, readable_parquet

ROWS_PER_GROUP = 256
"""Faces a row group: what a reader decodes at a time."""

POLICY_KEY = b"affectnet.crop"

FACES = Contract(
    "faces",
    "one cropped face; the rows of a split in the order of annotations.parquet, over its shards `<split>-00000-of-00003.parquet`",
    (
        Column("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]), "the crop as JPEG or PNG, and the photograph's path"),
        Column("expression", pa.int64(), "0 Neutral, 1 Happy, 2 Sad, 3 Surprise, 4 Fear, 5 Disgust, 6 Anger, 7 Contempt", low=0, high=7),
        Column("valence", pa.float32(), "unpleasant to pleasant; null when not annotated", low=-1, high=1, nullable=True),
        Column("arousal", pa.float32(), "calm to excited; null when not annotated", low=-1, high=1, nullable=True),
        Column("landmarks", LANDMARKS, "68 points, x and y in turn; null when absent", "px of the crop", nullable=True),
        Column("width", pa.int32(), "width of the crop", "px", low=1),
        Column("height", pa.int32(), "height of the crop", "px", low=1),
        Column("list", pa.string(), "annotation list of the face"),
        Column("row", pa.int64(), "its row there", low=1),
    ),
    lenient=True,  # Hugging Face's features stand for Arrow's fields as they make them: nullable, labels of 64 bits
)

CROP_AGAIN = "run `dvc repro -f crop`"

_FEATURES: dict[str, Any] = {
    "image": {"_type": "Image"},
    "expression": {"_type": "ClassLabel", "names": list(EXPRESSIONS)},
    **{name: {"dtype": "float32", "_type": "Value"} for name in ("valence", "arousal")},
    "landmarks": {"feature": {"dtype": "float32", "_type": "Value"}, "length": 136, "_type": "Sequence"},
    **{name: {"dtype": "int32", "_type": "Value"} for name in ("width", "height")},
    "list": {"dtype": "string", "_type": "Value"},
    "row": {"dtype": "int64", "_type": "Value"},
}


def shard_name(split: str, shard: int, shards: int) -> str:
    return f"{split}-{shard:05d}-of-{shards:05d}.parquet"


def shard_paths(folder: Path, split: str) -> list[Path]:
    """The shards of a split, in order. Errors: UserError when there is none, or not as many as their names say."""
    found = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    if not found:
        raise UserError(f"{folder}: no shard of the split {split}; run `dvc repro crop`")
    wanted = [shard_name(split, shard, len(found)) for shard in range(len(found))]
    if [path.name for path in found] != wanted:
        raise UserError(
            f"{folder}: {len(found)} shards of the split {split}, first {found[0].name}: not a whole series; run `dvc repro -f crop`"
        )
    return found


@contextmanager
def shard_writer(path: Path, policy: dict[str, Any]) -> Iterator[CheckedWriter]:
    """Writes one shard, row group by row group; images are stored as they are, being compressed already."""
    metadata = {
        b"huggingface": json.dumps({"info": {"features": _FEATURES}}).encode(),
        POLICY_KEY: json.dumps(policy, sort_keys=True).encode(),
    }
    compression = dict.fromkeys(("expression", "valence", "arousal", "landmarks.list.element", "width", "height", "list", "row"), "zstd")
    options = {**PARQUET_OPTIONS, "compression": compression, "use_dictionary": ["list"]}
    with pq.ParquetWriter(path, FACES.schema.with_metadata(metadata), **options) as writer:
        yield CheckedWriter(FACES, writer)


def read_policy(folder: Path, split: str) -> dict[str, Any]:
    """The policy that cut the split's faces, as its params. Errors: UserError when there is no shard or it does not say."""
    first = shard_paths(folder, split)[0]
    with readable_parquet(first, CROP_AGAIN):
        metadata = pq.read_schema(first).metadata or {}
        policy = json.loads(metadata.get(POLICY_KEY, b"null"))
    if not isinstance(policy, dict):
        raise UserError(f"{folder}: no shards written by crop; {CROP_AGAIN}")
    return policy


def open_shard(path: Path) -> pq.ParquetFile:
    """The shard, its pages held against their checksums, to be read within `readable_parquet`. Errors: UserError for any other file."""
    with readable_parquet(path, CROP_AGAIN):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        if not file.schema_arrow.equals(FACES.schema):
            raise UserError(f"{path}: not the table '{FACES.title}'; {CROP_AGAIN}")
        return file
