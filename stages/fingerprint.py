"""Records the state of the user's copy, of an audit's labels, of start weights, teachers and groups, so that `dvc repro` notices a change.

Runs each time, since DVC does not track them: one stat per file of the copy, and the SHA-256 of the other files that are used.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from affectnet.files.file_walk import files_below
from affectnet.files.sha256 import file_sha256
from affectnet.params import Section
from affectnet.running.provenance import (
    AuditedLabels,
    Files,
    GroupFile,
    UserCopy,
    Weights,
    named_teachers,
    named_weights,
    paths_of_groups,
    read_records,
    write_records,
)
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


class TeacherParams(Section):
    """The teachers of section `train`; `train` reads the rest of it."""

    model_config = ConfigDict(extra="ignore")

    teacher: Files


class AuditParams(Section):
    """What section `clean` does with the labels of an audit; `clean` reads the rest of it."""

    model_config = ConfigDict(extra="ignore")

    label_issues: str

    @property
    def uses_audit(self) -> bool:
        return self.label_issues != "keep"


class GroupParams(Section):
    """The groups of section `evaluate`; `evaluate` reads the rest of it."""

    model_config = ConfigDict(extra="ignore")

    groups: list[str]


class FingerprintParams(Section):
    """Section `fingerprint`, the selected data set and model, and what `clean`, `train` and `evaluate` name outside the pipeline."""

    walk: bool
    dataset: DatasetParams
    model: WeightsParams
    clean: AuditParams
    train: TeacherParams
    evaluate: GroupParams


def run(params: FingerprintParams, label_issues: Path, *, download: Path, audit: Path, weights: Path, group_files: Path) -> str:
    """Writes the records, each only when it differs; returns the summary line.

    A copy or file that is not there keeps its record, so that crops and model stay valid where the copy is not mounted; a stage that
    needs the copy then says that it is missing.
    """
    copies, before = read_records(download, UserCopy), read_records(weights, Weights)
    copy, summary = recorded_copy(params, copies.get("copy"))
    named = {"start": named_weights(params.model.architecture, params.model.weights), **named_teachers(params.train.teacher)}
    recorded = {name: recorded_weights(name, one, before.get(name)) for name, one in named.items()}
    write_records(download, {"copy": copy}, copies)
    audits = read_records(audit, AuditedLabels)
    audited, of_audit = recorded_audit(params.clean.uses_audit, label_issues, audits.get("audit"))
    write_records(audit, {"audit": audited}, audits)
    write_records(weights, {name: record for name, (record, _) in recorded.items()}, before)
    of_groups = record_groups(params.evaluate.groups, group_files)
    return "; ".join([f"fingerprint: {summary}{of_audit}", *(of_weights for _, of_weights in recorded.values()), *of_groups])


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


def recorded_audit(used: bool, label_issues: Path, before: AuditedLabels | None) -> tuple[AuditedLabels, str]:
    """The record of the audited labels, and its part of the summary line, empty where they are not used."""
    if not used:
        return AuditedLabels(), ""
    if not label_issues.is_file():
        recorded = before if before is not None and before.used else AuditedLabels(used=True)
        return recorded, f"; {label_issues} not there, {'its record kept' if recorded.sha256 else 'no record of it'}"
    current = AuditedLabels(used=True, sha256=file_sha256(label_issues).hex())
    return current, f"; {label_issues}, {_changed(before, current)}"


def record_groups(names: Sequence[str], records: Path) -> list[str]:
    """Writes the record of each CSV file of groups; returns their parts of the summary line."""
    before = read_records(records, GroupFile)
    recorded, lines = dict[str, GroupFile](), list[str]()
    for name in paths_of_groups(names):
        try:
            recorded[name] = GroupFile(file_sha256(Path(name)).hex())
            lines.append(f"groups {name}, {_changed(before.get(name), recorded[name])}")
        except (OSError, ValueError):
            recorded[name] = before.get(name, GroupFile())
            lines.append(f"groups {name} not there, {'the last record kept' if recorded[name].sha256 else 'and no record'}")
    write_records(records, recorded, before)
    return lines


def recorded_weights(name: str, named: Weights, before: Weights | None) -> tuple[Weights, str]:
    """The record of this name, and its part of the summary line."""
    title = f"{'start weights' if name == 'start' else name} {named.name}"
    if named.source != "file":
        return named, title
    try:
        current = replace(named, sha256=file_sha256(Path(named.name)).hex())
    except (OSError, ValueError):
        recorded = before if before is not None and before.name == named.name else named
        return recorded, f"{title} not there, {'the last record kept' if recorded.sha256 else 'and no record'}"
    return current, f"{title}, {_changed(before, current)}"


def _changed(before: Any, current: Any) -> str:
    return "as before" if before == current else "changed" if before is not None and before.sha256 else "new"


if __name__ == "__main__":
    launch(run)
