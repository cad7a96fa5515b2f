"""The user's maps from the names in a download to expressions and splits."""

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field, field_validator

from affectnet.errors import UserError, first_few
from affectnet.expressions import EXPRESSIONS
from affectnet.params import FolderName
from affectnet.sources.source import LayoutParams
from affectnet.tables.source_pointer import Pointer


class MapParams(LayoutParams):
    """As LayoutParams, for a download whose names of classes and splits the user maps, and which may be without a test split."""

    classes: dict[FolderName, str | None] = Field(min_length=1)
    splits: dict[FolderName, Literal["train", "validation", "test"] | None] = Field(min_length=1)
    test_share: float | None = Field(gt=0, lt=1)

    @field_validator("classes", "splits", mode="before")
    @classmethod
    def _names_differ(cls, names: object) -> object:
        """YAML has both 0 and '0' as keys, which are the name of the same folder."""
        if isinstance(names, dict) and len(set(map(str, names))) < len(names):
            raise ValueError("a number as a name twice, with and without quotes; keep one of them")
        return names


LabelMap = Mapping[str, int | None]
"""A name in lower case → the code of its label; None for a name that is skipped."""


def class_map(pointer: Pointer) -> dict[str, str | None]:
    """The label per name in the download, in lower case: the user's map, and each label by its name, which is its label.

    Labels may be in any case. Errors: UserError when the map names anything but labels, or contradicts itself. Names of AffectNet's
    expressions are kept where these are not the labels, since the map in params.yaml has them; `class_codes` refuses those that occur.
    """
    labels = {label.lower(): label for label in pointer.labels}
    known = {**{expression.lower(): expression for expression in EXPRESSIONS}, **labels}
    unknown = [f"{name}: {label}" for name, label in pointer.classes.items() if label is not None and label.lower() not in known]
    if unknown:
        raise UserError(
            f"params.yaml: {pointer.params}.classes: maps to unknown names, {first_few(unknown)}; choose from {', '.join(pointer.labels)}"
        )
    spelled = {name: label and known[label.lower()] for name, label in pointer.classes.items()}
    mapped = lower_case(pointer, "classes", spelled)
    return {**labels, **{name: label for name, label in mapped.items() if name not in labels or label in {None, *pointer.labels}}}


def lower_case(pointer: Pointer, param: str, names: Mapping[str, str | None]) -> dict[str, str | None]:
    """A map of the user by its names in lower case. Errors: UserError when names that differ only in case map to different values."""
    mapped: dict[str, str | None] = {}
    for name, value in names.items():
        if mapped.setdefault(name.lower(), value) != value:
            both = " and ".join(one or "null" for one in (mapped[name.lower()], value))
            raise UserError(f"params.yaml: {pointer.params}.{param}: {name} is both {both}, since case does not count; keep one of them")
    return mapped


def class_codes(pointer: Pointer, names: Iterable[str]) -> LabelMap:
    """The code per name, in any case. Errors: UserError with all names that the user's map lacks, or does not map to a label."""
    classes = class_map(pointer)
    occurring = sorted(set(names))
    remedy = "to an expression" if pointer.labels == EXPRESSIONS else f"to one of {', '.join(pointer.labels)}"
    if missing := [name for name in occurring if name.lower() not in classes]:
        raise UserError(
            f"{pointer.root}: labels that params.yaml: {pointer.params}.classes does not map, {first_few(missing, 8)}; "
            f"add them there, {remedy}, or to null to leave them out"
        )
    labels = {label.lower(): label for label in pointer.labels}
    moved = [f"{name}: {label}" for name in occurring if (label := classes[name.lower()]) not in {None, labels.get(name.lower(), label)}]
    if moved and pointer.labels != EXPRESSIONS:  # the shipped map has synonyms of AffectNet's labels, which may be labels of one's own
        raise UserError(
            f"params.yaml: {pointer.params}.classes: maps the name of a label to another label, {first_few(moved, 8)}; map it to "
            "itself, or to null to leave it out, or take it out of `labels`"
        )
    others = [name for name in occurring if classes[name.lower()] not in {None, *pointer.labels}]
    if others:
        raise UserError(
            f"{pointer.root}: names that params.yaml: {pointer.params}.classes maps to something else than labels, "
            f"{first_few([f'{name}: {classes[name.lower()]}' for name in others], 8)}; map them {remedy}, or to null to leave them out"
        )
    codes = {label: code for code, label in enumerate(pointer.labels)}
    return {name: None if label is None else codes[label] for name, label in classes.items() if label is None or label in codes}


def splits_of(pointer: Pointer, names: Iterable[str]) -> dict[str, str | None]:
    """The split of each of these names, in any case; None for a name that is skipped.

    Where no name maps to test and no share of train is to be cut off as test, the names of validation map to test. Errors: UserError
    when the user's map lacks a name, train or test is empty, or a share is to be cut off although a test split exists.
    """
    splits = lower_case(pointer, "splits", pointer.splits)
    present = sorted(set(names))
    param = f"params.yaml: {pointer.params}"
    if missing := [name for name in present if name.lower() not in splits]:
        raise UserError(f"{pointer.root}: splits that {param}.splits does not map, {first_few(missing, 8)}; add them there")
    mapped = {name: splits[name.lower()] for name in present}
    names_present = f"there are {first_few(present, 8)}" if present else "there is none"
    if pointer.test_share is not None and "test" in mapped.values():
        raise UserError(f"{param}.test_share: {pointer.test_share:g}, but {pointer.root} has a test split, {names_present}; set it to null")
    if pointer.test_share is None and "test" not in mapped.values():
        mapped = {name: "test" if split == "validation" else split for name, split in mapped.items()}
    if "train" not in mapped.values():
        raise UserError(f"{pointer.root}: nothing for the split train, {names_present}; see {param}.splits")
    if pointer.test_share is None and "test" not in mapped.values():
        raise UserError(
            f"{pointer.root}: nothing for the split test, {names_present}; see {param}.splits, "
            f"or set {param}.test_share, as to 0.2, to have that share cut off as test, near duplicates together"
        )
    return mapped


def splits_read(pointer: Pointer, splits: Mapping[str, str | None]) -> str:
    """Which name is which split, for the summary line of `acquire`."""
    mapping = ", ".join(f"{name} as {split}" if split else f"{name} left out" for name, split in splits.items())
    return mapping + (f", {pointer.test_share:g} of train to be cut off as test" if pointer.test_share is not None else "")
