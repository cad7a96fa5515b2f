import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import refused
from PIL import Image
from trees import download_fer2013_csv, unpacked_rows

from affectnet.expressions import CODES
from affectnet.sources.registry import open_layout

PIXELS = np.random.default_rng(3).integers(0, 256, 48 * 48)
SOUND = f"3,{' '.join(map(str, PIXELS))},Training"


def test_a_line_becomes_a_lossless_picture_with_the_expression_of_its_code(tmp_path: Path) -> None:
    pointer = download_fer2013_csv(tmp_path / "root")
    with (tmp_path / "root" / "fer2013.csv").open("a") as file:
        file.write(SOUND)
    root, rows = unpacked_rows(pointer, tmp_path / "unpacked")
    assert [row["row"] for row in rows] == list(range(1, 58)) and {row["list"] for row in rows} == {"fer2013.csv"}
    order = [CODES[name] for name in ("Anger", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")]
    assert [row["expression"] for row in rows[:8]] == [*order, CODES["Anger"]]
    image = Image.open(root / rows[-1]["image"])
    assert (image.format, image.mode) == ("PNG", "L") and np.array_equal(np.asarray(image).ravel(), PIXELS)


@pytest.mark.parametrize(
    ("test", "other", "splits"),
    [
        ("PrivateTest", "validation", {"train": 42, "validation": 1, "test": 14}),
        ("PrivateTest", "unused", {"train": 42, None: 1, "test": 14}),
        ("PublicTest", "validation", {"train": 42, "validation": 14, "test": 1}),
        ("PublicTest", "unused", {"train": 42, None: 14, "test": 1}),
    ],
)
def test_which_of_the_two_is_test_is_a_param_and_nothing_is_lost(
    tmp_path: Path, test: str, other: str, splits: dict[str | None, int]
) -> None:
    pointer = replace(download_fer2013_csv(tmp_path / "root"), options={"test": test, "other": other})
    with (tmp_path / "root" / "fer2013.csv").open("a") as file:
        file.write(SOUND.replace("Training", "PublicTest"))
    _, rows = unpacked_rows(pointer, tmp_path / "unpacked")
    assert Counter(row["split"] for row in rows) == splits
    assert all((row["fault"] == "left_out") == (row["split"] is None) == (row["image"] is None) for row in rows)


ODD: dict[str, tuple[str, str | None]] = {
    "a pixel too few": (SOUND.replace(f" {PIXELS[-1]},", ","), "malformed"),
    "a pixel too many": (SOUND.replace(",Training", " 0,Training"), "malformed"),
    "a pixel of 256": (SOUND.replace(f",{PIXELS[0]} ", ",256 "), "malformed"),
    "a negative pixel": (SOUND.replace(f",{PIXELS[0]} ", ",-1 "), "malformed"),
    "a pixel that is a word": (SOUND.replace(f",{PIXELS[0]} ", ",x "), "malformed"),
    "no pixels": ("3,,Training", "malformed"),
    "an emotion of 7": (SOUND.replace("3,", "7,", 1), None),
    "a negative emotion": (SOUND.replace("3,", "-1,", 1), None),
    "an emotion that is a word": (SOUND.replace("3,", "happy,", 1), "malformed"),
    "no emotion": (SOUND[1:], "malformed"),
    "another Usage": (SOUND.replace("Training", "Holdout"), "malformed"),
    "a cell too few": (SOUND.rpartition(",")[0], "malformed"),
    "a cell too many": (SOUND + ",1", "malformed"),
    "a stray quote": ('"' + SOUND, "read"),
    "a NUL": ("\0" + SOUND, "malformed"),
    "no UTF-8": (SOUND.replace("Training", "Tr\udce9"), "malformed"),
}


@pytest.mark.parametrize(("line", "fault"), ODD.values(), ids=ODD)
def test_an_odd_line_keeps_its_place_and_says_why(tmp_path: Path, line: str, fault: str | None) -> None:
    pointer = download_fer2013_csv(tmp_path / "root")
    file = tmp_path / "root" / "fer2013.csv"
    lines = file.read_text().splitlines()
    file.write_bytes("\n".join([*lines[:3], line, *lines[3:]]).encode(errors="surrogateescape"))
    _, rows = unpacked_rows(pointer, tmp_path / "unpacked")
    assert [row["row"] for row in rows] == list(range(1, 58)) and sum(row["fault"] is not None for row in rows) == (fault == "malformed")
    odd = rows[2]
    if fault == "read":
        assert odd["expression"] == CODES["Happy"]
    else:
        assert (odd["fault"], odd["expression"]) == (fault, None) and odd["detail"]


def test_columns_come_in_any_order_and_spelling_and_the_file_has_any_name(tmp_path: Path) -> None:
    pointer = download_fer2013_csv(tmp_path / "root")
    before = unpacked_rows(pointer, tmp_path / "before")[1]
    file = tmp_path / "root" / "fer2013.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()[1:]]
    (tmp_path / "root" / "challenge").mkdir()
    text = "emotion, Usage, pixels\r\n" + "\r\n".join(",".join([emotion, usage, pixels]) for emotion, pixels, usage in lines)
    (tmp_path / "root" / "challenge" / "icml_face_data.csv").write_text(text)
    file.unlink()
    after = unpacked_rows(pointer, tmp_path / "after")[1]
    assert [(row["row"], row["split"], row["expression"]) for row in after] == [
        (row["row"], row["split"], row["expression"]) for row in before
    ]


def _without(file: Path) -> None:
    file.write_text(file.read_text().replace("Usage", "usages", 1))


def _doubled(file: Path) -> None:
    file.with_name("copy.csv").write_bytes(file.read_bytes())


def _training_alone(file: Path) -> None:
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if "PrivateTest" not in line))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without, "expected one CSV file with the columns emotion, pixels, usage"),
        (_doubled, r"there is more than one, 2: copy.csv, fer2013.csv"),
        (_training_alone, "no row for the split test in 1: fer2013.csv"),
    ],
)
def test_a_download_that_does_not_fit_is_one_line_and_leaves_nothing_behind(tmp_path: Path, change: Any, message: str) -> None:
    pointer = download_fer2013_csv(tmp_path / "root")
    change(tmp_path / "root" / "fer2013.csv")
    with refused(message):
        unpacked_rows(pointer, tmp_path / "unpacked")
    assert not [path for path in (tmp_path / "unpacked").rglob("*") if path.suffix != ".lock"]


def test_a_pipe_named_as_a_csv_is_not_waited_for(tmp_path: Path) -> None:
    pointer = download_fer2013_csv(tmp_path / "root")
    os.mkfifo(tmp_path / "root" / "other.csv")
    open_layout(pointer)
