from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain import refused
from trees import FER_CLASSES, noise, tree_folder

from affectnet.errors import UserError
from affectnet.expressions import CODES
from affectnet.sources.registry import open_source
from affectnet.tables.source_pointer import Pointer


def rows(pointer: Pointer) -> list[dict[str, Any]]:
    return [entry for part in open_source(pointer).rows() for entry in part.to_pylist()]


def test_each_image_has_its_folders_expression_and_split(tmp_path: Path) -> None:
    table = rows(tree_folder(tmp_path))
    assert Counter(entry["split"] for entry in table) == {"train": 42, "test": 14}
    assert {entry["image"].split("/")[1]: entry["expression"] for entry in table}["angry"] == CODES["Anger"]
    assert CODES["Contempt"] not in {entry["expression"] for entry in table}


def test_numbered_folders_follow_the_users_map(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number in ("0", "1"):
            noise(tmp_path / split / number / "face.png", int(number) + (split == "test") * 7)
    splits = {"train": "train", "test": "test"}
    table = rows(Pointer("folder", str(tmp_path), classes={"0": "Anger", "1": "Contempt"}, splits=splits))
    assert [(entry["split"], entry["expression"]) for entry in table] == [("train", 6), ("train", 7), ("test", 6), ("test", 7)]
    with pytest.raises(UserError, match=r"datasets.folder.classes does not map, 2: 0, 1; add them"):
        open_source(Pointer("folder", str(tmp_path), classes={"happy": "Happy"}, splits=splits))


def test_case_and_other_files_do_not_matter(tmp_path: Path) -> None:
    pointer = tree_folder(tmp_path)
    (tmp_path / "train" / "happy").rename(tmp_path / "train" / "HAPPY")
    (tmp_path / "train" / "HAPPY" / "Thumbs.db").write_bytes(b"1")
    (tmp_path / "README.txt").write_text("about")
    assert len(rows(pointer)) == 56


def test_a_test_split_of_its_own_is_kept_apart_from_validation(tmp_path: Path) -> None:
    pointer = tree_folder(tmp_path)
    (tmp_path / "test" / "happy").mkdir(parents=True)
    noise(tmp_path / "test" / "happy" / "a.jpg", 9999)
    splits = {"train": "train", "validation": "validation", "test": "test"}
    assert Counter(entry["split"] for entry in rows(replace(pointer, splits=splits))) == {"train": 42, "validation": 14, "test": 1}


def test_a_class_folder_that_is_a_link_within_the_root_is_skipped_by_name(tmp_path: Path) -> None:
    pointer = replace(tree_folder(tmp_path), classes={**FER_CLASSES, "joy": "Happy"})
    before = rows(pointer)
    (tmp_path / "train" / "joy").symlink_to(tmp_path / "train" / "happy")
    assert rows(pointer) == before
    assert "; skipped, 1: train/joy (not entered)" in open_source(pointer).reading()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": {}}, "datasets.folder.classes does not map, 1: angry"),
        ({"classes": {"happy": "Joy"}}, "datasets.folder.classes: maps to unknown names, 1: happy: Joy"),
        ({"splits": {"train": "training"}}, "datasets.folder.splits: maps to unknown names, 1: train: training"),
        ({"splits": {"train": "train"}}, "datasets.folder.splits does not map, 1: validation"),
        (
            {"splits": {"train": "train", "validation": "train"}},
            "nothing for the split test, there are 2: train, validation; .* datasets.folder.test_share",
        ),
    ],
)
def test_a_map_that_does_not_fit_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with refused(message):
        open_source(replace(tree_folder(tmp_path), **change))
