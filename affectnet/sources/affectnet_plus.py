"""AffectNet+: 224×224 images and one JSON file per image, its keys in any capitalisation."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.expressions import EXPRESSIONS
from affectnet.files.file_walk import folders_below, readable
from affectnet.sources.per_image import SETS, Annotation, PerImage, parse_annotation, plain_number, read_limited
from affectnet.sources.source import ONLY_TRAIN, FileParams, layout
from affectnet.tables.annotations import SUBSETS
from affectnet.tables.source_pointer import Pointer

LARGEST_JSON = 1 << 20
"""Bytes of a JSON file at most."""

LANDMARKS = ("landmark68", "landmarks68", "landmarks")
"""Plain keys of the 68 points: the release has `landmark-68`, other copies have the others. `landmark-29` is not read."""

ABSENT = -2.0

LOOKED_AT = 20
"""Files of an unknown folder that are opened to recognise it."""

SUM_TOLERANCE = 0.02
"""How far the sum of shares may be from 1: published shares are rounded."""

OLDEST = 150
LONGEST_NAME, MOST_NAMES = 60, 32
"""Of a name in a mapping, in characters, and names of a mapping, at most."""


@layout("affectnet_plus")
class AffectNetPlus(PerImage):
    """`human_annotated/train_set/{images,annotations}` and validation_set likewise (Fard et al. 2024, arXiv 2410.22506).

    The images that people have not labelled, `no_human_annotated/{images,annotations}`, are read on request: their expression is the
    most probable one of the soft label, and they only train.
    """

    class Params(FileParams):
        no_human_annotated: bool = False

    sign = re.compile(r"_set/annotations/[^/]+\.json$")
    annotates = ("landmarks", "valence", "arousal", "soft_label", "subset", "age", "gender", "race", "pose")

    def __init__(self, pointer: Pointer) -> None:
        unlabelled = list(_unlabelled_folders(Path(pointer.root)))
        try:
            super().__init__(pointer)
        except UserError as error:
            if unlabelled:
                raise UserError(
                    f"{unlabelled[0]}: this part of AffectNet+ is no_human_annotated, one zip of 7.4 GB with 539,607 images that nobody "
                    "labelled; train and validation are in human_annotated, which the other zip, in parts, holds: unpack that one, too, "
                    f"and set {pointer.params}.root to the folder above both"
                ) from None
            raise error
        self.unlabelled: Path | None = None
        if pointer.options.get("no_human_annotated"):
            remedy = f"unpack it there, or set {pointer.params}.no_human_annotated to false"
            self.unlabelled = self.only(unlabelled, "folder no_human_annotated with images/ and annotations/", remedy)
            self.sets.append(self.image_set(self.unlabelled, ONLY_TRAIN))

    def accepts(self, folder: Path) -> bool:
        return not _named_unlabelled(folder.relative_to(self.root).parts)

    def annotated_name(self, file: str) -> str | None:
        return file[: -len(".json")] if file.lower().endswith(".json") else None

    def read(self, files: tuple[Path, ...]) -> Annotation:
        (file,) = files
        try:
            values = _values(file)
        except (OSError, ValueError, RecursionError, AttributeError) as error:
            reraise_machine_fault(error, file)
            return Annotation(fault="malformed", detail=f"{file.name}: {type(error).__name__}")
        further, unread = further_values(values)
        label, valence, arousal = (values.get(name) for name in ("humanlabel", "valence", "arousal"))
        if file.parent.parent == self.unlabelled:
            if (soft_label := further.get("soft_label")) is None:
                return Annotation(fault="malformed", detail=f"{file.name}: no soft label")
            label = soft_label.argmax().item()
            valence, arousal = (ABSENT if value is None else value for value in (valence, arousal))
        landmarks = next(filter(None, map(values.get, LANDMARKS)), None)
        annotation = parse_annotation(label, valence, arousal, landmarks)
        annotation.further, annotation.unread = further, [*annotation.unread, *unread]
        return annotation


def _values(file: Path) -> dict[str, Any]:
    """The values of a JSON file by plain key. Errors: OSError, ValueError, RecursionError or AttributeError for anything else."""
    return plain_keys(json.loads(read_limited(file, LARGEST_JSON).decode("utf-8-sig")))


def plain_keys(content: Mapping[str, Any]) -> dict[str, Any]:
    """All values of the mapping and of the mappings in it; among equal keys the outermost counts.

    Keys are in lower case, without `-`, `_` and spaces, so that `Human-Label` and `human_label` are equal.
    """
    plain: dict[str, Any] = {}
    level = [content]
    while level:
        for key, value in ((key, value) for mapping in level for key, value in mapping.items()):
            plain.setdefault("".join(c for c in key.lower() if c.isalnum()), value)
        level = [value for mapping in level for value in mapping.values() if isinstance(value, dict)]
    return plain


def _named_unlabelled(parts: tuple[str, ...]) -> bool:
    return any(part.lower().startswith("no_human") for part in parts)


def _unlabelled_folders(root: Path) -> Iterator[Path]:
    """The folders with images that people have not labelled: by their name, or by the content of their first files."""
    for folder, below, _ in folders_below(root):
        if {"images", "annotations"} <= set(below):
            named = _named_unlabelled((root.name, *folder.relative_to(root).parts))
            if named or (folder.name.lower() not in SETS and _looks_unlabelled(folder / "annotations")):
                yield folder
            below[:] = [name for name in below if name not in {"images", "annotations"}]


def _looks_unlabelled(annotations: Path) -> bool:
    """Whether one of the first files has a soft label and no human label."""
    for file in islice((file for file in annotations.iterdir() if file.suffix.lower() == ".json"), LOOKED_AT):
        try:
            values = _values(file)
        except (OSError, ValueError, RecursionError, AttributeError) as error:
            reraise_machine_fault(error, file)
            continue
        if "softlabel" in values:
            return "humanlabel" not in values
    return False


def further_values(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The columns FURTHER that the values have, by name, and the names of those that cannot be read.

    values: by plain key, as `softlabel`. A key that is missing or null is absent, not unreadable.
    """
    columns: dict[str, Any] = {}
    unread = []
    for name, read in READERS.items():
        value = values.get(name.replace("_", ""))
        if value is None:
            continue
        if (columns_read := read(name, value)) is None:
            unread.append(name)
        else:
            columns |= columns_read
    return columns, unread


def shares(value: object) -> NDArray[np.float32] | None:
    """(8,) shares that sum to exactly 1, from 8 numbers of at least 0 whose sum is 1 within the tolerance; None for anything else."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, list) or len(value) != len(EXPRESSIONS):
        return None
    numbers = [plain_number(each) for each in value]
    scaled = _summing_to_1([math.nan if number is None else number for number in numbers])
    return None if scaled is None else scaled.astype(np.float32)


def _summing_to_1(numbers: list[float]) -> NDArray[np.float64] | None:
    total = sum(numbers)
    if not (abs(total - 1) <= SUM_TOLERANCE and min(numbers) >= 0):  # false for NaN
        return None
    return np.array(numbers) / total


def _soft_label(name: str, value: object) -> dict[str, Any] | None:
    return None if (label := shares(value)) is None else {name: label}


def _subset(name: str, value: object) -> dict[str, Any] | None:
    """A code 0, 1 or 2, or one of the names."""
    if isinstance(value, str) and value.strip().lower() in SUBSETS:
        return {name: value.strip().lower()}
    code = plain_number(value)
    return {name: SUBSETS[int(code)]} if code in set(range(len(SUBSETS))) and code is not None else None


def _age(name: str, value: object) -> dict[str, Any] | None:
    years = plain_number(value)
    return {name: years} if years is not None and 0 <= years <= OLDEST else None


def _most_probable(name: str, value: object) -> dict[str, Any] | None:
    """The most probable name and the probabilities, from a mapping of shares or of percent; or a name."""
    if isinstance(value, str):
        return {name: _short(value)} if value.strip() else None
    if (numbers := _by_name(value)) is None:
        return None
    percent = sum(numbers.values()) > 2
    scaled = _summing_to_1([number / 100 if percent else number for number in numbers.values()])
    if scaled is None:
        return None
    probabilities = dict(zip(numbers, scaled.tolist(), strict=True))
    return {name: max(sorted(probabilities), key=lambda each: probabilities[each]), f"{name}_probabilities": [*probabilities.items()]}


def _pose(name: str, value: object) -> dict[str, Any] | None:
    return None if (numbers := _by_name(value)) is None else {name: [*numbers.items()]}


def _by_name(value: object) -> dict[str, float] | None:
    """The numbers of a mapping, its names in lower case; None for anything else, and where two names are then equal."""
    if not isinstance(value, dict) or not 0 < len(value) <= MOST_NAMES:
        return None
    numbers = {_short(name): plain_number(number) for name, number in value.items()}
    known = {name: number for name, number in numbers.items() if number is not None}
    return known if len(known) == len(value) else None


def _short(name: str) -> str:
    return readable(name.strip().lower())[:LONGEST_NAME]


READERS: Mapping[str, Callable[[str, object], dict[str, Any] | None]] = {
    "soft_label": _soft_label,
    "subset": _subset,
    "age": _age,
    "gender": _most_probable,
    "race": _most_probable,
    "pose": _pose,
}
"""The reader of each value: the columns that it gives, None when it cannot be read."""
