"""Records what the user's copy and the start weights are now, so that `dvc repro` sees when either changes.

Runs each time, since DVC cannot know: about a stat a file of the copy, and SHA-256 of a local weights file.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from affectnet.files.file_walk import files_below
from affectnet.files.sha256 import file_sha256
from affectnet.params import Section
from affectnet.running.provenance import UserCopy, Weights, named_weights, read_records, write_records
from affectnet.running.run_stage import launch


class DatasetParams(Section):
    """Where the selected data set lies; the rest of its entry is read by `acquire`. The demo has neither."""

    model_config = ConfigDict(extra="ignore")

    root: str | None = None
    checksums: str | None = None


class WeightsParams(Section):
    """What the selected model starts from; the rest of its entry is read by `train`."""

    model_config = ConfigDict(extra="ignore")

    architecture: str
    weights: str = "none"


class FingerprintParams(Section):
    """Section `fingerprint`, and the selected data set and model."""

    walk: bool
    dataset: DatasetParams
    model: WeightsParams


def run(params: FingerprintParams, *, download: Path, weights: Path) -> str:
    """Writes both records, each only when it differs; returns the summary line.

    What is not there keeps its record, so that crops and model of a copy that is not mounted here stay valid; what misses it says so.
    """
    copies, starts = read_records(download, UserCopy), read_records(weights, Weights)
    copy, of_copy = recorded_copy(params, copies.get("copy"))
    start, of_start = recorded_weights(named_weights(params.model.architecture, params.model.weights), starts.get("start"))
    write_records(download, {"copy": copy}, copies)
    write_records(weights, {"start": start}, starts)
    return f"fingerprint: {of_copy}; {of_start}"


def recorded_copy(params: FingerprintParams, before: UserCopy | None) -> tuple[UserCopy, str]:
    """The record of the user's copy, and what the summary line says of it."""
    root = params.dataset.root
    if root is None:
        return UserCopy(), "no copy of yours"
    known = before if before is not None and before.root == root else UserCopy(root)
    if not params.walk:
        return known, f"{root} not looked at (fingerprint.walk), its record kept"
    if Path(root).is_dir() and (seen := look_at_copy(Path(root), params.dataset.checksums)).files:
        return seen, f"{seen.files:,} files in {root}, {_changed(before, seen)}"
    return known, f"{root} not there or empty, {'its record kept' if known.sha256 else 'no record of it'}"


def look_at_copy(root: Path, checksums: str | None) -> UserCopy:
    """The user's copy as it lies there, for one stat a file. Errors: UserError when a folder cannot be read."""
    files, length = list[str](), 0
    for path, _, size, mtime_ns in files_below(root, follow=True):
        files.append(f"{path}\0{size}\0{mtime_ns}")
        length += size
    digest = hashlib.sha256("\n".join(sorted(files)).encode())
    if checksums is not None and Path(checksums).is_file():
        status = Path(checksums).stat()
        digest.update(f"\n\n{checksums}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return UserCopy(str(root), len(files), length, digest.hexdigest())


def recorded_weights(named: Weights, before: Weights | None) -> tuple[Weights, str]:
    """The record of the start weights, and what the summary line says of them."""
    if named.source != "file":
        return named, f"start weights {named.name}"
    try:
        seen = replace(named, sha256=file_sha256(Path(named.name)).hex())
    except (OSError, ValueError):
        known = before if before is not None and before.name == named.name else named
        return known, f"start weights {named.name} not there, {'their record kept' if known.sha256 else 'no record of them'}"
    return seen, f"start weights {named.name}, {_changed(before, seen)}"


def _changed(before: Any, seen: Any) -> str:
    return "as before" if before == seen else "changed" if before is not None and before.sha256 else "new"


if __name__ == "__main__":
    launch(run)
