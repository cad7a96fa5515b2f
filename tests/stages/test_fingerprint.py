import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trees import tree_folder

from affectnet.params import parse, read_document
from stages.fingerprint import FingerprintParams, run

DOWNLOAD, AUDIT, WEIGHTS, GROUPS = (Path(f"{name}.json") for name in ("download", "audit", "weights", "group_files"))
ISSUES = Path("label_issues.parquet")


def fingerprint(root: Path | None = None, weights: str = "none", architecture: str = "resnet18", **changes: Any) -> str:
    """Runs the stage for a copy and for start weights; returns its summary line."""
    document = read_document()
    document["fingerprint"].update({name: value for name, value in changes.items() if name == "walk"})
    if root is not None:
        document["dataset"] = "folder"
        document["datasets"]["folder"].update(root=str(root), checksums=changes.get("checksums"))
    document["models"][document["model"]].update(weights=weights, architecture=architecture)
    document["train"]["teacher"] = changes.get("teacher")
    params = parse(document, "fingerprint", FingerprintParams)
    return run(params, ISSUES, download=DOWNLOAD, audit=AUDIT, weights=WEIGHTS, group_files=GROUPS)


def copy() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(DOWNLOAD.read_bytes())["copy"]
    return record


def start() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(WEIGHTS.read_bytes())["start"]
    return record


@pytest.fixture
def root(workspace: Path) -> Path:
    tree_folder(workspace / "own")
    (workspace / "own" / "names.csv").write_text("a,b\n")
    return workspace / "own"


def test_the_demo_has_no_copy_and_draws_its_weights(workspace: Path) -> None:
    assert fingerprint() == "fingerprint: no copy of yours; start weights none"
    assert copy() == dict.fromkeys(("root", "files", "bytes", "sha256"))
    assert start() == {"source": "none", "name": "none", "version": None, "sha256": None}


def test_a_copy_that_is_as_it_was_leaves_its_record_untouched(root: Path) -> None:
    files = [path for path in root.rglob("*") if path.is_file()]
    assert f"{len(files)} files in {root}, new" in fingerprint(root)
    assert (copy()["files"], copy()["bytes"]) == (len(files), sum(path.stat().st_size for path in files))
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in (DOWNLOAD, WEIGHTS)]
    assert f"{len(files)} files in {root}, as before" in fingerprint(root)
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in (DOWNLOAD, WEIGHTS)] == before


def images(root: Path) -> list[Path]:
    return sorted((root / "train").rglob("*.*"))


def edited(root: Path) -> None:
    path = root / "names.csv"
    times = path.stat().st_mtime_ns
    path.write_text("a,c\n")
    os.utime(path, ns=(times, times + 1000))


def swapped(root: Path) -> None:
    first, second = images(root)[:2]
    first.rename(root / "aside")
    second.rename(first)
    (root / "aside").rename(second)


def lengthened(root: Path) -> None:
    (root / "names.csv").write_text("a,b,c\n")
    os.utime(root / "names.csv", ns=(0, 0))


CHANGES: dict[str, Callable[[Path], object]] = {
    "an edited list": edited,
    "an added image": lambda root: (root / "train" / "happy" / "new.png").write_bytes(b"new"),
    "a removed image": lambda root: images(root)[0].unlink(),
    "a renamed image": lambda root: images(root)[0].rename(root / "train" / "renamed.png"),
    "two images exchanged": swapped,
    "an added folder": lambda root: tree_folder(root / "more"),
    "a longer file of the same time": lengthened,
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_changes_in_the_copy_changes_its_record(root: Path, name: str) -> None:
    os.utime(root / "names.csv", ns=(0, 0))
    fingerprint(root)
    before = copy()["sha256"]
    CHANGES[name](root)
    assert "changed; start" in fingerprint(root) and copy()["sha256"] != before


def test_an_edited_checksum_list_changes_the_record(root: Path, workspace: Path) -> None:
    checksums = workspace / "sha256.txt"
    checksums.write_text("1")
    fingerprint(root, checksums=str(checksums))
    before = copy()["sha256"]
    checksums.write_text("22")
    assert "changed; start" in fingerprint(root, checksums=str(checksums)) and copy()["sha256"] != before


@pytest.mark.parametrize("empty", [False, True])
def test_a_copy_that_is_not_mounted_keeps_its_record_and_another_root_has_none(root: Path, workspace: Path, empty: bool) -> None:
    fingerprint(root)
    before = DOWNLOAD.read_bytes()
    root.rename(workspace / "elsewhere")
    if empty:
        root.mkdir()
    assert f"{root} not there or empty, its record kept" in fingerprint(root)
    assert DOWNLOAD.read_bytes() == before
    assert "no record of it" in fingerprint(workspace / "nowhere") and copy()["sha256"] is None


def test_without_a_walk_the_record_stays_whatever_lies_there(root: Path) -> None:
    fingerprint(root)
    before = DOWNLOAD.read_bytes()
    edited(root)
    assert "not looked at (fingerprint.walk), its record kept" in fingerprint(root, walk=False)
    assert DOWNLOAD.read_bytes() == before


def test_a_local_file_is_known_by_its_bytes_and_kept_when_it_is_gone(workspace: Path) -> None:
    path = workspace / "start.pth"
    path.write_bytes(b"one")
    assert "start.pth, new" in fingerprint(weights=str(path))
    assert start() == {"source": "file", "name": str(path), "version": None, "sha256": hashlib.sha256(b"one").hexdigest()}
    path.write_bytes(b"two")
    assert "start.pth, changed" in fingerprint(weights=str(path))
    assert "start.pth, as before" in fingerprint(weights=str(path))
    path.unlink()
    assert "start.pth not there, the last record kept" in fingerprint(weights=str(path))
    assert start()["sha256"] == hashlib.sha256(b"two").hexdigest()
    assert "other.pth not there, and no record" in fingerprint(weights="other.pth") and start()["sha256"] is None


def test_each_teacher_is_known_by_its_bytes_in_a_record_of_its_own(workspace: Path) -> None:
    paths = [workspace / name for name in ("one.safetensors", "two.safetensors")]
    paths[0].write_bytes(b"one")
    line = fingerprint(teacher=[str(path) for path in paths])
    assert f"teacher 1 {paths[0]}, new" in line and f"teacher 2 {paths[1]} not there, and no record" in line
    records = json.loads(WEIGHTS.read_bytes())
    assert [records[name]["sha256"] for name in ("start", "teacher 1", "teacher 2")] == [None, hashlib.sha256(b"one").hexdigest(), None]
    paths[0].write_bytes(b"other")
    assert f"teacher 1 {paths[0]}, changed" in fingerprint(teacher=str(paths[0]))
    paths[0].unlink()
    assert "not there, the last record kept" in fingerprint(teacher=str(paths[0]))
    assert set(json.loads(WEIGHTS.read_bytes())) == {"start", "teacher 1"}
    fingerprint()
    assert set(json.loads(WEIGHTS.read_bytes())) == {"start"}


def use_audit(workspace: Path, choice: str) -> None:
    """Sets `clean.label_issues` in params.yaml."""
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(re.sub(r"(label_issues:) \w+", rf"\1 {choice}", text))


def test_an_audit_is_recorded_only_while_it_is_used_and_kept_when_it_is_gone(workspace: Path) -> None:
    ISSUES.write_bytes(b"one")
    assert "label_issues" not in fingerprint()
    unused = AUDIT.read_bytes()
    assert json.loads(unused) == {"audit": {"used": False, "sha256": None}}
    use_audit(workspace, "reject")
    assert "label_issues.parquet, new;" in fingerprint()
    recorded = json.loads(AUDIT.read_bytes())["audit"]
    assert recorded == {"used": True, "sha256": hashlib.sha256(b"one").hexdigest()}
    ISSUES.unlink()
    assert "not there, its record kept" in fingerprint() and json.loads(AUDIT.read_bytes())["audit"] == recorded
    ISSUES.write_bytes(b"two")
    assert "label_issues.parquet, changed;" in fingerprint()
    use_audit(workspace, "keep")
    fingerprint()
    assert AUDIT.read_bytes() == unused


@pytest.mark.parametrize(
    ("architecture", "weights", "source", "name", "versioned"),
    [
        ("vgg16", "IMAGENET1K_V1", "published", "vgg16 IMAGENET1K_V1", False),
        ("vgg16", "DEFAULT", "published", "vgg16 DEFAULT", True),
        ("timm/resnet18", "pretrained", "published", "timm/resnet18 pretrained", True),
        ("timm/resnet18.a1_in1k", "pretrained", "published", "timm/resnet18.a1_in1k pretrained", True),
        ("vgg16", "./pretrained", "file", "./pretrained", False),
    ],
)
def test_published_weights_are_known_by_name_and_by_version_where_the_name_says_too_little(
    workspace: Path, architecture: str, weights: str, source: str, name: str, versioned: bool
) -> None:
    fingerprint(weights=weights, architecture=architecture)
    assert (start()["source"], start()["name"], start()["version"] is not None) == (source, name, versioned)


def test_a_record_that_another_program_wrote_is_made_again(root: Path) -> None:
    fingerprint(root)
    before = DOWNLOAD.read_bytes()
    for content in ("", "{", "[]", '{"copy": 3}', '{"copy": {"depth": 3}}'):
        DOWNLOAD.write_text(content)
        fingerprint(root)
        assert DOWNLOAD.read_bytes() == before
