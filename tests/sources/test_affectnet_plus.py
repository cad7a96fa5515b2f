"""AffectNet+ in full: soft labels, subsets, age, gender, race and pose, and the images that people have not labelled."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain import annotations, metrics, refused, rejected, run_stage
from trees import soft_label, tree_folder, tree_plus

from affectnet.sources.registry import open_source
from affectnet.tables.annotations import SUBSETS
from affectnet.tables.source_pointer import Pointer


def first_row(root: Path, **changes: object) -> dict[str, Any]:
    """The first row of a tree whose first JSON file has these values on top."""
    pointer = tree_plus(root, 1, 1)
    file = root / "human_annotated" / "train_set" / "annotations" / "0.json"
    file.write_text(json.dumps({"human-label": 0, "valence": 0, "arousal": 0, **changes}), encoding="utf-8")
    row: dict[str, Any] = next(open_source(pointer).rows()).to_pylist()[0]
    return row


def cleaned(pointer: Pointer, **changes: Any) -> dict[str, Any]:
    pointer.write(Path("data/raw"))
    run_stage("verify", tolerance=1.0)
    run_stage("clean", **changes)
    return metrics("clean")


def test_every_value_of_both_capitalisations_is_in_the_annotations(workspace: Path) -> None:
    counts = cleaned(tree_plus(workspace / "root", each=6, tests=2))
    assert counts["kept"] == len(annotations()) == 64 and counts["without_soft_label"] == 0 and counts["kept_without"] == {}
    for row in annotations():
        number = int(Path(row["image"]).stem)
        even = number % 2 == 0
        assert row["soft_label"] == pytest.approx(soft_label(number % 8)) and row["expression"] == number % 8
        assert (row["subset"], row["age"]) == (SUBSETS[number % 3], number)
        assert (row["gender"], row["race"]) == (("male", "white") if even else ("female", "asian"))
        assert dict(row["gender_probabilities"]) == pytest.approx({"male": 0.9, "female": 0.1} if even else {"male": 0.03, "female": 0.97})
        assert dict(row["race_probabilities"]) == pytest.approx({"asian": 0.2, "white": 0.8} if even else {"asian": 0.7, "white": 0.3})
        assert (row["landmarks"] is None) == (number % 4 == 3)
        assert dict(row["pose"]) == {"yaw": -3.5 if even else 4}


NO_SOFT_LABELS: dict[str, Any] = {
    "negative": [-0.1, 1.1, 0, 0, 0, 0, 0, 0],
    "a sum of 0.5": [0.5, 0, 0, 0, 0, 0, 0, 0],
    "seven": [0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
    "NaN": [float("nan"), 1, 0, 0, 0, 0, 0, 0],
    "infinite": [float("inf"), 0, 0, 0, 0, 0, 0, 0],
    "text": ["much", 0, 0, 0, 0, 0, 0, 0],
    "truth": [True, 0, 0, 0, 0, 0, 0, 0],
    "one number": 1,
    "a mapping": {"happy": 1},
    "deep": [[0.5, 0.5], [0, 0], [0, 0], [0, 0]],
}


@pytest.mark.parametrize("value", NO_SOFT_LABELS.values(), ids=NO_SOFT_LABELS)
def test_a_soft_label_that_is_none_is_dropped_by_name_and_the_row_stays(tmp_path: Path, value: object) -> None:
    row = first_row(tmp_path, **{"Soft-Label": value, "subset": 1})
    assert (row["soft_label"], row["unread"], row["fault"], row["subset"]) == (None, ["soft_label"], None, "challenging")


def test_a_soft_label_as_text_nested_or_rounded_sums_to_1(tmp_path: Path) -> None:
    row = first_row(tmp_path, soft_label=[["0.33", 0.33, 0.33, 0, 0, 0, 0, 0]])
    assert row["soft_label"] == pytest.approx([1 / 3] * 3 + [0] * 5) and row["unread"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subset", 3),
        ("subset", "hard"),
        ("subset", 0.5),
        ("age", -1),
        ("age", "old"),
        ("gender", {}),
        ("gender", {"male": 0.9, "MALE": 0.1}),
        ("gender", {"male": 0.9, "female": 0.9}),
        ("race", {"white": None}),
        ("race", 4),
        ("pose", {"yaw": "left"}),
        ("pose", [1, 2, 3]),
    ],
)
def test_any_other_value_that_cannot_be_read_is_named_and_null(tmp_path: Path, name: str, value: object) -> None:
    row = first_row(tmp_path, **{name: value})
    assert (row[name], row["unread"], row["fault"]) == (None, [name], None)


def test_a_name_in_place_of_probabilities_and_odd_characters_are_read(tmp_path: Path) -> None:
    row = first_row(tmp_path, gender=" Woman ", race={"\ud800": 1}, subset="Difficult")
    assert (row["gender"], row["gender_probabilities"], row["subset"], row["race"]) == ("woman", None, "difficult", "\\ud800")


def test_what_cannot_be_read_is_counted(workspace: Path) -> None:
    pointer = tree_plus(workspace / "root")
    broken: tuple[dict[str, Any], ...] = ({"soft-label": [1, 1, 0, 0, 0, 0, 0, 0]}, {"soft-label": [], "age": "old"})
    for number, value in enumerate(broken):
        file = workspace / "root" / "human_annotated" / "train_set" / "annotations" / f"{number}.json"
        file.write_text(json.dumps({"human-label": number, "valence": 0, "arousal": 0, **value}), encoding="utf-8")
    counts = cleaned(pointer)
    assert counts["kept_without"] == {"age_malformed": 1, "soft_label_malformed": 2} and counts["without_soft_label"] == 2


def test_rules_about_agreement_reject_training_faces_with_counts_and_leave_test_whole(workspace: Path) -> None:
    pointer = tree_plus(workspace / "root", each=6, tests=3)
    annotated = workspace / "root" / "human_annotated" / "train_set" / "annotations"
    doubtful = {"human-label": 0, "valence": 0, "arousal": 0, "subset": 0}
    (annotated / "0.json").write_text(json.dumps({**doubtful, "soft-label": soft_label(0, 0.5)}), encoding="utf-8")
    (annotated / "24.json").write_text(json.dumps(doubtful), encoding="utf-8")
    assert cleaned(pointer, least_agreement=0.65)["rejected_by"] == {"agreement_too_low": 1, "agreement_unknown": 1}
    counts = cleaned(pointer, subsets=["easy", "challenging"])
    assert counts["rejected_by"] == {"subset_left_out": 16} and sum(counts["by_split"]["test"].values()) == 24
    assert {row["subset"] for row in annotations() if row["split"] != "test"} == {"easy", "challenging"}


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ({"least_agreement": 0.6}, r"clean.least_agreement: 0.6: no row of the data set has a soft label"),
        ({"subsets": ["easy"]}, r"clean.subsets: easy: no row of the data set has a subset"),
    ],
)
def test_a_rule_about_values_that_the_data_lack_is_one_line(workspace: Path, rule: dict[str, Any], line: str) -> None:
    with refused(line):
        cleaned(tree_folder(workspace / "root"), **rule)


def test_images_without_human_labels_only_train(workspace: Path) -> None:
    root = workspace / "root"
    pointer = tree_plus(root, unlabelled=40)
    assert cleaned(replace(pointer, options={"no_human_annotated": False}))["kept"] == 64
    shutil.copy(root / "human_annotated" / "train_set" / "images" / "5.jpg", root / "no_human_annotated" / "images" / "0.jpg")
    shutil.copy(root / "human_annotated" / "validation_set" / "images" / "5.jpg", root / "no_human_annotated" / "images" / "1.jpg")
    (root / "no_human_annotated" / "annotations" / "2.json").write_text('{"meta-data": {}}')
    counts = cleaned(pointer, validation_share=0.4)
    assert counts["rejected_by"] == {"copy_of_test": 1, "exact_duplicate": 1, "malformed": 1}
    assert (counts["read"], counts["without_human_label"]) == (104, 37) and set(rejected().values()) == set(counts["rejected_by"])
    rows = [row for row in annotations() if row["list"] == "no_human_annotated/annotations"]
    assert {row["split"] for row in rows} == {"train"} and len(rows) == 37
    for row in rows:
        assert row["expression"] == int(Path(row["image"]).stem) % 8 and max(row["soft_label"]) == pytest.approx(0.4)
        assert (row["valence"], row["age"]) == (None, 30)
    assert metrics("verify")["rows"] == {"train": 48, "test": 16, "only_train": 40}


@pytest.mark.parametrize("kept", [{"exact_duplicates": "keep"}, {"copies_of_test": "keep"}])
def test_a_copy_without_a_human_label_never_trains(workspace: Path, kept: dict[str, str]) -> None:
    root = workspace / "root"
    pointer = tree_plus(root, unlabelled=8)
    people, nobody = root / "human_annotated", root / "no_human_annotated" / "images"
    shutil.copy(people / "train_set" / "images" / "1.jpg", nobody / "2.jpg")
    shutil.copy(people / "validation_set" / "images" / "3.jpg", nobody / "4.jpg")
    counts = cleaned(pointer, **kept)
    assert sum(counts["rejected_by"].values()) == 2 and set(rejected()) == {("annotations", 3), ("annotations", 5)}


def test_a_near_duplicate_of_validation_without_a_human_label_does_not_train(workspace: Path) -> None:
    root = workspace / "root"
    pointer = tree_plus(root, unlabelled=8)
    cleaned(pointer)
    chosen = next(row["image"] for row in annotations() if row["split"] == "validation")
    noise_of = (root / chosen).read_bytes()
    (root / "no_human_annotated" / "images" / "0.jpg").write_bytes(noise_of + b"another end")
    counts = cleaned(pointer)
    assert counts["rejected_by"] == {"near_duplicate_of_validation": 1}


@pytest.mark.parametrize("name", ["no_human_annotated", "AffectNet+/No_Human_Annotated", "download", "DOWNLOAD"])
def test_the_part_without_human_labels_is_not_taken_for_the_whole(tmp_path: Path, name: str) -> None:
    pointer = tree_plus(tmp_path / "tree", 1, 1, unlabelled=3)
    (tmp_path / "root" / name).parent.mkdir(parents=True)
    (tmp_path / "tree" / "no_human_annotated").rename(tmp_path / "root" / name)
    for file in (tmp_path / "root" / name / "annotations").iterdir():
        file.rename(file.with_suffix(".JSON" if name.isupper() else ".json"))
    for root in (tmp_path / "root", tmp_path / "root" / name):
        with refused(f"{re.escape(name)}: this part of AffectNet\\+ is no_human_annotated, one zip of 7.4 GB with 539,607 images"):
            open_source(replace(pointer, root=str(root)))


def test_the_part_without_human_labels_that_is_asked_for_and_missing_is_one_line(tmp_path: Path) -> None:
    pointer = replace(tree_plus(tmp_path, 1, 1), options={"no_human_annotated": True})
    with refused("expected one folder no_human_annotated .* there is none; unpack it there, or set .*no_human_annotated to false"):
        open_source(pointer)
