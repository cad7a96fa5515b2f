from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chain import refused
from trees import noise, tree_raf

from affectnet.expressions import CODES
from affectnet.sources.registry import open_source
from affectnet.tables.source_pointer import Pointer

ORDER = ["Surprise", "Fear", "Disgust", "Happy", "Sad", "Anger", "Neutral"]
NAME = "train_00000.jpg"
LIST = "basic/EmoLabel/list_patition_label.txt"


def rows(pointer: Pointer) -> list[dict[str, Any]]:
    return [entry for part in open_source(pointer).rows() for entry in part.to_pylist()]


def originals(root: Path) -> Pointer:
    return replace(tree_raf(root), options={"images": "original"})


def test_codes_splits_and_aligned_images_are_the_lists(tmp_path: Path) -> None:
    read = rows(tree_raf(tmp_path))
    assert [row["expression"] for row in read[:7]] == [CODES[name] for name in ORDER]
    assert Counter(row["split"] for row in read) == {"train": 42, "test": 14} and {row["list"] for row in read} == {LIST}
    assert all((tmp_path / row["image"]).is_file() and row["image"].endswith("_aligned.jpg") and row["left"] is None for row in read)


def test_original_images_have_the_boxes_that_are_there(tmp_path: Path) -> None:
    pointer = originals(tmp_path)
    (tmp_path / "basic" / "Annotation" / "boundingbox" / "train_00001_boundingbox.txt").unlink()
    first, second, *_ = rows(pointer)
    assert [first[edge] for edge in ("left", "top", "right", "bottom")] == [8.5, 10, 80.5, 84]
    assert second["left"] is None and second["fault"] is None and (tmp_path / second["image"]).is_file()
    assert len(open_source(pointer).annotation_files()) == 56
    for path in (tmp_path / "basic" / "Annotation" / "boundingbox").iterdir():
        path.unlink()
    assert {row["left"] for row in rows(pointer)} == {None}
    assert open_source(pointer).absent(pa.Table.from_batches(open_source(pointer).rows())) == ["box"]


def test_aligned_images_lack_no_box(tmp_path: Path) -> None:
    source = open_source(tree_raf(tmp_path))
    assert source.absent(pa.Table.from_batches(source.rows())) == []


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 4 5", "1 2 3 x", "1 2 3 1e999", "nan nan nan nan", "1" * 2000])
def test_a_box_that_is_none_is_malformed(tmp_path: Path, text: str) -> None:
    pointer = originals(tmp_path)
    (tmp_path / "basic" / "Annotation" / "boundingbox" / "train_00000_boundingbox.txt").write_text(text)
    assert [row["fault"] for row in rows(pointer)[:2]] == ["malformed", None]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (f"{NAME} 8", None),
        (f"{NAME} 0", None),
        (NAME, "malformed"),
        (f"{NAME} happy", "malformed"),
        (f"{NAME} 1 2", "malformed"),
        ("face.jpg 1", "malformed"),
        ("\0 1", "malformed"),
    ],
)
def test_an_odd_line_keeps_its_place_and_says_why(tmp_path: Path, line: str, fault: str | None) -> None:
    pointer = tree_raf(tmp_path)
    lines = (tmp_path / LIST).read_text().splitlines()
    (tmp_path / LIST).write_text("\n".join([lines[0], "", line, *lines[2:]]))
    read = rows(pointer)
    assert [row["row"] for row in read[:3]] == [1, 3, 4] and len(read) == 56
    assert (read[1]["fault"], read[1]["expression"]) == (fault, None) and read[1]["detail"]


def test_the_readmes_spelling_of_the_list_and_a_root_of_its_own_are_read(tmp_path: Path) -> None:
    pointer = tree_raf(tmp_path)
    (tmp_path / LIST).rename((tmp_path / LIST).with_name("list_partition_label.txt"))
    assert len(rows(replace(pointer, root=str(tmp_path / "basic")))) == 56


def _no_list(root: Path) -> None:
    (root / LIST).unlink()


def _no_images(root: Path) -> None:
    (root / "basic" / "Image" / "aligned").rename(root / "basic" / "Image" / "other")


def _twice(root: Path) -> None:
    noise(root / "copy" / "aligned" / "train_00000_aligned.jpg", 1)


def _no_text(root: Path) -> None:
    (root / LIST).write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_no_list, "expected one list_partition_label.txt or list_patition_label.txt"),
        (_no_images, "expected one folder aligned with images below it, there is none; unpack aligned.zip"),
        (_twice, r"more than one, 2: basic/Image/aligned, copy/aligned"),
        (_no_text, "unreadable list"),
    ],
)
def test_a_download_that_does_not_fit_is_one_line(tmp_path: Path, change: Any, message: str) -> None:
    pointer = tree_raf(tmp_path)
    change(tmp_path)
    with refused(message):
        open_source(pointer)
