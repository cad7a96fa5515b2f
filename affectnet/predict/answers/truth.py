"""The labels of photographs, from a table or from folders named by label."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError, first_few, many
from affectnet.expressions import EXPRESSIONS, invalid_labels
from affectnet.metrics.regression import DIMENSIONS
from affectnet.predict.answers.tables import Table, image_path, read_table
from affectnet.predict.image_folder import Classes, class_folders, photographs, unused, with_labels
from affectnet.predict.options import refuse_useless
from affectnet.predict.paths import in_table

NOT_ANNOTATED = -2
"""AffectNet's valence and arousal of a face without them."""

ANNOTATIONS = {"list", "row", "split", "left", "group"}
"""Columns by which data/annotations.parquet is recognised: its numbers are codes of the labels that it names."""


@dataclass(frozen=True)
class Truth:
    """n photographs with their labels.

    codes: (n,) of the labels, or None for a table without; affect: (n, 2) valence and arousal, NaN where not annotated; without: rows
    that were left out for want of a label; labels: AffectNet's expressions, or those of our own table or --label-set; notes: what was not
    used.
    """

    name: str
    images: Sequence[str]
    codes: NDArray[np.int64] | None
    affect: NDArray[np.float64]
    without: int = 0
    labels: tuple[str, ...] = EXPRESSIONS
    notes: Sequence[str] = ()

    def classes(self, mappings: Sequence[str]) -> Classes:
        """The label of each name or number of answers. mappings: of --labels."""
        return _classes(self.labels, mappings, "--labels")


def read_truth(path: Path, split: str | None, mappings: Sequence[str], label_set: str | None) -> Truth:
    """The labels of a table, or of a folder with one folder per label. split: rows of the table, or a folder of the folder.

    mappings: name=label and name=null, of --truth-labels; label_set: the labels with commas between, None: AffectNet's, or those that our
    own table names. Errors: UserError when there is no such path, split or label, or a value is out of range.
    """
    labels = EXPRESSIONS if label_set is None else _label_set(label_set)
    classes = _classes(labels, mappings, "--truth-labels")
    if path.is_dir():
        return _of_folder(path, split, classes, labels, mappings)
    table = _of_split(read_table(path), split)
    codes, kept = None, np.ones(len(table), bool)
    if table.columns.keys() >= ANNOTATIONS:
        from affectnet.tables.labels import read_labels  # noqa: PLC0415 (a small installation has no Parquet)

        refuse_useless({"--label-set": label_set, "--truth-labels": mappings}, f"{path} names its labels; leave it out")
        labels = read_labels(path)
        classes = {str(code): label for code, label in enumerate(labels)}
    if "expression" in table.columns:
        codes = codes_of(table.file, table.columns["expression"], classes, labels, "--truth-labels")
        kept = codes >= 0
        codes = codes[kept]
    affect = np.stack([_affect(table, name) for name in DIMENSIONS], 1)
    if codes is None:
        kept = np.asarray(np.isfinite(affect).all(1))
    affect = affect[kept]
    half = np.isfinite(affect).any(1) & ~np.isfinite(affect).all(1)
    affect[half] = np.nan  # as `clean`: the pair is one annotation
    if not kept.any():
        raise UserError(f"{path}: no labels: no row has an expression, or valence and arousal; see its columns")
    images = [image for image, keep in zip(table.images, kept, strict=True) if keep]
    notes = [*table.notes, *unused_mappings(table, mappings, "--truth-labels"), *half_affect(table)]
    if half.any() and table.columns.keys() >= set(DIMENSIONS):
        notes.append(f"{path}: {many(int(half.sum()), 'row')} with only one of {' and '.join(DIMENSIONS)}, which is left out")
    return Truth(str(path), images, codes, affect, int((~kept).sum()), labels, notes)


def unused_mappings(table: Table, mappings: Sequence[str], option: str) -> list[str]:
    """A line per mapping of a name that is neither a column nor a label in the column expression."""
    names = {*table.columns, *(text_of(cell) for cell in table.columns.get("expression", ()) if cell is not None)}
    return [f"{option} {mapping}: nothing in {table.file} has such a name" for mapping in unused(mappings, names)]


def half_affect(table: Table) -> list[str]:
    """A line when a table has one of valence and arousal, which only count together."""
    having = [name for name in DIMENSIONS if name in table.columns]
    return [f"{table.file}: {having[0]} without {', '.join(set(DIMENSIONS) - set(having))}, left out"] if len(having) == 1 else []


def _label_set(text: str) -> tuple[str, ...]:
    labels = tuple(label.strip() for label in text.split(","))
    if problem := invalid_labels(labels):
        raise UserError(f"--label-set: {problem}; give all labels, with commas between, such as engaged,bored,confused")
    return labels


def _classes(labels: tuple[str, ...], mappings: Sequence[str], option: str) -> Classes:
    """The label of each name: of AffectNet's in the forms of class folders, of others as they are, and as the mappings say."""
    if labels == EXPRESSIONS:
        return with_labels(mappings, option=option)
    classes = with_labels(mappings, {}, option, labels)
    if beyond := [f"{name} is {label}" for name, label in classes.items() if label not in {*labels, None}]:
        raise UserError(f"{option}: {first_few(beyond)}, not one of the {first_few(labels, 8)}")
    return classes


def codes_of(file: Path, cells: Sequence[Any], classes: Classes, labels: Sequence[str], option: str) -> NDArray[np.int64]:
    """(n,) codes of the cells among the labels, −1 for an empty one and one that is left out.

    Errors: UserError for names and numbers without a meaning.
    """
    texts = [None if cell is None else text_of(cell) for cell in cells]
    unknown = sorted({text for text in texts if text is not None and classes.get(text, text) not in {*labels, None}})
    if unknown and tuple(labels) != EXPRESSIONS:
        raise UserError(
            f"{file}: labels beyond the {first_few(labels, 8)}: {first_few(unknown, 8)}; add each to --label-set, or map it with "
            f"{option} name=label or name=null"
        )
    if unknown:
        raise UserError(
            f"{file}: labels without an expression, {first_few(unknown, 8)}; map each with {option} label=Expression or label=null, or all "
            f"numbers with {option} affectnet, fer2013 or raf_db; if all labels are others, name them with --label-set"
        )
    codes = {text: -1 if name is None else labels.index(name) for text, name in classes.items() if name is None or name in labels}
    return np.array([-1 if text is None else codes[text] for text in texts], np.int64)


def text_of(label: Any) -> str:
    """In lower case; a whole number without a point, as pandas writes one into a column with gaps."""
    text = str(label).lower()
    return text.removesuffix(".0") if text.removesuffix(".0").lstrip("-").isdecimal() else text


def _of_folder(folder: Path, split: str | None, classes: Classes, labels: tuple[str, ...], mappings: Sequence[str]) -> Truth:
    problems, others = list[str](), list[str]()
    folders = class_folders(folder, split, classes)
    labelled = list(photographs(folders, problems.append, others.append))
    if problems:
        raise UserError(*problems)
    images = [image_path(in_table(Path(one.path).relative_to(folder).as_posix())) for one in labelled]
    codes = np.array([labels.index(one.label) for one in labelled], np.int64)
    names = {path.name.lower() for path, _ in folders}
    notes = [f"--truth-labels {mapping}: no folder has such a name" for mapping in unused(mappings, names)]
    notes += [f"{folder}: {many(len(others), 'other file')} skipped"] if others else []
    return Truth(str(folder), images, codes, np.full((len(images), 2), np.nan), labels=labels, notes=notes)


def _of_split(table: Table, split: str | None) -> Table:
    """The rows of the split. Errors: UserError when the table has several and none is named, or not this one."""
    names = table.columns.get("split")
    if names is None:
        if split is not None:
            raise UserError(f"{table.file}: no column split; leave out --split")
        return table
    present = sorted({str(name) for name in names})
    if split is None and len(present) == 1:
        return table
    if split not in present:
        raise UserError(f"{table.file}: choose one of its splits with --split: {first_few(present, 8)}")
    rows = [row for row, name in enumerate(names) if str(name) == split]
    columns = {name: [values[row] for row in rows] for name, values in table.columns.items()}
    return replace(table, images=[table.images[row] for row in rows], columns=columns)


def _affect(table: Table, name: str) -> NDArray[np.float64]:
    """(n,) NaN where there is none. Errors: UserError for a value beyond −1 … 1."""
    if name not in table.columns:
        return np.full(len(table), np.nan)
    values = np.array(table.numbers(name))
    values[values == NOT_ANNOTATED] = np.nan
    return in_range(table, name, values)


def in_range(table: Table, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values. Errors: UserError when one is beyond −1 … 1."""
    outside = np.flatnonzero(np.abs(values) > 1)
    if len(outside):
        shown = [f"{values[row]:g} for {table.images[row]}" for row in outside.tolist()]
        raise UserError(f"{table.file}: {name} beyond -1 … 1, {first_few(shown)}; scale it")
    return values
