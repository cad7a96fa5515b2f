from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain import refused
from trees import noise, tree_yolo

from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.sources.registry import open_source
from affectnet.tables.source_pointer import Pointer

ALPHABETICAL = sorted(EXPRESSIONS)
EDGES = ("left", "top", "right", "bottom")


def rows(pointer: Pointer) -> list[dict[str, Any]]:
    return [entry for part in open_source(pointer).rows() for entry in part.to_pylist()]


def labelled(root: Path, text: str) -> list[dict[str, Any]]:
    """The rows of one image whose label file holds the text."""
    pointer = tree_yolo(root)
    (root / "train" / "labels" / "0003.txt").write_text(text)
    return [row for row in rows(pointer) if row["image"] == "train/images/0003.jpg"]


def test_classes_are_in_the_order_of_data_yaml_and_boxes_are_shares(tmp_path: Path) -> None:
    read = rows(tree_yolo(tmp_path))
    assert Counter(row["split"] for row in read) == {"train": 48, "test": 16}
    assert [row["expression"] for row in read[:8]] == [CODES[name] for name in ALPHABETICAL]
    assert [read[1][edge] for edge in EDGES] == pytest.approx([0.2, 0.1, 0.8, 0.9]) and read[1]["relative"]
    assert all((tmp_path / row["image"]).is_file() for row in read)


@pytest.mark.parametrize(
    "names",
    [
        "{0: Sad, 1: Happy}",
        "{1: Happy, 0: Sad}",
        "{'0': sad, '1': HAPPY}",
        "[sad, happy]",
        "\n- Sad\n- Happy",
    ],
)
def test_names_are_a_list_or_a_mapping_and_no_order_is_assumed(tmp_path: Path, names: str) -> None:
    pointer = tree_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    assert [row["expression"] for row in rows(pointer)[:3]] == [CODES["Sad"], CODES["Happy"], None]


def test_several_lines_are_several_faces_and_none_is_no_face(tmp_path: Path) -> None:
    faces = labelled(tmp_path / "several", "4 0.25 0.25 0.5 0.5\n\n6 0.75 0.75 0.5 0.5\n")
    assert [(row["row"], row["list"]) for row in faces] == [(1, "train/labels/0003.txt"), (3, "train/labels/0003.txt")]
    assert [row["expression"] for row in faces] == [CODES[ALPHABETICAL[4]], CODES[ALPHABETICAL[6]]]
    assert [faces[1][edge] for edge in EDGES] == [0.5, 0.5, 1, 1]
    (nothing,) = labelled(tmp_path / "none", "\n")
    assert (nothing["expression"], nothing["fault"], nothing["left"]) == (None, "expression_no_face", None)


def test_an_image_without_a_file_and_a_file_without_an_image_are_rows(tmp_path: Path) -> None:
    pointer = tree_yolo(tmp_path)
    (tmp_path / "train" / "labels" / "0000.txt").unlink()
    (tmp_path / "train" / "images" / "0001.jpg").unlink()
    noise(tmp_path / "train" / "images" / "0002.png", 99)
    read = {row["image"]: row for row in rows(pointer)}
    assert len(read) == 65 and read["train/images/0000.jpg"]["fault"] == "expression_no_face"
    assert read["train/images/0001.jpg"]["expression"] == CODES[ALPHABETICAL[1]]
    assert read["train/images/0002.png"]["expression"] == read["train/images/0002.jpg"]["expression"]
    listed = [path for _, part in open_source(pointer).images() for path in part.to_pylist()]
    assert sorted(listed) == sorted(read)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("8 0.5 0.5 0.5 0.5", None),
        ("99999999 0.5 0.5 0.5 0.5", None),
        ("-1 0.5 0.5 0.5 0.5", "malformed"),
        ("1.0 0.5 0.5 0.5 0.5", "malformed"),
        ("happy 0.5 0.5 0.5 0.5", "malformed"),
        ("1 0.5 0.5 0.5", "malformed"),
        ("1 0.5 0.5 0.5 0.5 0.9", "malformed"),
        ("1 0.1 0.1 0.2 0.2 0.3 0.1", "malformed"),
        ("1 0.5 0.5 nan 0.5", "malformed"),
        ("1 0.5 0.5 1e99 0.5", "malformed"),
        ("\xff\xfe", "malformed"),
    ],
)
def test_an_odd_line_is_a_row_that_says_why(tmp_path: Path, line: str, fault: str | None) -> None:
    sound, odd = labelled(tmp_path, f"1 0.5 0.5 0.5 0.5\n{line}\n")
    assert (sound["fault"], sound["expression"]) == (None, CODES[ALPHABETICAL[1]])
    assert (odd["row"], odd["fault"], odd["expression"]) == (2, fault, None) and odd["detail"]


def test_a_class_that_is_mapped_to_null_is_left_out(tmp_path: Path) -> None:
    pointer = tree_yolo(tmp_path)
    read = rows(replace(pointer, classes={**pointer.classes, "Contempt": None}))
    assert Counter(row["fault"] for row in read) == {None: 56, "left_out": 8}


def test_images_and_labels_may_hold_the_splits(tmp_path: Path) -> None:
    pointer = tree_yolo(tmp_path)
    before = rows(pointer)
    for kind in ("images", "labels"):
        (tmp_path / "YOLO" / kind).mkdir(parents=True)
        for split in ("train", "valid"):
            (tmp_path / split / kind).rename(tmp_path / "YOLO" / kind / split)
    after = rows(pointer)
    assert [(row["split"], row["expression"], row["left"]) for row in after] == [
        (row["split"], row["expression"], row["left"]) for row in before
    ]
    assert {row["list"].rpartition("/")[0] for row in after} == {"YOLO/labels/train", "YOLO/labels/valid"}


@pytest.mark.parametrize("inner", [False, True])
def test_folders_below_a_split_are_read_and_paired_by_their_paths(tmp_path: Path, inner: bool) -> None:
    pointer = tree_yolo(tmp_path)
    before = rows(pointer)
    for kind, names in (("images", ["0001.jpg", "0003.jpg"]), ("labels", ["0001.txt", "0003.txt", "0005.txt"])):
        for name in names:
            path = tmp_path / "train" / kind / "a.1" / "b" / name.replace("0003", "0000")
            path.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "train" / kind / name).rename(path)
        for split in ("train", "valid") if inner else ():
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / split / kind).rename(tmp_path / kind / split)
    images, labels = ("images/train", "labels/train") if inner else ("train/images", "train/labels")
    read = {row["image"]: row for row in rows(pointer)}
    assert len(read) == 65
    for name, number in (("0000", 0), ("a.1/b/0001", 1), ("a.1/b/0000", 3), ("a.1/b/0005", 5), ("0007", 7)):
        row = read[f"{images}/{name}.jpg"]
        assert (row["list"], row["expression"], row["left"]) == (
            f"{labels}/{name}.txt",
            *(before[number][key] for key in ("expression", "left")),
        )
    assert read[f"{images}/0005.jpg"]["fault"] == "expression_no_face"  # its label file is in another folder
    assert (tmp_path / labels / "a.1" / "b" / "0001.txt").is_file() and f"{labels}/a.1/b/0001.txt" in open_source(
        pointer
    ).annotation_files()


def _write(text: str) -> Any:
    return lambda root: (root / "data.yaml").write_text(text)


def _linked(root: Path) -> None:
    (root / "valid" / "images").rename(root / "pictures")
    (root / "valid" / "images").symlink_to(root / "pictures")


BROKEN: dict[str, tuple[Any, str]] = {
    "no names": (_write("nc: 8\n"), "names: expected a list of class names"),
    "numbers that leave one out": (_write("names: {0: Happy, 2: Sad}\n"), "names: expected a list of class names"),
    "names that are lists": (_write("names: [[Happy]]\n"), "names: expected a list of class names"),
    "no YAML": (_write("names: [\n"), "unreadable YAML"),
    "a name that no map has": (_write("names: [Happy, joy, calm]\n"), r"classes does not map, 2: calm, joy"),
    "names that are numbers": (_write("names: ['0', '1']\n"), r"classes does not map, 2: 0, 1"),
    "no data.yaml": (lambda root: (root / "data.yaml").unlink(), "expected one data.yaml.*there is none"),
    "two of them": (lambda root: (root / "train" / "data.yaml").write_text("names: [Happy]"), "there is more than one, 2"),
    "a suffix in two cases": (
        lambda root: (root / "train" / "labels" / "0000.TXT").write_text("0 0.5 0.5 0.5 0.5"),
        r"train/labels/0000\.txt: differs from 0000\.TXT only in the case of its suffix",
    ),
    "a folder of images that is a link": (_linked, r"valid/images: this link is not entered, since its folder is within the root"),
    "a split that no map has": (lambda root: (root / "train").rename(root / "first"), r"splits does not map, 1: first"),
    "no training": (lambda root: (root / "train" / "images").rename(root / "train" / "pictures"), "nothing for the split train"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_download_that_does_not_fit_is_one_line(tmp_path: Path, change: Any, message: str) -> None:
    pointer = tree_yolo(tmp_path)
    change(tmp_path)
    with refused(message):
        open_source(pointer)
