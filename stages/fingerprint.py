"""Records the state of the user's copy, of an audit's labels and of the start weights, so that `dvc repro` notices a change.

Runs each time, since DVC does not track them: one stat per file of the copy, and the SHA-256 of the other files that are used.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from affectnet.files.file_walk import files_below
from affectnet.files.sha256 import file_sha256
from affectnet.params import Section, read_document
from affectnet.running.provenance import AuditedLabels, UserCopy, Weights, named_weights, read_records, write_records
from affectnet.running.run_stage import launch


class DatasetParams(Section):
    """The location of the selected data set; `acquire` reads the rest of its entry. The demo has neither field."""

    model_config = ConfigDict(extra="ignore")

    root: str | None = None
    checksums: str | None = None


class WeightsParams(Section):
    """The start weights of the selected model; `train` reads the rest of its entry."""

    model_config = ConfigDict(extra="ignore")

    architecture: str
    weights: str = "none"


class FingerprintParams(Section):
    """Section `fingerprint`, and the selected data set and model."""

    walk: bool
    dataset: DatasetParams
    model: WeightsParams


def run(params: FingerprintParams, label_issues: Path, *, download: Path, audit: Path, weights: Path) -> str:
    """Writes the records, each only when it differs; returns the summary line.

    A copy or file that is not there keeps its record, so that crops and model stay valid where the copy is not mounted; a stage that
    needs the copy then says that it is missing.
    """
    copies, starts = read_records(download, UserCopy), read_records(weights, Weights)
    copy, copy_summary = recorded_copy(params, copies.get("copy"))
    start, start_summary = recorded_weights(named_weights(params.model.architecture, params.model.weights), starts.get("start"))
    write_records(download, {"copy": copy}, copies)
    audits = read_records(audit, AuditedLabels)
    audited, audit_summary = recorded_audit(uses_audit(read_document()), label_issues, audits.get("audit"))
    write_records(audit, {"audit": audited}, audits)
    write_records(weights, {"start": start}, starts)
    return f"fingerprint: {copy_summary}{audit_summary}; {start_summary}"


def recorded_copy(params: FingerprintParams, before: UserCopy | None) -> tuple[UserCopy, str]:
    """The record of the user's copy, and its part of the summary line."""
    root = params.dataset.root
    if root is None:
        return UserCopy(), "no copy of yours"
    recorded = before if before is not None and before.root == root else UserCopy(root)
    if not params.walk:
        return recorded, f"{root} not looked at (fingerprint.walk), its record kept"
    if Path(root).is_dir() and (current := look_at_copy(Path(root), params.dataset.checksums)).files:
        return current, f"{current.files:,} files in {root}, {_changed(before, current)}"
    return recorded, f"{root} not there or empty, {'its record kept' if recorded.sha256 else 'no record of it'}"


def look_at_copy(root: Path, checksums: str | None) -> UserCopy:
    """The current record of the user's copy, for one stat per file. Errors: UserError when a folder cannot be read."""
    files: list[str] = []
    length = 0
    for path, _, size, mtime_ns in files_below(root, follow=True):
        files.append(f"{path}\0{size}\0{mtime_ns}")
        length += size
    digest = hashlib.sha256("\n".join(sorted(files)).encode())
    if checksums is not None and Path(checksums).is_file():
        status = Path(checksums).stat()
        digest.update(f"\n\n{checksums}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return UserCopy(str(root), len(files), length, digest.hexdigest())


def uses_audit(document: Mapping[str, Any]) -> bool:
    """Whether `clean` reads the doubtful labels of an audit; an invalid section has its error there."""
    section = document.get("clean")
    return isinstance(section, dict) and section.get("label_issues") in {"reject", "relabel"}


def recorded_audit(used: bool, label_issues: Path, before: AuditedLabels | None) -> tuple[AuditedLabels, str]:
    """The record of the audited labels, and its part of the summary line, empty where they are not used."""
    if not used:
        return AuditedLabels(), ""
    if not label_issues.is_file():
        recorded = before if before is not None and before.used else AuditedLabels(used=True)
        return recorded, f"; {label_issues} not there, {'its record kept' if recorded.sha256 else 'no record of it'}"
    current = AuditedLabels(used=True, sha256=file_sha256(label_issues).hex())
    return current, f"; {label_issues}, {_changed(before, current)}"


def recorded_weights(named: Weights, before: Weights | None) -> tuple[Weights, str]:
    """The record of the start weights, and their part of the summary line."""
    if named.source != "file":
        return named, f"start weights {named.name}"
    try:
        current = replace(named, sha256=file_sha256(Path(named.name)).hex())
    except (OSError, ValueError):
        recorded = before if before is not None and before.name == named.name else named
        return recorded, f"start weights {named.name} not there, {'their record kept' if recorded.sha256 else 'no record of them'}"
    return current, f"start weights {named.name}, {_changed(before, current)}"


def _changed(before: Any, current: Any) -> str:
    return "as before" if before == current else "changed" if before is not None and before.sha256 else "new"


if __name__ == "__main__":
    launch(run)
