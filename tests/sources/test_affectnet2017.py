from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import HEADER, LANDMARKS, images_2017, noise, row, tree_2017, write_2017

from affectnet.errors import UserError
from affectnet.expressions import CLASS_MEANS
from affectnet.sources.affectnet2017 import parse_landmarks
from affectnet.sources.registry import open_source
from affectnet.sources.source import numbers


def rows(pointer: Any) -> list[dict[str, Any]]:
    return [entry for part in open_source(pointer).rows() for entry in part.to_pylist()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    noise(images_2017(tmp_path) / "1" / "a.jpg", 0)
    noise(images_2017(tmp_path) / "1" / "b.jpg", 1)
    return tmp_path


HEADERS = {
    "as shipped": HEADER,
    "with a hash": "#" + HEADER,
    "absent": "",
    "with a byte-order mark": "\ufeff" + HEADER,
    "in capitals": HEADER.upper(),
    "quoted": ",".join(f'"{name}"' for name in HEADER.split(",")),
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_list_reads_the_same_whatever_its_header(root: Path, header: str) -> None:
    pointer = write_2017(root, [row("1/a.jpg", expression=6)], [row("1/b.jpg", expression=7)], header=header)
    table = rows(pointer)
    assert [(entry["split"], entry["expression"], entry["row"]) for entry in table] == [("train", 6, 1), ("test", 7, 1)]
    first = table[0]
    assert first["image"] == "Manually_Annotated/Manually_Annotated_Images/1/a.jpg" and (root / first["image"]).is_file()
    assert [first[edge] for edge in ("left", "top", "right", "bottom")] == [10, 10, 80, 80]
    assert first["valence"] == pytest.approx(CLASS_MEANS[6][0]) and len(first["landmarks"]) == 136


def test_columns_are_found_by_name_in_any_order_and_others_are_ignored(root: Path) -> None:
    cells = dict(zip(HEADER.split(","), row("1/a.jpg", box="1,2,30,40", expression=3).split(","), strict=True)) | {"age": "30"}
    names = sorted(cells)
    pointer = write_2017(root, [",".join(cells[name] for name in names)], [row("1/b.jpg")], header=",".join(names))
    first = rows(pointer)[0]
    assert (first["left"], first["top"], first["right"], first["bottom"], first["expression"]) == (1, 2, 31, 42, 3)


def test_windows_line_ends_backslashes_and_quotes_change_nothing(root: Path) -> None:
    pointer = write_2017(root, [row("1/a.jpg")], [row("1/b.jpg")])
    expected = rows(pointer)
    training = root / "Manually_Annotated_file_lists" / "training.csv"
    text = training.read_text().replace("1/a.jpg", '"1\\a.jpg"').replace("\n", "\r\n")
    training.write_bytes(text.encode())
    assert rows(pointer) == expected


@pytest.mark.parametrize(
    "folder", ["Manually_Annotated_compressed/Manually_Annotated_Images", "Manually_Annotated", "manually_annotated_images", "images/x"]
)
def test_image_folders_of_any_spelling_are_found(tmp_path: Path, folder: str) -> None:
    noise(tmp_path / folder / "103" / "a.jpg", 0)
    noise(tmp_path / folder / "7" / "b.jpg", 1)
    pointer = write_2017(tmp_path, [row("103/a.jpg")], [row("7/b.jpg")])
    assert [entry["image"] for entry in rows(pointer)] == [f"{folder}/103/a.jpg", f"{folder}/7/b.jpg"]


def test_each_list_finds_the_folder_that_holds_its_images(root: Path) -> None:
    noise(root / "Automatically_Annotated" / "Automatically_Annotated_Images" / "9" / "c.jpg", 2)
    pointer = write_2017(root, [row("1/a.jpg")], [row("1/b.jpg")])
    automatic = root / "Automatically_annotated_file_list"
    automatic.mkdir()
    (automatic / "automatically_annotated.csv").write_text(f"{HEADER}\n{row('9/c.jpg', expression=5)}\n")
    assert [entry["image"].rpartition("/")[2] for entry in rows(pointer)] == ["a.jpg", "b.jpg"]
    both = rows(replace(pointer, lists="both"))
    assert [entry["image"].rpartition("/")[2] for entry in both] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [entry["split"] for entry in both] == ["train", "test", "only_train"]  # a machine's labels choose no epoch
    of_automatic = [(entry["split"], entry["image"][-5:]) for entry in rows(replace(pointer, lists="automatic"))]
    assert of_automatic == [("test", "b.jpg"), ("train", "c.jpg")]  # the official validation list is always our test


FAULTY = {
    "null box": (row("1/a.jpg", box="NULL,NULL,NULL,NULL"), "null_box"),
    "a null box and no valence": (row("1/a.jpg", box="NULL,NULL,NULL,NULL", va="abc,0.5"), "malformed"),
    "a word for a number": (row("1/a.jpg", expression="happy"), "malformed"),
    "a fraction for an expression": (row("1/a.jpg", expression="1.5"), "malformed"),
    "an empty valence": (row("1/a.jpg", va=",0.5"), "malformed"),
    "infinity": (row("1/a.jpg", va="inf,0.5"), "malformed"),
    "Arabic digits": (row("1/a.jpg", va="٠,0.5"), "malformed"),
    "a cell too few": (row("1/a.jpg").rpartition(",")[0], "malformed"),
    "a cell too many": (row("1/a.jpg") + ",1", "malformed"),
}


@pytest.mark.parametrize(("line", "fault"), FAULTY.values(), ids=FAULTY)
def test_a_row_that_cannot_be_read_keeps_its_place_and_says_why(root: Path, line: str, fault: str) -> None:
    sound = row("1/b.jpg")
    table = rows(write_2017(root, [sound, line, sound], [sound]))
    of_training = sorted((entry for entry in table if entry["split"] == "train"), key=lambda entry: int(entry["row"]))
    assert [(entry["row"], entry["fault"]) for entry in of_training] == [(1, None), (2, fault), (3, None)]
    assert of_training[1]["detail"] and of_training[1]["image"].endswith("1/a.jpg")


@pytest.mark.parametrize("box", ["0,0,50,50", "NULL,NULL,NULL,NULL"])
@pytest.mark.parametrize("landmarks", [LANDMARKS.rpartition(";")[0], LANDMARKS.replace("10.00", "nan", 1)], ids=["135 numbers", "nan"])
def test_broken_landmarks_are_said_beside_any_other_fault(root: Path, box: str, landmarks: str) -> None:
    first = rows(write_2017(root, [row("1/a.jpg", box=box, landmarks=landmarks)], [row("1/b.jpg")]))[0]
    assert (first["landmarks"], first["unread"]) == (None, ["landmarks"]) and first["detail"]


@pytest.mark.parametrize("absent", ["", "NULL", " ", "nan", '""'])
def test_absent_landmarks_are_null_and_no_fault(root: Path, absent: str) -> None:
    first = rows(write_2017(root, [row("1/a.jpg", landmarks=absent)], [row("1/b.jpg")]))[0]
    assert (first["landmarks"], first["fault"], first["unread"]) == (None, None, None)


BROKEN = {
    "no column": (lambda text: text.replace("face_width", "width_of_face", 1), "column face_width is missing"),
    "another file": (lambda _: "PK\x03\x04 not a list\n", "neither a header nor a row of 9 columns"),
    "an empty file": (lambda _: "", "neither a header nor a row"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_list_that_is_none_is_one_line(root: Path, change: Any, message: str) -> None:
    pointer = write_2017(root, [row("1/a.jpg")], [row("1/b.jpg")])
    training = root / "Manually_Annotated_file_lists" / "training.csv"
    training.write_text(change(training.read_text()))
    with pytest.raises(UserError, match=message) as caught:
        rows(pointer)
    assert str(training) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_list_a_doubled_list_and_missing_images_are_one_line_each(root: Path) -> None:
    pointer = write_2017(root, [row("1/a.jpg")], [row("1/b.jpg")])
    with pytest.raises(UserError, match=r"no automatically_annotated\.csv below it"):
        open_source(replace(pointer, lists="both"))
    (root / "copy").mkdir()
    (root / "copy" / "training.csv").write_text(HEADER)
    with pytest.raises(UserError, match="more than once"):
        open_source(pointer)
    (root / "copy" / "training.csv").unlink()
    write_2017(root, [row("1/gone.jpg")], [row("1/b.jpg")])
    with pytest.raises(UserError, match="none of its first 1 images is below"):
        rows(pointer)


def test_the_tree_of_the_other_tests_is_sound(tmp_path: Path) -> None:
    table = rows(tree_2017(tmp_path))
    assert len(table) == 64 and all(entry["fault"] is None and (tmp_path / entry["image"]).is_file() for entry in table)


@given(st.lists(st.one_of(st.floats(-1e6, 1e6).map(repr), st.integers(-99999, 99999).map(str), st.text(max_size=8)), max_size=20))
def test_numbers_are_those_that_python_reads_and_null_for_the_rest(texts: list[str]) -> None:
    values = numbers(pa.array(texts, pa.string()), pa.float32()).to_pylist()
    for text, value in zip(texts, values, strict=True):
        if value is not None:
            assert value == np.float32(float(text.strip(" \t\"'")))
        elif text.isascii() and text.lstrip("-").isdecimal():
            raise AssertionError(f"{text!r} is a number")


@given(st.lists(st.none() | st.lists(st.floats(-1e4, 1e4, width=32), min_size=136, max_size=136), min_size=1, max_size=4))
def test_landmarks_survive_the_way_through_text(points: list[list[float] | None]) -> None:
    cells = pa.array(["" if values is None else ";".join(map(repr, values)) for values in points], pa.string())
    landmarks, broken = parse_landmarks(cells)
    assert not any(broken.to_pylist()) and landmarks.to_pylist() == points
