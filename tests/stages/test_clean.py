import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import ROOT, annotations, metrics, refused, rejected, run_stage
from PIL import Image
from trees import CLASSES, TREES, images_2017, noise, row, soft_label, tree_2017, tree_2021, tree_folder, tree_plus, write_2017

from affectnet.errors import UserError
from affectnet.expressions import CLASS_MEANS, CODES, EXPRESSIONS
from affectnet.params import parse, read_document
from affectnet.tables.source_pointer import Pointer
from stages.clean import CleanParams


def clean(pointer: Pointer, **changes: Any) -> tuple[str, dict[str, Any]]:
    """Verifies and cleans in the working folder: the summary line and metrics/clean.json."""
    pointer.write(Path("data/raw"))
    run_stage("verify", tolerance=1.0)
    return run_stage("clean", **changes), metrics("clean")


def others(root: Path) -> list[str]:
    """Two valid rows with other photographs: without them a list of one face leaves none for validation."""
    for name in ("x", "y"):
        noise(images_2017(root) / "3" / f"{name}.jpg", ord(name), 200)
    return [row(f"3/{name}.jpg", expression=7) for name in ("x", "y")]


@pytest.mark.parametrize("layout", TREES)
def test_every_row_of_every_layout_is_accounted_for(workspace: Path, layout: str) -> None:
    _, counts = clean(TREES[layout](workspace / "root", each=20, tests=4))
    assert counts["read"] == counts["kept"] + counts["rejected"] == len(annotations()) + len(rejected())
    classes = CLASSES[layout]
    assert counts["rejected"] == 0 and counts["read"] == classes * 24
    assert counts["by_split"]["validation"] == {name: 3 if CODES[name] < classes else 0 for name in EXPRESSIONS}
    assert sum(counts["by_split"]["test"].values()) == classes * 4


def renamed_keys(root: Path) -> None:
    """Renames the landmark keys of AffectNet+, so that the reader does not know them."""
    for file in root.rglob("*.json"):
        file.write_text(file.read_text(encoding="utf-8").replace("andmark-68", "andmark-98"), encoding="utf-8")


def remove_landmarks(root: Path) -> None:
    for file in root.rglob("*_lnd.npy"):
        file.unlink()


def no_valence_arousal(root: Path) -> None:
    for file in root.rglob("*.csv"):
        rows = [line.rsplit(",", 2)[0] + ",-2,-2" for line in file.read_text(encoding="utf-8").splitlines() if "face_x" not in line]
        file.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("layout", "change", "absent"),
    [
        ("affectnet_plus", renamed_keys, "landmarks"),
        ("affectnet2021", remove_landmarks, "landmarks"),
        ("affectnet2017", no_valence_arousal, "valence, arousal"),
    ],
)
def test_what_the_layout_has_and_no_row_gives_is_in_the_line(
    workspace: Path, layout: str, change: Callable[[Path], None], absent: str
) -> None:
    pointer = TREES[layout](workspace / "root")
    assert "WARNING" not in clean(pointer)[0]
    change(workspace / "root")
    assert f"WARNING: no row has {absent}, which layout {layout} has" in clean(pointer)[0]


DIRT = {
    "null_box": row("1/a.jpg", box="NULL,NULL,NULL,NULL"),
    "malformed": row("1/a.jpg", va="high,0"),
    "landmarks_malformed": row("1/a.jpg", landmarks="1;2;3"),
    "expression_none": row("1/a.jpg", expression=8),
    "expression_uncertain": row("1/a.jpg", expression=9),
    "expression_no_face": row("1/a.jpg", expression=10),
    "expression_unknown": row("1/a.jpg", expression=42),
    "missing": row("1/gone.jpg"),
    "empty": row("1/empty.jpg"),
    "box_empty": row("1/a.jpg", box="10,10,0,70"),
    "box_beyond": row("1/a.jpg", box="500,10,70,70"),
    "valence_arousal_outside": row("1/a.jpg", va="1.5,0"),
}
"""The reason of a rejection → a row that has it."""


@pytest.fixture
def dirty(workspace: Path) -> Pointer:
    root = workspace / "root"
    sound = [row(f"1/s{number}.jpg", expression=number % 8) for number in range(16)]
    for number in range(16):
        noise(images_2017(root) / "1" / f"s{number}.jpg", number)
    noise(images_2017(root) / "1" / "a.jpg", 100)
    noise(images_2017(root) / "2" / "t.jpg", 101)
    (images_2017(root) / "1" / "empty.jpg").write_bytes(b"")
    return write_2017(root, [*sound, *DIRT.values()], [row("2/t.jpg")])


def test_each_kind_of_dirt_is_rejected_with_its_reason(dirty: Pointer) -> None:
    _, counts = clean(dirty, landmarks="reject", valence_arousal="reject")
    assert rejected() == {("training.csv", 17 + number): reason for number, reason in enumerate(DIRT)}
    assert counts["rejected_by"] == dict.fromkeys(DIRT, 1) and counts["kept"] == 17


def test_rules_that_are_switched_off_keep_their_rows(dirty: Pointer) -> None:
    changes = {"null_box": "whole", "box_outside": "whole", "landmarks": "drop", "valence_arousal": "drop", "exact_duplicates": "keep"}
    _, counts = clean(dirty, **changes)
    assert set(counts["rejected_by"]) == set(DIRT) - {
        "null_box",
        "box_empty",
        "box_beyond",
        "landmarks_malformed",
        "valence_arousal_outside",
    }
    assert counts["kept_without"] == dict.fromkeys(
        ("null_box", "box_empty", "box_beyond", "landmarks_malformed", "valence_arousal_outside"), 1
    )
    assert (counts["without_box"], counts["without_landmarks"], counts["without_valence_arousal"]) == (3, 1, 1)


@pytest.mark.parametrize("landmarks", ["reject", "drop"])
def test_broken_landmarks_of_a_row_without_a_box_are_judged_too(workspace: Path, landmarks: str) -> None:
    root = workspace / "root"
    noise(images_2017(root) / "1" / "a.jpg", 100)
    rows = [row("1/a.jpg", box="NULL,NULL,NULL,NULL", landmarks="1;2;3"), *others(root)]
    noise(images_2017(root) / "2" / "t.jpg", 101)
    _, counts = clean(write_2017(root, rows, [row("2/t.jpg")]), null_box="whole", landmarks=landmarks)
    assert counts["rejected_by" if landmarks == "reject" else "kept_without"]["landmarks_malformed"] == 1


def test_a_machines_label_never_replaces_one_of_people_that_a_rule_rejects(workspace: Path) -> None:
    pointer = tree_plus(workspace / "root", 3, 2, unlabelled=2)
    by_people, by_machine = (workspace / "root" / folder for folder in ("human_annotated/train_set", "no_human_annotated"))
    shutil.copy(by_people / "images" / "0.jpg", by_machine / "images")
    for folder in (by_people, by_machine):
        file = folder / "annotations" / "0.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "soft-label": soft_label(5, 0.9)}))
    copies = {"human_annotated/train_set/images/0.jpg", "no_human_annotated/images/0.jpg"}
    for least, kept in ((0.0, {"human_annotated/train_set/images/0.jpg"}), (0.6, set())):
        clean(pointer, least_agreement=least)
        assert {one["image"] for one in annotations()} & copies == kept


def test_a_box_partly_outside_is_kept_as_annotated(workspace: Path) -> None:
    root = workspace / "root"
    for number in range(2):
        noise(images_2017(root) / "1" / f"{number}.jpg", number)
    clean(write_2017(root, [row("1/0.jpg", box="-20,-5,90,120"), *others(root)], [row("1/1.jpg")]))
    first = next(entry for entry in annotations() if entry["image"].endswith("1/0.jpg"))
    assert [first[edge] for edge in ("left", "top", "right", "bottom")] == [-20, -5, 70, 115]


def test_minus_two_is_absent_and_never_a_value(workspace: Path) -> None:
    root = workspace / "root"
    for number in range(2):
        noise(images_2017(root) / "1" / f"{number}.jpg", number)
    clean(write_2017(root, [row("1/0.jpg", va="-2,-2"), *others(root)], [row("1/1.jpg")]))
    first = next(entry for entry in annotations() if entry["image"].endswith("1/0.jpg"))
    assert (first["valence"], first["arousal"]) == (None, None)


def copies(root: Path) -> Pointer:
    """a: original; b: its bytes again; c: re-encoded smaller; d: same bytes, other label; t: in the test list."""
    images = images_2017(root) / "1"
    for number, name in enumerate(["a", "d", "t", "u"]):
        noise(images / f"{name}.jpg", number, 200)
    for source, copy in (("a", "b"), ("d", "e"), ("t", "t2")):
        (images / f"{copy}.jpg").write_bytes((images / f"{source}.jpg").read_bytes())
    for source, copy in (("a", "c"), ("t", "t3")):
        Image.open(images / f"{source}.jpg").resize((180, 180)).save(images / f"{copy}.jpg", quality=80)
    training = [row(f"1/{name}.jpg", expression=code) for name, code in zip("abcde", (1, 1, 1, 2, 3), strict=True)]
    training += [row(f"1/{name}.jpg") for name in ("t2", "t3", "t", "u")]
    return write_2017(root, [*training, *others(root)], [row("1/t.jpg")])


def test_copies_are_distinguished_and_test_is_never_thinned(workspace: Path) -> None:
    _, counts = clean(copies(workspace / "root"))
    assert rejected() == {
        ("training.csv", 2): "exact_duplicate",
        ("training.csv", 4): "contradictory_duplicate",
        ("training.csv", 5): "contradictory_duplicate",
        ("training.csv", 6): "copy_of_test",
        ("training.csv", 7): "near_duplicate_of_test",
        ("training.csv", 8): "listed_in_test",
    }
    assert sum(counts["by_split"]["test"].values()) == 1
    group = {Path(entry["image"]).stem: entry["group"] for entry in annotations()}
    assert group["a"] == group["c"] != group["u"]


def test_near_duplicates_never_stand_on_both_sides_of_the_cut(workspace: Path) -> None:
    root, rows = workspace / "root", []
    for number in range(60):
        path = images_2017(root) / "1" / f"{number}.jpg"
        noise(path, number // 3, 200)
        if number % 3:
            Image.open(path).resize((200 - 10 * (number % 3),) * 2).save(path, quality=85)
        rows.append(row(f"1/{number}.jpg", expression=number // 3 % 4))
    noise(images_2017(root) / "1" / "t.jpg", 999)
    clean(write_2017(root, rows, [row("1/t.jpg")]), validation_share=0.3)
    splits: dict[int, set[str]] = {}
    for entry in annotations():
        splits.setdefault(entry["group"], set()).add(entry["split"])
    assert all(len(codes) == 1 for codes in splits.values())
    assert Counter(entry["split"] for entry in annotations()) == {"train": 36, "validation": 24, "test": 1}


def test_a_cut_that_leaves_validation_without_a_face_is_one_line(workspace: Path) -> None:
    root = workspace / "root"
    for name in ("0", "1", "2"):
        noise(images_2017(root) / "1" / f"{name}.jpg", 0, 200 - int(name))
    noise(images_2017(root) / "1" / "t.jpg", 1)
    rows = [row(f"1/{number}.jpg") for number in range(3)]
    with pytest.raises(UserError, match=r"^clean\.validation_share: none of 3 training faces can go to validation, .*; add photographs"):
        clean(write_2017(root, rows, [row("1/t.jpg")]))


def test_test_without_a_face_is_one_line(workspace: Path) -> None:
    root = workspace / "root"
    noise(images_2017(root) / "1" / "t.jpg", 2)
    with pytest.raises(UserError, match=r"no face is left for test; see metrics/clean\.json"):
        clean(write_2017(root, others(root), [row("1/t.jpg", expression=9)]))
    assert metrics("clean")["rejected_by"] == {"expression_uncertain": 1}


def test_expressions_that_a_split_lacks_are_in_the_line(workspace: Path) -> None:
    root = workspace / "root"
    noise(images_2017(root) / "1" / "lonely.jpg", 1)
    noise(images_2017(root) / "1" / "t.jpg", 2)
    line, counts = clean(write_2017(root, [row("1/lonely.jpg", expression=2), *others(root)], [row("1/t.jpg")]))
    assert line.endswith(
        "; WARNING: validation holds no face of Sad (1 in train); test holds no face of Sad (1 in train), Contempt (1 in train); "
        "train holds no face of Neutral (1 in test)"
    )
    assert counts["by_split"]["train"]["Sad"] == 1


def test_the_cut_follows_the_seed_and_is_stratified(workspace: Path) -> None:
    pointer = tree_2017(workspace / "root", each=20)
    clean(pointer, seed=1)
    first = Path("data/annotations.parquet").read_bytes()
    clean(pointer, seed=1)
    assert Path("data/annotations.parquet").read_bytes() == first
    _, counts = clean(pointer, seed=2)
    assert Path("data/annotations.parquet").read_bytes() != first
    assert set(counts["by_split"]["validation"].values()) == {3}


def test_a_validation_split_of_its_own_is_kept_and_nothing_is_cut(workspace: Path) -> None:
    pointer = tree_folder(workspace / "root")
    noise(workspace / "root" / "test" / "happy" / "a.jpg", 12345)
    splits = {"train": "train", "validation": "validation", "test": "test"}
    _, counts = clean(Pointer("folder", pointer.root, classes=pointer.classes, splits=splits))
    assert {split: sum(by.values()) for split, by in counts["by_split"].items()} == {"train": 42, "validation": 14, "test": 1}


def test_a_validation_split_that_is_test_again_is_said(workspace: Path) -> None:
    pointer = tree_folder(workspace / "root")
    shutil.copytree(workspace / "root" / "validation", workspace / "root" / "test")
    splits = {"train": "train", "validation": "validation", "test": "test"}
    line, counts = clean(Pointer("folder", pointer.root, classes=pointer.classes, splits=splits))
    assert counts["rejected_by"] == {"copy_of_test": 14} and sum(counts["by_split"]["validation"].values()) == 7
    assert "WARNING: no face is left of the download's own validation split, 14 rejected, so validation is cut from" in line


def test_photographs_that_are_added_leave_the_cut_test_as_it_is(workspace: Path) -> None:
    names, root, tests = ("Happy", "Sad", "Fear"), workspace / "root", []
    for number in range(120):
        noise(root / names[number % 3] / f"{number:03d}.jpg", number, 48)
    pointer = Pointer("folder", str(root), classes={name: name for name in names}, splits={"train": "train"}, test_share=0.2)
    for added in range(3):
        clean(pointer)
        tests.append({one["image"] for one in annotations() if one["split"] == "test"})
        noise(root / "Sad" / f"{added:03d}_added.jpg", 9000 + added, 48)
    assert [len(test) for test in tests] == [24] * 3
    assert all(len(tests[0] & test) >= 23 for test in tests)


def test_an_expression_named_twice_is_refused() -> None:
    document = read_document(ROOT / "params.yaml")
    document["clean"]["expressions"] = ["Happy", "Sad", "Happy"]
    with refused("clean.expressions: names Happy more than once"):
        parse(document, "clean", CleanParams)


def test_expressions_left_out_are_counted(workspace: Path) -> None:
    _, counts = clean(tree_2017(workspace / "root"), expressions=[name for name in EXPRESSIONS if name != "Contempt"])
    assert counts["rejected_by"] == {"expression_left_out": 8}


def test_affectnet_7_keeps_what_affectnet_8_keeps_less_contempt(workspace: Path) -> None:
    pointer = tree_2017(workspace / "root")
    listing = workspace / "root" / "Manually_Annotated_file_lists" / "training.csv"
    lines = listing.read_text().splitlines()
    doubted = next(line for line in lines if line.endswith("1,{},{}".format(*CLASS_MEANS[1])))
    listing.write_text("\n".join([*lines, doubted.removesuffix("1,{},{}".format(*CLASS_MEANS[1])) + "7,-2,-2"]) + "\n")
    kept = []
    for expressions in (None, [name for name in EXPRESSIONS if name != "Contempt"]):
        _, counts = clean(pointer, expressions=expressions)
        assert counts["rejected_by"]["contradictory_duplicate"] == 2
        kept.append(
            {(one["list"], one["row"], one["split"]) for one in annotations() if one["expression"] != EXPRESSIONS.index("Contempt")}
        )
    assert kept[0] == kept[1]


def permuted_2017(root: Path, order: Sequence[int]) -> Pointer:
    """64 faces, whose valence and arousal are those of the expression order[code]."""
    rows = []
    for number in range(64):
        noise(images_2017(root) / "1" / f"{number}.jpg", number)
        rows.append(row(f"1/{number}.jpg", expression=number % 8, va="{},{}".format(*CLASS_MEANS[order[number % 8]])))
    return write_2017(root, rows[:56], rows[56:])


def test_a_permuted_label_order_is_reported(workspace: Path) -> None:
    line, counts = clean(permuted_2017(workspace / "root", [0, 1, 2, 6, 4, 5, 3, 7]))  # as in several circulating copies
    assert counts["label_order_warnings"] == 1
    assert "WARNING" in line and "Surprise looks like Anger" in line and "Anger looks like Surprise" in line
    line, counts = clean(tree_2021(workspace / "other"))
    assert counts["label_order_warnings"] == 0 and "WARNING" not in line


def test_a_permuted_label_order_is_reported_where_emonets_rules_reject_the_faces_that_betray_it(workspace: Path) -> None:
    line, counts = clean(permuted_2017(workspace / "root", [0, 2, 1, 3, 4, 5, 6, 7]), emonet_rules=True)
    assert counts["rejected_by"] == {"emonet_rules": 16} and counts["label_order_warnings"] == 1 and "Happy looks like Sad" in line


def test_emonets_rules_reject_what_contradicts_them(workspace: Path) -> None:
    root, values = workspace / "root", {0: "0.5,0.5", 1: "-0.5,0.1", 2: "-0.6,-0.2", 6: "-0.4,-0.5", 7: "0.5,0.5"}
    for number in range(6):
        noise(images_2017(root) / "1" / f"{number}.jpg", number)
    rows = [row(f"1/{number}.jpg", expression=code, va=va) for number, (code, va) in enumerate(values.items())]
    _, counts = clean(write_2017(root, [*rows, *others(root)], [row("1/5.jpg")]), emonet_rules=True)
    assert counts["rejected_by"] == {"emonet_rules": 4} and counts["kept"] == 4


def test_a_list_that_changed_after_verify_is_refused(workspace: Path) -> None:
    pointer = tree_2017(workspace / "root")
    clean(pointer)
    listing = workspace / "root" / "Manually_Annotated_file_lists" / "training.csv"
    listing.write_text(listing.read_text() + row("1/new.jpg") + "\n")
    with pytest.raises(UserError, match="annotation files have changed since verify read them"):
        run_stage("clean")


def test_a_list_of_the_same_size_and_time_is_read_again_by_the_command_that_the_message_names(workspace: Path) -> None:
    pointer = tree_2017(workspace / "root")
    for path in (workspace / "root").rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    clean(pointer)
    listing = workspace / "root" / "Manually_Annotated_file_lists" / "training.csv"
    listing.write_text(listing.read_text().replace("0.672,0.081", "0.762,0.801", 1))
    os.utime(listing, ns=(10**18, 10**18))
    with pytest.raises(UserError, match="run `dvc repro -f verify`, which reads every file again"):
        clean(pointer)
    assert clean(pointer)[1]["kept"] == 64


@pytest.mark.parametrize(
    ("orientation", "box", "kept"), [(6, "10,120,70,70", 1), (6, "120,10,70,70", 0), (1, "10,120,70,70", 0), (1, "120,10,70,70", 1)]
)
def test_boxes_are_judged_by_the_photograph_as_it_is_shown(workspace: Path, orientation: int, box: str, kept: int) -> None:
    root = workspace / "root"
    path = images_2017(root) / "1" / "wide.jpg"
    noise(path, 1, 200)
    image = Image.fromarray(np.asarray(Image.open(path))[:100])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    noise(images_2017(root) / "1" / "t.jpg", 2)
    _, counts = clean(write_2017(root, [row("1/wide.jpg", box=box), *others(root)], [row("1/t.jpg")]))
    assert counts["rejected_by"] == ({} if kept else {"box_beyond": 1})
