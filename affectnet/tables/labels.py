"""The labels of a table: the names of its codes, in their order, in the metadata of the Parquet file's schema."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS, invalid_labels
from affectnet.tables.contract import LABELS_KEY, readable_parquet


def labels_metadata(labels: Sequence[str]) -> dict[str, str]:
    """For the schema of a table with codes of these labels."""
    return {LABELS_KEY.decode(): json.dumps(list(labels), ensure_ascii=False)}


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a table, AffectNet's where it names none. Errors: UserError when it is missing or broken, or they are invalid."""
    with readable_parquet(path):
        metadata = pq.read_schema(path).metadata or {}
        content = metadata.get(LABELS_KEY)
        names = EXPRESSIONS if content is None else json.loads(content)
    return valid_labels(path, names)


def valid_labels(path: Path, names: object) -> tuple[str, ...]:
    """The labels that a file names. Errors: UserError when they are anything but distinct names."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: its labels are not a list of names; run `dvc repro`")
    if problem := invalid_labels(names):
        raise UserError(f"{path}: {problem}; run `dvc repro`")
    return tuple(names)
