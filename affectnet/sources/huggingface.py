"""Parquet shards of the Hugging Face Hub: one image and one label per row."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from affectnet.errors import UserError, first_few
from affectnet.files.file_walk import folders_below, readable
from affectnet.images.formats import IMAGE_SUFFIXES, suffix_by_content
from affectnet.sources.maps import MapParams, class_codes, splits_of, splits_read
from affectnet.sources.per_image import DETAIL_LENGTH
from affectnet.sources.source import layout
from affectnet.sources.unpacked import Container, Member
from affectnet.tables.source_pointer import Pointer

IMAGES_PER_BATCH = 64

SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.parquet", re.IGNORECASE | re.DOTALL)
"""The name of one shard of several: prefix, number from 0, and how many there are."""


@layout("huggingface")
class HuggingFace(Container):
    """`*.parquet` anywhere below the root; the split is the name in the map of splits that the name of the file or its folder holds.

    options: image and label, the names of the columns. An image is a struct of bytes and path, or bytes; a label is text, or a
    number; its name is in the features of the Parquet file's metadata, else the number is the name. The bytes of the images are
    kept as they are. Errors: UserError when columns are missing, or a map lacks the name of a label or of a split.
    """

    class Params(MapParams):
        image: str
        label: str

    sign = re.compile(r"\.parquet$")

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer)
        self.shards = [
            folder / name for folder, _, names in folders_below(self.root) for name in names if name.lower().endswith(".parquet")
        ]
        if not self.shards:
            raise UserError(f"{self.root}: no Parquet file below it; is this the root of a data set of the Hugging Face Hub?")
        by_name: dict[str, Path] = {}
        for path in self.shards:
            if (other := by_name.setdefault(str(path.with_suffix("")), path)) != path:
                raise UserError(
                    f"{path}: differs from {other.name} only in the case of its suffix, and its images get the same names; rename it"
                )
        self.split_names = {path: self._split_name(path) for path in self.shards}
        self.splits = splits_of(pointer, self.split_names.values())
        self._check_complete()
        self.label_names = {path: _label_names(self._opened(path), pointer.options["label"]) for path in self.shards}
        self.codes = class_codes(pointer, self._names())

    def reading(self) -> str:
        return splits_read(self.pointer, self.splits)

    def files(self) -> list[Path]:
        return self.shards

    def members(self) -> Iterator[Member]:
        columns = [self.pointer.options["image"], self.pointer.options["label"]]
        for path in self.shards:
            split, shard = self.splits[self.split_names[path]], readable(self.below(path))
            number = 0
            for part in self._batches(path, columns, IMAGES_PER_BATCH):
                for image, label in zip(*(part[name].to_pylist() for name in columns), strict=True):
                    number += 1
                    yield Member(shard, number, **self._row(split, image, label, self.label_names[path]))

    def _row(self, split: str | None, image: Any, label: Any, names: list[str] | None) -> dict[str, Any]:
        """The fields of the row's Member from `split` on."""
        if split is None:
            return {"split": None, "fault": "left_out", "detail": "its split"}
        content, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
        suffix = Path(path or "").suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            suffix = suffix_by_content(content or b"")
        row: dict[str, Any] = {"split": split, "suffix": suffix, "content": content}
        name = _name(label, names)
        if name is None:
            return {**row, "detail": f"label {label}, which has no name"}
        if (code := self.codes[name.lower()]) is None:
            return {**row, "fault": "left_out", "detail": f"label {name}"[:DETAIL_LENGTH]}
        return {**row, "expression": code, "detail": None if content is not None else f"no bytes; path {path}"[:DETAIL_LENGTH]}

    def _names(self) -> set[str]:
        """The names of all labels that occur."""
        column = self.pointer.options["label"]
        occurring: set[str] = set()
        for path in self.shards:
            for part in self._batches(path, [column], 1 << 16):
                names = (_name(label, self.label_names[path]) for label in part[column].unique().to_pylist())
                occurring |= {name for name in names if name is not None}
        return occurring

    def _check_complete(self) -> None:
        """Errors: UserError when of the shards of a split that is read some are missing, by the numbers in their names."""
        present: dict[tuple[Path, str, str], set[int]] = {}
        for path in self.shards:
            if self.splits[self.split_names[path]] is not None and (match := SHARD.fullmatch(path.name)):
                present.setdefault((path.parent, match[1], match[3]), set()).add(int(match[2]))
        missing = [
            self.below(folder / f"{prefix}-{number:05d}-of-{count}.parquet")
            for (folder, prefix, count), numbers in present.items()
            for number in range(int(count))
            if number not in numbers
        ]
        if missing:
            raise UserError(
                f"{self.root}: of its shards some are missing, {first_few(missing)}; download them, "
                "or rename the others without -of- to read only these"
            )

    def _split_name(self, path: Path) -> str:
        """The longest name in the map of splits that the file's name holds, else the names of its folders, from the innermost."""
        parts = path.relative_to(self.root).with_suffix("").parts
        for part in reversed(parts):
            names = [name for name in self.pointer.splits if re.search(rf"(?<![a-z]){re.escape(name.lower())}(?![a-z])", part.lower())]
            if names:
                return max(names, key=len)
        raise UserError(
            f"{path}: neither its name nor its folders' names hold a split; choose from {', '.join(self.pointer.splits)}; "
            f"rename it, or add a name to params.yaml: {self.pointer.params}.splits"
        )

    def _opened(self, path: Path) -> pa.Schema:
        """The file's schema. Errors: UserError when it is not Parquet, or has other columns."""
        try:
            schema = pq.read_schema(path)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from None
        options = self.pointer.options
        image, label = (schema.field(options[name]).type if options[name] in schema.names else None for name in ("image", "label"))
        if isinstance(image, pa.StructType):
            image = image.field("bytes").type if image.get_field_index("bytes") >= 0 else None
        if isinstance(label, pa.DictionaryType):
            label = label.value_type
        is_image = image is not None and (pa.types.is_binary(image) or pa.types.is_large_binary(image))
        is_label = label is not None and (pa.types.is_integer(label) or pa.types.is_string(label) or pa.types.is_large_string(label))
        if not is_image or not is_label:
            wrong = "image" if not is_image else "label"
            kind = "bytes, or a struct of bytes and path" if wrong == "image" else "whole numbers or text"
            columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
            raise UserError(
                f"{path}: no column {options[wrong]} of {kind}; columns are {columns}; see params.yaml: {self.pointer.params}.{wrong}"
            )
        return schema

    def _batches(self, path: Path, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(rows, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from None


def _label_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names of a ClassLabel by number, from the features that `datasets` writes; None where there are none."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        names = feature["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _name(label: int | str | None, names: list[str] | None) -> str | None:
    """The name of a label; None for null, for −1 (no label), and for a number without a name."""
    if isinstance(label, str) or label is None:
        return label or None
    if names is None:
        return str(label) if label >= 0 else None
    return names[label] if 0 <= label < len(names) else None


def _unreadable(path: Path, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:
        return error  # caused by the machine
    return UserError(f"{path}: unreadable Parquet: {str(error).splitlines()[0]}; download it again")
