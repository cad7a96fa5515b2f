"""Downloads on users' disks: class folders with and without splits, hidden files, archives unpacked twice."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from chain import ROOT, local, metrics, refused, run_stage
from trees import noise

from affectnet.errors import UserError
from affectnet.expressions import CLASS_MEANS
from affectnet.params import parse, read_document
from affectnet.predict.image_folder import class_folders, with_labels
from stages import acquire

NAMES = ("anger", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")


@dataclass(frozen=True)
class Lines:
    """The summary lines of acquire, verify and clean over a download."""

    acquire: str
    verify: str
    clean: str


def acquired(root: Path, dataset: str = "folder", **changes: Any) -> str:
    """Runs acquire over the download with the shipped entry of the data set, changed; returns its line."""
    document = read_document(ROOT / "params.yaml")
    document["dataset"] = dataset
    document["datasets"][dataset] = {**document["datasets"][dataset], "root": str(root), "expected": None, **changes}
    return acquire.run(parse(document, "acquire", acquire.AcquireParams), local(), Path("no-record.json"), raw=Path("data/raw"))


def tried(root: Path, dataset: str = "folder", **changes: Any) -> Lines:
    lines = Lines(acquired(root, dataset, **changes), run_stage("verify"), run_stage("clean"))
    run_stage("crop")
    return lines


def splits() -> dict[str, int]:
    return {split: sum(by.values()) for split, by in metrics("clean")["by_split"].items()}


def folders(root: Path, splits: Sequence[str] = ("train", "test"), names: Sequence[str] = NAMES, each: int = 4) -> Path:
    """`each` faces in each class folder of each split; the split '' is the root."""
    for number, (split, name, face) in enumerate((s, n, f) for s in splits for n in names for f in range(each)):
        noise(root / split / name / f"{split}{name}{face}.jpg", number + 7000, 64)
    return root


def sets(root: Path, **counts: int) -> Path:
    """AffectNet's release of 2021: the number of faces per expression of each set, by its folder, `/` as `__`."""
    for number, (folder, count) in enumerate(counts.items()):
        path = root / folder.replace("__", "/")
        (path / "annotations").mkdir(parents=True)
        for face in range(8 * count):
            noise(path / "images" / f"{face}.jpg", 1000 * number + face, 64)
            valence, arousal = CLASS_MEANS[face % 8]
            values: dict[str, Any] = {"exp": face % 8, "val": valence, "aro": arousal, "lnd": np.linspace(5, 60, 136)}
            for kind, value in values.items():
                np.save(path / "annotations" / f"{face}_{kind}.npy", value)
    return root


def hide(root: Path) -> Path:
    """Writes 5 files that macOS, Jupyter and a file manager leave between the photographs."""
    for name in ("__MACOSX/train/happy/._a.jpg", "train/happy/._trainhappy0.jpg", "train/sad/.DS_Store"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        " + bytes(80))
    noise(root / ".ipynb_checkpoints" / "train" / "happy" / "a-checkpoint.jpg", 1)
    noise(root / "train" / ".ipynb_checkpoints" / "b-checkpoint.jpg", 2)
    return root


def test_images_below_their_class_folder_are_read(workspace: Path) -> None:
    for number, (split, name, subject) in enumerate((s, n, f) for s in ("train", "test") for n in NAMES for f in range(4)):
        noise(workspace / "root" / split / name / f"S{subject:03d}" / "1" / "0.jpg", number, 64)
    noise(workspace / "root" / "train" / "happy" / "x.jpg", 999, 64)
    lines = tried(workspace / "root")
    assert splits() == {"train": 25, "validation": 8, "test": 32}
    assert "64 images in folders below their class folder" in lines.acquire


@pytest.mark.parametrize("inner", ["train/happy/sad", "train/happy/test", "train/happy/2019/unclear"])
def test_a_folder_of_another_class_within_a_class_folder_is_refused(workspace: Path, inner: str) -> None:
    noise(folders(workspace / "root") / inner / "a.jpg", 1)
    classes = {**read_document(ROOT / "params.yaml")["datasets"]["folder"]["classes"], "unclear": None}
    with pytest.raises(UserError, match=f"below the class folder train/happy are folders named as .*1: {inner}; move them"):
        acquired(workspace / "root", classes=classes)


def test_a_download_that_lists_no_image_of_a_split_is_an_error_of_verify(workspace: Path) -> None:
    for split in ("train", "test"):
        for name in NAMES:
            (workspace / "root" / split / name).mkdir(parents=True)
    noise(workspace / "root" / "train" / "loose.jpg", 1)
    assert "class folders without an image, 16: train/anger, " in acquired(workspace / "root")
    with pytest.raises(UserError) as caught:
        run_stage("verify")
    assert [problem.split("no image is listed for the split ")[1].split(";")[0] for problem in caught.value.problems] == ["train", "test"]
    assert "1 are images that no list names; see datasets.folder" in caught.value.problems[0]


@pytest.mark.parametrize(
    ("names", "expected", "said"),
    [
        (("train", "val", "test"), {"train": 32, "validation": 32, "test": 32}, "train as train, val as validation, test as test"),
        (("train", "val"), {"train": 24, "validation": 8, "test": 32}, "train as train, val as test"),
        (("Train", "Test"), {"train": 24, "validation": 8, "test": 32}, "Train as train, Test as test"),
    ],
)
def test_val_is_validation_when_test_is_there_and_the_line_says_so(
    workspace: Path, names: tuple[str, ...], expected: dict[str, int], said: str
) -> None:
    assert said in tried(folders(workspace / "root", names)).acquire
    assert splits() == expected


def test_null_in_the_maps_passes_over_and_says_so(workspace: Path) -> None:
    folders(workspace / "root", ("train", "test", "extra"), (*NAMES, "unclear"))
    shipped = read_document(ROOT / "params.yaml")["datasets"]["folder"]
    maps: dict[str, Any] = {"classes": {**shipped["classes"], "unclear": None}, "splits": {**shipped["splits"], "extra": None}}
    lines = tried(workspace / "root", **maps)
    assert "skipped, 3: extra, train/unclear, test/unclear" in lines.acquire
    assert "44 unreferenced, 44 of them images" in lines.verify
    assert metrics("clean")["read"] == 64 and (metrics("verify")["unreferenced"], metrics("verify")["unreferenced_images"]) == (44, 44)


def test_hidden_files_and_folders_are_other_files_and_counted(workspace: Path) -> None:
    lines = tried(hide(folders(workspace / "root")))
    assert "64 images listed: 64 ok" in lines.verify and "5 unreferenced, 0 of them images" in lines.verify
    kinds = dict(zip(*(pq.read_table("data/inventory.parquet")[name].to_pylist() for name in ("path", "kind")), strict=True))
    assert kinds["train/happy/._trainhappy0.jpg"] == kinds[".ipynb_checkpoints/train/happy/a-checkpoint.jpg"] == "other"


def test_hidden_files_of_2021_are_no_annotations(workspace: Path) -> None:
    root = sets(workspace / "root", train_set=4, val_set=2)
    (root / "__MACOSX" / "train_set" / "images").mkdir(parents=True)
    (root / "__MACOSX" / "train_set" / "annotations").mkdir()
    for name in ("images/._0.jpg", "annotations/._0_exp.npy"):
        (root / "train_set" / name).write_bytes(b"\0\5\26\7")
    assert "2 unreferenced, 0 of them images" in tried(root, "affectnet2021").verify
    assert metrics("clean")["kept"] == 48


def test_classes_without_splits_name_the_param_that_cuts_test(workspace: Path) -> None:
    folders(workspace / "root", [""], each=10)
    with pytest.raises(UserError, match=r"only class folders, 8: anger, .* set datasets.folder.test_share, as to 0.2"):
        acquired(workspace / "root")
    lines = tried(workspace / "root", test_share=0.2)
    assert "all as train, 0.2 of train to be cut off as test" in lines.acquire and "datasets.folder.test_share" in lines.clean
    assert splits() == {"train": 56, "validation": 8, "test": 16}
    assert set(metrics("clean")["by_split"]["test"].values()) == {2}


def test_near_duplicates_stay_together_when_test_is_cut(workspace: Path) -> None:
    """Pairs of one photograph in two qualities: no pair is in two splits."""
    for number, name in enumerate(NAMES * 10):
        path = workspace / "root" / name
        noise(path / f"{number}.png", number, 64)
        noise(path / f"{number}.jpg", number, 64)
    tried(workspace / "root", test_share=0.3, classes={name: name.capitalize() for name in NAMES})
    rows = pq.read_table("data/annotations.parquet", columns=["image", "split"]).to_pylist()
    splits_of_pair: dict[str, set[str]] = {}
    for row in rows:
        splits_of_pair.setdefault(Path(row["image"]).stem, set()).add(row["split"])
    assert len(rows) == 160 and all(len(of_pair) == 1 for of_pair in splits_of_pair.values())
    assert 32 <= splits()["test"] <= 48 and splits()["validation"] > 0


def test_train_and_validation_with_a_test_share_keep_validation(workspace: Path) -> None:
    tried(folders(workspace / "root", ("train", "val"), each=10), test_share=0.2)
    assert splits() == {"train": 64, "validation": 80, "test": 16}


def test_a_test_share_next_to_a_test_folder_is_refused(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"datasets.folder.test_share: 0.2, but .* has a test split, .*; set it to null"):
        acquired(folders(workspace / "root"), test_share=0.2)


@pytest.mark.parametrize("archive", ["archive/AffectNet", "a/b/c"])
def test_a_root_above_the_splits_is_read_from_the_one_folder_below(workspace: Path, archive: str) -> None:
    folders(workspace / "root" / archive)
    assert f"{archive}/train as train, {archive}/test as test" in tried(workspace / "root").acquire


def test_splits_unpacked_into_folders_of_their_name_are_read(workspace: Path) -> None:
    folders(workspace / "root")
    for split in ("train", "test"):
        (workspace / "root" / split).rename(workspace / "inner")
        (workspace / "root" / split).mkdir()
        (workspace / "inner").rename(workspace / "root" / split / split)
    tried(workspace / "root")
    assert splits() == {"train": 24, "validation": 8, "test": 32}


def test_a_root_with_other_folders_next_to_the_splits_names_the_one_to_set(workspace: Path) -> None:
    folders(workspace / "root" / "kaggle" / "faces")
    noise(workspace / "root" / "holidays" / "a.jpg", 1)
    with pytest.raises(UserError, match=rf"set datasets.folder.root to the folder that holds them, as {workspace}/root/kaggle/faces"):
        acquired(workspace / "root")


def test_a_root_that_is_a_split_names_the_folder_above(workspace: Path) -> None:
    with pytest.raises(UserError, match=rf"or set datasets.folder.root to {workspace}/root"):
        acquired(folders(workspace / "root") / "train")


def test_numbers_as_keys_of_the_maps_are_folder_names(workspace: Path) -> None:
    folders(workspace / "root", names=list("01234567"))
    tried(workspace / "root", classes=dict(enumerate(name.capitalize() for name in NAMES)))
    assert metrics("clean")["kept"] == 64


def test_class_names_of_fer2013_as_kaggle_has_it_are_known(workspace: Path) -> None:
    folders(workspace / "root", names=["angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"])
    assert "split" not in tried(workspace / "root").acquire and metrics("clean")["kept"] == 56


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train_set__train_set", "val_set__val_set"), "train_set/train_set as train, val_set/val_set as test"),
        (("train", "val"), "train as train, val as test"),
        (("Train_Set", "Val_Set"), "Train_Set as train, Val_Set as test"),
        (("AffectNet__train_set", "AffectNet__validation_set"), "AffectNet/train_set as train, AffectNet/validation_set as test"),
    ],
)
def test_the_sets_of_2021_are_read_as_they_were_unpacked(workspace: Path, names: tuple[str, str], said: str) -> None:
    assert said in tried(sets(workspace / "root", **{names[0]: 8, names[1]: 2}), "affectnet2021").acquire
    assert splits() == {"train": 56, "validation": 8, "test": 16}


@pytest.mark.parametrize("names", [["val_set"], ["a__train_set", "b__train_set", "val_set"], ["nothing"]])
def test_half_a_download_of_2021_and_a_doubled_one_name_what_is_there(workspace: Path, names: list[str]) -> None:
    there = "there is neither" if names == ["nothing"] else f"there are {len(names)}: "
    with pytest.raises(UserError, match=rf"each with images/ and annotations/ in it, {there}.*; set datasets.affectnet2021.root"):
        acquired(sets(workspace / "root", **dict.fromkeys(names, 1)), "affectnet2021")


def test_other_maps_and_shares_change_what_clean_depends_on_and_another_place_does_not(workspace: Path) -> None:
    """DVC runs clean again only if the inventory's bytes differ, and clean reads the maps from data/raw."""
    contents = []
    folders(workspace / "root", each=2)
    shutil.copytree(workspace / "root", workspace / "elsewhere")
    classes = read_document(ROOT / "params.yaml")["datasets"]["folder"]["classes"]
    for root, changed in (("root", {}), ("elsewhere", {}), ("root", {"happy": "Sad", "sad": "Happy"})):
        acquired(workspace / root, classes={**classes, **changed})
        run_stage("verify")
        contents.append(Path("data/inventory.parquet").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_evaluate_takes_numbers_as_names_and_passes_hidden_folders_over(workspace: Path) -> None:
    hide(folders(workspace / "root", names=["0", "happy", "sad"]))
    classes = with_labels(["0=Anger"])
    read = class_folders(workspace / "root", "train", classes)
    assert [(folder.name, expression) for folder, expression in read] == [("0", "Anger"), ("happy", "Happy"), ("sad", "Sad")]


@pytest.mark.parametrize(
    ("mappings", "reason"),
    [
        (["0=Anger", "0=Fear"], "'0' is both anger and fear"),
        (["Mad=Anger", "mad=null"], "'mad' is both anger and null"),
        (["fer2013", "raf_db"], "fer2013 and raf_db, whose numbers contradict each other"),
    ],
)
def test_mappings_that_contradict_each_other_are_refused(mappings: list[str], reason: str) -> None:
    with refused(f"--labels: {reason}.*; give one of them$"):
        with_labels(mappings)
    for order in (["mad=Anger", "Mad=anger", "raf_db", "1=null"], ["1=null", "raf_db"]):
        assert with_labels(order)["1"] is None and with_labels(order)["2"] == "Fear"
