"""The doubtful labels of an audit, matched with the rows of the download."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affectnet.errors import UserError, first_few
from affectnet.files.sha256 import file_sha256
from affectnet.running.provenance import AuditedLabels, read_records
from affectnet.tables.label_issues import AUDIT_AGAIN, LABEL_ISSUES
from affectnet.tables.labels import read_labels

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class DoubtfulLabels:
    """The m rows of an audit: their positions among the rows of the download, the suggested codes, and which labels are doubtful."""

    at: NDArray[np.int64]
    suggested: NDArray[np.int64]
    doubtful: NDArray[np.bool_]


def read_label_issues(
    path: Path, record: Path, rows: pa.Table, expression: NDArray[np.integer], labels: Sequence[str], threshold: float
) -> DoubtfulLabels:
    """The audit of these rows; a label is doubtful when it is an issue whose probability is at most the threshold.

    path: data/label_issues.parquet; record: `fingerprint`'s, with its SHA-256; rows: image, list and row number of the n rows of the
    download; expression: (n,) their codes in the lists; labels: the names of the codes.

    Errors: UserError when the file is missing, is not the recorded one or not an audit, or is one of other rows or labels.
    """
    issues = LABEL_ISSUES.read(path)
    if file_sha256(path).hex() != read_records(record, AuditedLabels).get("audit", AuditedLabels()).sha256:
        raise UserError(f"{path}: not the file that fingerprint recorded; run `dvc repro`, which records it first")
    if (audited := read_labels(path)) != tuple(labels):
        raise UserError(f"{path}: an audit of the labels {', '.join(audited)}, the data have {', '.join(labels)}; {AUDIT_AGAIN}")
    confidence = issues["confidence"].to_numpy()
    if not np.isfinite(confidence).all():
        raise UserError(f"{path}: confidence: NaN in {int((~np.isfinite(confidence)).sum()):,} rows; {AUDIT_AGAIN}")
    at = _positions(issues, rows)
    _refuse_other_data(path, issues, rows, expression, at)
    doubtful = issues["is_issue"].to_numpy() & (confidence <= threshold)
    return DoubtfulLabels(at, issues["suggested"].to_numpy().astype(np.int64), doubtful)


def _positions(issues: pa.Table, rows: pa.Table) -> NDArray[np.int64]:
    """(m,) the position of each issue's list and row number among the rows of the download, −1 where there is none."""
    numbered = pa.table({"list": rows["list"], "row": rows["row"], "at": np.arange(len(rows))})
    asked = pa.table({"list": issues["list"], "row": issues["row"], "issue": np.arange(len(issues))})
    matched = asked.join(numbered, ["list", "row"], join_type="left outer").sort_by("issue")
    return np.asarray(pc.fill_null(matched["at"], -1).to_numpy(), np.int64)


def _refuse_other_data(path: Path, issues: pa.Table, rows: pa.Table, expression: NDArray[np.integer], at: NDArray[np.int64]) -> None:
    """Errors: UserError unless each issue is one row of the download, with its image and label, and no row stands twice."""
    same = np.zeros(len(at), np.bool_)
    known = np.flatnonzero(at >= 0)
    images = rows["image"].combine_chunks().take(pa.array(at[known]))
    same_image = pc.fill_null(pc.equal(images, issues["image"].combine_chunks().take(pa.array(known))), False)
    same[known] = same_image.to_numpy(zero_copy_only=False) & (expression[at[known]] == issues["label"].to_numpy()[known])
    if not same.all():
        others = issues["image"].filter(pa.array(~same)).to_pylist()
        raise UserError(
            f"{path}: an audit of other data, {len(others):,} of its {len(issues):,} faces are not in the lists with this label, "
            f"{first_few(others)}; {AUDIT_AGAIN}"
        )
    if repeated := len(at) - len(np.unique(at)):
        raise UserError(f"{path}: {repeated:,} faces stand there twice; {AUDIT_AGAIN}")
