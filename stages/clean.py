"""Reads the annotations of any layout, rejects rows that break a rule, with the reason, and cuts the splits."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from affectnet.cleaning.agreement import agreements, rows_with
from affectnet.cleaning.label_issues import read_label_issues
from affectnet.cleaning.label_order import permuted
from affectnet.cleaning.near_duplicates import near_duplicate_groups, repeated_faces
from affectnet.cleaning.rows import TEST, TRAIN, VALIDATION, Mask, Rows, filled, value_codes, write_rows
from affectnet.cleaning.splits import missing_expressions, stratified_cut
from affectnet.cleaning.va_rules import contradicts
from affectnet.errors import UserError, first_few
from affectnet.expressions import EXPRESSIONS, NOT_AN_EXPRESSION, SPLITS
from affectnet.files.atomic import write_json
from affectnet.files.checksums import sha256_or_none
from affectnet.files.file_walk import readable
from affectnet.params import Section
from affectnet.running.progress import progress
from affectnet.running.run_stage import launch
from affectnet.sources.registry import open_source
from affectnet.sources.source import ROWS, Source
from affectnet.tables.annotations import SUBSETS
from affectnet.tables.inventory import DHASH_BYTES, INVENTORY, VERIFY_AGAIN, ChangedFileError, checked_against_inventory
from affectnet.tables.source_pointer import Pointer

ROUNDING = 1e-6
"""Soft labels are stored as float32."""


class CleanParams(Section):
    """Section `clean`."""

    expressions: list[str] | None = Field(min_length=2)
    null_box: Literal["reject", "whole"]
    box_outside: Literal["reject", "whole"]
    landmarks: Literal["reject", "drop"]
    valence_arousal: Literal["reject", "drop"]
    emonet_rules: bool
    exact_duplicates: Literal["keep", "first", "agreeing"]
    copies_of_test: Literal["reject", "keep"]
    subsets: list[Literal["easy", "challenging", "difficult"]] = Field(min_length=1)
    least_agreement: float = Field(ge=0, le=1)
    label_issues: Literal["keep", "reject", "relabel"]
    label_confidence: float = Field(ge=0, le=1)
    near_duplicate_bits: int = Field(ge=0, le=15)
    validation_share: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)

    @field_validator("expressions")
    @classmethod
    def _each_once(cls, expressions: list[str] | None) -> list[str] | None:
        """Errors: ValueError when one is there more than once."""
        if repeated := sorted({name for name in expressions or [] if (expressions or []).count(name) > 1}):
            raise PydanticCustomError("repeated", "names {names} more than once", {"names": ", ".join(repeated)})
        return expressions


def run(
    params: CleanParams, raw: Path, label_issues: Path, inventory: Path, audit: Path, *, annotations: Path, rejected: Path, metrics: Path
) -> str:
    """Writes the annotations, the rejected rows and the counts; returns the summary line."""
    with suppress(NotImplementedError):  # jemalloc returns most memory to the system: a peak of 770 MB, not 910
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    pointer = Pointer.read(raw)
    source = open_source(pointer)
    files = INVENTORY.read(inventory, ["path", "status", "sha256", "width", "height", "dhash"])
    with checked_against_inventory():
        _check_annotation_files(source, files)
    rows = Rows(pa.Table.from_batches(list(progress(source.rows(), "clean", unit="batch")), ROWS), files, pointer.labels)
    _reject_unusable(rows, params)
    suspicion = _reject_contradictions(rows, params)
    _reject_disagreement(rows, params)
    groups = _groups(rows, files, params.near_duplicate_bits)
    _reject_duplicates(rows, groups, params)
    emptied = _cut_splits(rows, groups, params, pointer.test_share)
    rows.reject(~np.isin(rows.expression, kept_codes(params.expressions, rows.labels)), "expression_left_out")
    if params.label_issues != "keep":
        rows.audited = _use_audit(rows, params, label_issues, audit)
    warning = suspicion or _permuted(rows)
    write_rows(rows, groups, annotations, rejected)
    counts = _counts(rows, warning)
    write_json(metrics, counts)
    absent = (
        f"no row has {', '.join(names)}, which layout {pointer.packed_layout or pointer.layout} has"
        if (names := source.absent(rows.table))
        else None
    )
    warnings = filter(None, [warning, emptied, absent, missing_expressions(counts["by_split"])])
    splits = ", ".join(f"{split} {sum(by.values()):,}" for split, by in counts["by_split"].items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts["rejected_by"].items())
    return (
        f"clean: {counts['read']:,} rows read, {counts['kept']:,} kept ({splits}), {counts['rejected']:,} rejected"
        + (f" ({reasons})" if reasons else "")
        + (f"; test is cut off by {pointer.params}.test_share {pointer.test_share:g}" if pointer.test_share is not None else "")
        + "".join(f"; WARNING: {text}" for text in warnings)
    )


def _check_annotation_files(source: Source, files: pa.Table) -> None:
    """Errors: ChangedFileError when an annotation file is not the one that verify hashed."""
    paths = source.annotation_files()
    positions = pc.index_in(pa.array(map(readable, paths), pa.string()), files["path"]).to_pylist()
    known = [None if at is None else files["sha256"][at].as_py() for at in positions]
    changed = [path for path, digest in zip(paths, known, strict=True) if digest != sha256_or_none(source.root / path)]
    if changed:
        raise ChangedFileError(f"{source.root}: annotation files have changed since verify read them, {first_few(changed)}; {VERIFY_AGAIN}")


def _reject_unusable(rows: Rows, params: CleanParams) -> None:
    """Rejects unreadable cells, labels other than an expression, files that do not decode, and boxes without a face."""
    fault = np.asarray(pc.fill_null(rows.table["fault"], "").to_numpy(zero_copy_only=False))
    rows.reject(fault == "left_out", "left_out")
    rows.reject(fault == "malformed", "malformed")
    rows.judge(fault == "null_box", "null_box", params.null_box)
    for name, where in rows_with(rows.table["unread"]).items():
        rows.judge(where, f"{name}_malformed", params.landmarks if name == "landmarks" else "drop")
    rows.reject(fault == "expression_no_face", "expression_no_face")
    for code, name in NOT_AN_EXPRESSION.items() if tuple(rows.labels) == EXPRESSIONS else ():
        rows.reject(rows.expression == code, f"expression_{name.lower().replace('-', '_')}")
    rows.reject((rows.expression < 0) | (rows.expression >= len(rows.labels)), "expression_unknown")
    status = np.where(rows.in_inventory, rows.file["status"].to_numpy(zero_copy_only=False), "missing")
    for name in np.unique(status[status != "ok"]):
        rows.reject(status == name, str(name))
    _judge_boxes(rows, params, null_box=fault == "null_box")


def kept_codes(expressions: Sequence[str] | None, labels: Sequence[str]) -> list[int]:
    """The codes of the expressions that are kept; all for None. Errors: UserError for a name that is no label."""
    unknown = [name for name in expressions or [] if name not in labels]
    if unknown:
        raise UserError(
            f"params.yaml: clean.expressions: {', '.join(unknown)}: not among the labels; choose from {', '.join(labels)}, or null"
        )
    return [code for code, label in enumerate(labels) if expressions is None or label in expressions]


def _judge_boxes(rows: Rows, params: CleanParams, null_box: Mask) -> None:
    """A box must have an extent and overlap its photograph; otherwise the row is rejected, or gets the whole photograph."""
    rows.box[null_box] = np.nan
    left, top, right, bottom = rows.box.T
    width, height = filled(rows.file["width"], 0), filled(rows.file["height"], 0)
    boxed = np.isfinite(rows.box).all(axis=1)
    empty = boxed & ((right - left < 1) | (bottom - top < 1))
    beyond = boxed & ~empty & ((right <= 0) | (bottom <= 0) | (left >= width) | (top >= height))
    rows.judge(empty, "box_empty", params.box_outside)
    rows.judge(beyond, "box_beyond", params.box_outside)
    rows.box[(empty | beyond) & rows.kept] = np.nan


def _permuted(rows: Rows) -> str | None:
    """A warning where valence and arousal of the kept rows fit another order of the labels."""
    return permuted(rows.expression[rows.kept], rows.valence[rows.kept], rows.arousal[rows.kept], rows.labels)


def _reject_contradictions(rows: Rows, params: CleanParams) -> str | None:
    """Removes valence and arousal of −2 (absent) and outside −1…1, and applies EmoNet's rules where they are selected.

    Returns the warning of `_permuted` before these rules, which would reject the faces that betray another order.
    """
    absent = (rows.valence == -2) | (rows.arousal == -2)
    outside = ~absent & ((np.abs(rows.valence) > 1) | (np.abs(rows.arousal) > 1))
    rows.judge(outside, "valence_arousal_outside", params.valence_arousal)
    for values in (rows.valence, rows.arousal):
        values[absent | outside] = np.nan
    if not params.emonet_rules:
        return None
    warning = _permuted(rows)
    rows.reject(contradicts(rows.expression, rows.valence, rows.arousal, rows.labels), "emonet_rules")
    return warning


def _reject_disagreement(rows: Rows, params: CleanParams) -> None:
    """Rejects training rows of other subsets, and those whose soft label gives their expression too small a share. Test stays complete.

    Errors: UserError when a rule is selected and no row has what it asks for.
    """
    training = rows.split != TEST
    if set(params.subsets) != set(SUBSETS):
        _require(rows, "subset", f"subsets: {', '.join(params.subsets)}")
        subset = np.asarray(pc.fill_null(rows.table["subset"], "").to_numpy(zero_copy_only=False))
        rows.reject(training & (subset == ""), "subset_unknown")
        rows.reject(training & ~np.isin(subset, params.subsets), "subset_left_out")
    if params.least_agreement > 0:
        _require(rows, "soft_label", f"least_agreement: {params.least_agreement:g}")
        agreement = agreements(rows.table["soft_label"], rows.expression)
        rows.reject(training & np.isnan(agreement), "agreement_unknown")
        rows.reject(training & (agreement < params.least_agreement - ROUNDING), "agreement_too_low")


def _require(rows: Rows, column: str, rule: str) -> None:
    if rows.table[column].null_count == len(rows.table):
        raise UserError(f"clean.{rule}: no row of the data set has a {column.replace('_', ' ')}; set it to what params.yaml ships")


def _groups(rows: Rows, files: pa.Table, bits: int) -> NDArray[np.int32]:
    """(n,) near-duplicate group of each row's photograph; −1 for a rejected row."""
    kept = np.flatnonzero(rows.kept)
    photographs, inverse = np.unique(rows.file_row[kept], return_inverse=True)
    hashes = files["dhash"].combine_chunks().take(pa.array(photographs))
    groups = np.full(len(rows.file_row), -1, np.int32)
    groups[kept] = near_duplicate_groups(np.frombuffer(hashes.buffers()[1], np.uint8).reshape(-1, DHASH_BYTES)[: len(hashes)], bits)[
        inverse
    ]
    return groups


def _reject_duplicates(rows: Rows, groups: NDArray[np.int32], params: CleanParams) -> None:
    """Rejects training rows that are in test or the source's validation split, which stay complete; then exact duplicates in training.

    A row that people have not labelled is always rejected where one that they have labelled has the photograph, whether or not that one
    is kept: what people say of a photograph counts.
    """
    content = value_codes(rows.file["sha256"])
    test = rows.kept & (rows.split == TEST)
    may_be_rejected = (rows.split != TEST) if params.copies_of_test == "reject" else rows.unlabelled
    for reason, key in (("listed_in_test", rows.file_row), ("copy_of_test", content), ("near_duplicate_of_test", groups)):
        rows.reject(may_be_rejected & np.isin(key, key[test]), reason)
    validation = rows.kept & (rows.split == VALIDATION)
    rows.reject((rows.split == TRAIN) & np.isin(groups, groups[validation]), "near_duplicate_of_validation")
    labelled = rows.in_inventory & ~rows.unlabelled
    rows.reject(rows.unlabelled & np.isin(content, content[labelled]), "exact_duplicate")
    if params.exact_duplicates != "keep":
        positions = np.arange(len(rows.file_row))
        kept = positions[rows.kept & ~np.isin(rows.split, [TEST, VALIDATION])]
        repeated, contradictory = repeated_faces(content[kept], rows.box[kept], rows.expression[kept])
        if params.exact_duplicates == "agreeing":
            rows.reject(np.isin(positions, kept[contradictory]), "contradictory_duplicate")
        rows.reject(np.isin(positions, kept[repeated]), "exact_duplicate")


def _cut_splits(rows: Rows, groups: NDArray[np.int32], params: CleanParams, test_share: float | None) -> str | None:
    """Moves a share of the training faces to test where the source has no test split, then to validation where it has none.

    A row that people have not labelled is never moved, and rejected where validation has a near duplicate of it. Expressions that are
    left out are still there, so that the cut of the others does not depend on them. Test is cut by content: a model that was trained
    earlier has not learned it when photographs are added. Returns a warning where the source's own validation split has no face left.
    """
    listed = int((rows.split == VALIDATION).sum())
    has_validation = bool((rows.kept & (rows.split == VALIDATION)).any())
    for split, share in ((TEST, test_share), (VALIDATION, None if has_validation else params.validation_share)):
        if share is not None:
            train = np.flatnonzero(rows.kept & (rows.split == TRAIN))
            digests = rows.file["sha256"].take(pa.array(train)).to_pylist() if split == TEST else None
            content = None if digests is None else np.frombuffer(b"".join(digests), np.uint64)[::4]
            chosen = stratified_cut(rows.expression[train], groups[train], share, params.seed, content)
            rows.split[train[chosen]] = split
    validation = rows.kept & (rows.split == VALIDATION)
    rows.reject(rows.unlabelled & np.isin(groups, groups[validation]), "near_duplicate_of_validation")
    rows.split[rows.unlabelled] = TRAIN
    if listed and not has_validation:
        return f"no face is left of the download's own validation split, {listed:,} rejected, so validation is cut from its training split"
    return None


def _use_audit(rows: Rows, params: CleanParams, label_issues: Path, audit: Path) -> dict[str, int]:
    """Rejects or relabels the training faces whose labels an audit doubts; returns the counts for metrics/clean.json.

    After the cut, so that our validation split is the same as without it, and keeps its labels, as test does.
    """
    issues = read_label_issues(label_issues, audit, rows.table, rows.expression, rows.labels, params.label_confidence)
    train = rows.kept & (rows.split == TRAIN)
    used = issues.doubtful & train[issues.at]
    at, suggested = issues.at[used], issues.suggested[used]
    counts = {
        "doubtful": int(issues.doubtful.sum()),
        "not_in_train": int(issues.doubtful.sum() - used.sum()),
        "not_audited": int(train.sum() - train[issues.at].sum()),
    }
    known = np.isin(suggested, kept_codes(params.expressions, rows.labels))
    if params.label_issues == "reject":
        rows.reject(_mask(at, len(train)), "label_issue")
        return {**counts, "rejected": len(at)}
    rows.expression[at[known]] = suggested[known]
    rows.clear("soft_label", _mask(at[known], len(train)))  # of the label that was replaced
    rows.reject(_mask(at[~known], len(train)), "expression_left_out")
    if params.emonet_rules:
        relabelled = _mask(at[known], len(train))
        rows.reject(relabelled & contradicts(rows.expression, rows.valence, rows.arousal, rows.labels), "emonet_rules")
    kept = int(rows.kept[at].sum())
    return {**counts, "relabelled": kept, "rejected": len(at) - kept}


def _mask(at: NDArray[np.int64], count: int) -> Mask:
    """(count,) true at these positions."""
    mask = np.zeros(count, np.bool_)
    mask[at] = True
    return mask


def _counts(rows: Rows, warning: str | None) -> dict[str, Any]:
    """metrics/clean.json; read = kept + rejected by construction, and asserted."""
    reasons, counts = np.unique(rows.reason[~rows.kept].astype(str), return_counts=True)
    by_split = {split: _by_expression(rows.expression[rows.kept & (rows.split == code)], rows.labels) for code, split in enumerate(SPLITS)}
    read, kept = len(rows.table), int(rows.kept.sum())
    assert read == kept + int(counts.sum()) and kept == sum(sum(by.values()) for by in by_split.values())
    boxed = np.isfinite(rows.box[rows.kept]).all(axis=1)
    return {
        "read": read,
        "kept": kept,
        "rejected": int(counts.sum()),
        "rejected_by": dict(zip(reasons.tolist(), counts.tolist(), strict=True)),
        "kept_without": {fault: count for fault, where in rows.dropped.items() if (count := int((where & rows.kept).sum()))},
        "by_split": by_split,
        "without_box": int((~boxed).sum()),
        "without_landmarks": int((~rows.landmarks[rows.kept]).sum()),
        "without_valence_arousal": int((~np.isfinite(rows.valence[rows.kept])).sum()),
        "without_soft_label": rows.table["soft_label"].filter(pa.array(rows.kept)).null_count,
        "without_human_label": int((rows.unlabelled & rows.kept).sum()),
        "label_order_warnings": int(warning is not None),
        **({"label_issues": rows.audited} if rows.audited else {}),
    }


def _by_expression(codes: NDArray[np.int16], labels: Sequence[str]) -> dict[str, int]:
    return dict(zip(labels, np.bincount(codes, minlength=len(labels)).tolist(), strict=True))


if __name__ == "__main__":
    launch(run)
