"""The shards of cropped faces: Parquet that Hugging Face's `datasets` opens with its images, one series per split."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.tables.annotations import LABEL_CODE, LANDMARKS, SOFT_LABEL
from affectnet.tables.contract import PARQUET_OPTIONS, CheckedWriter, Column, Contract, readable_parquet
from affectnet.tables.labels import valid_labels

ROWS_PER_GROUP = 256
"""Faces per row group, which a reader decodes at a time."""

POLICY_KEY = b"affectnet.crop"
DATASET_KEY = b"affectnet.dataset"

FACES = Contract(
    "faces",
    "one cropped face; the rows of a split in the order of annotations.parquet, over its shards `<split>-00000-of-00003.parquet`",
    (
        Column("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]), "the crop as JPEG or PNG, and the photograph's path"),
        replace(LABEL_CODE, type=pa.int64()),
        Column("valence", pa.float32(), "unpleasant to pleasant; null when not annotated", low=-1, high=1, nullable=True),
        Column("arousal", pa.float32(), "calm to excited; null when not annotated", low=-1, high=1, nullable=True),
        Column("landmarks", LANDMARKS, "68 points, x and y in turn; null when absent", "px of the crop", nullable=True),
        Column("soft_label", SOFT_LABEL, "share of each expression, by code; they sum to 1; null when absent", nullable=True),
        Column("width", pa.int32(), "width of the crop", "px", low=1),
        Column("height", pa.int32(), "height of the crop", "px", low=1),
        Column("list", pa.string(), "annotation list of the face"),
        Column("row", pa.int64(), "its row there", low=1),
    ),
    lenient=True,  # the fields that Hugging Face's features imply: nullable, labels of 64 bits
)

CROP_AGAIN = "run `dvc repro -f crop`"

_FEATURES: dict[str, Any] = {
    "image": {"_type": "Image"},
    **{name: {"dtype": "float32", "_type": "Value"} for name in ("valence", "arousal")},
    "landmarks": {"feature": {"dtype": "float32", "_type": "Value"}, "length": 136, "_type": "Sequence"},
    "soft_label": {"feature": {"dtype": "float32", "_type": "Value"}, "length": len(EXPRESSIONS), "_type": "Sequence"},
    **{name: {"dtype": "int32", "_type": "Value"} for name in ("width", "height")},
    "list": {"dtype": "string", "_type": "Value"},
    "row": {"dtype": "int64", "_type": "Value"},
}


def shard_name(split: str, shard: int, shards: int) -> str:
    return f"{split}-{shard:05d}-of-{shards:05d}.parquet"


def shard_paths(folder: Path, split: str) -> list[Path]:
    """The shards of a split, in order. Errors: UserError when there are none, or not as many as their names say."""
    paths = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    if not paths:
        raise UserError(f"{folder}: no shard of the split {split}; run `dvc repro crop`")
    if [path.name for path in paths] != [shard_name(split, shard, len(paths)) for shard in range(len(paths))]:
        raise UserError(
            f"{folder}: {len(paths)} shards of the split {split}, first {paths[0].name}: not a complete series; run `dvc repro -f crop`"
        )
    return paths


@contextmanager
def shard_writer(path: Path, policy: dict[str, Any], dataset: str, labels: Sequence[str]) -> Iterator[CheckedWriter]:
    """Writes one shard, one row group at a time; images are stored as they are, since they are compressed already.

    dataset: the entry of `datasets` in params.yaml; labels: the names of the codes.
    """
    image, *others = _FEATURES
    features = {image: _FEATURES[image], "expression": {"_type": "ClassLabel", "names": list(labels)}}
    metadata = {
        b"huggingface": json.dumps({"info": {"features": {**features, **{name: _FEATURES[name] for name in others}}}}).encode(),
        POLICY_KEY: json.dumps(policy, sort_keys=True).encode(),
        DATASET_KEY: dataset.encode(),
    }
    lists = ("landmarks.list.element", "soft_label.list.element")
    compression = dict.fromkeys(("expression", "valence", "arousal", *lists, "width", "height", "list", "row"), "zstd")
    options = {**PARQUET_OPTIONS, "compression": compression, "use_dictionary": ["list"]}
    with pq.ParquetWriter(path, FACES.schema.with_metadata(metadata), **options) as writer:
        yield CheckedWriter(FACES, writer)


def read_policy(folder: Path, split: str) -> dict[str, Any]:
    """The crop policy of the split's faces, as its params. Errors: UserError when no shard holds it."""
    first = shard_paths(folder, split)[0]
    with readable_parquet(first, CROP_AGAIN):
        metadata = pq.read_schema(first).metadata or {}
        policy = json.loads(metadata.get(POLICY_KEY, b"null"))
    if not isinstance(policy, dict):
        raise UserError(f"{folder}: no shards written by crop; {CROP_AGAIN}")
    return policy


def read_dataset(folder: Path, split: str) -> str:
    """The entry of `datasets` in params.yaml that the split's faces are of; empty in shards of an earlier version."""
    first = shard_paths(folder, split)[0]
    with readable_parquet(first, CROP_AGAIN):
        return bytes((pq.read_schema(first).metadata or {}).get(DATASET_KEY, b"")).decode()


def read_face_labels(folder: Path, split: str) -> tuple[str, ...]:
    """The names of the split's codes. Errors: UserError when the first shard does not hold them."""
    first = shard_paths(folder, split)[0]
    with readable_parquet(first, CROP_AGAIN):
        metadata = pq.read_schema(first).metadata or {}
        document = json.loads(metadata.get(b"huggingface", b"null"))
    try:
        names = document["info"]["features"]["expression"]["names"]
    except (KeyError, TypeError):
        raise UserError(f"{first}: no shard written by crop; {CROP_AGAIN}") from None
    return valid_labels(first, names)


def open_shard(path: Path) -> pq.ParquetFile:
    """The shard, to be read within `readable_parquet`; each page is checked against its checksum. Errors: UserError for any other file."""
    with readable_parquet(path, CROP_AGAIN):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        if not file.schema_arrow.equals(FACES.schema):
            raise UserError(f"{path}: not the table '{FACES.title}'; {CROP_AGAIN}")
        return file
