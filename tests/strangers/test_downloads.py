"""Downloads in circulation, from params.yaml to the crops: each is read, or recognised as another layout."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chain import annotations, metrics, rejected, run_stage
from PIL import Image
from trees import encoded, features, noise, smooth

from affectnet.errors import UserError
from affectnet.expressions import CODES
from affectnet.params import parse, read_document
from affectnet.tables.annotations import REJECTED
from affectnet.tables.face_shards import FACES
from stages.acquire import AcquireParams

ALPHABETICAL = ["Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]
STAGES = ("acquire", "verify", "clean", "crop")


def entry(name: str, root: Path, **changes: Any) -> dict[str, Any]:
    """An entry of the shipped `datasets` with the root of a copy, changed."""
    shipped: dict[str, Any] = read_document()["datasets"][name]
    return {**shipped, "root": str(root), "expected": None, **changes}


def run(name: str, root: Path, stages: tuple[str, ...] = STAGES, **changes: Any) -> dict[str, str]:
    """The summary line of each stage over the copy; checks read = kept + rejected."""
    selected = {"dataset": entry(name, root, **changes), "dataset_name": name}
    changes_by_stage: dict[str, dict[str, Any]] = {"acquire": selected, "verify": {"tolerance": 1.0}}
    said = {stage: run_stage(stage, **changes_by_stage.get(stage, {})) for stage in stages}
    if "clean" in stages:
        counts = metrics("clean")
        assert counts["read"] == counts["kept"] + counts["rejected"] == len(annotations()) + len(rejected())
    return said


def crops(split: str) -> list[dict[str, Any]]:
    return [row for path in sorted(Path("data/faces").glob(f"{split}-*")) for row in FACES.read(path).to_pylist()]


def yolo(root: Path) -> None:
    """A copy for detectors: class numbers in alphabetical order, photographs of two aspect ratios."""
    for part, split in enumerate(("train", "valid", "test")):
        for number in range(32):
            seed, stem = 100 * part + number, f"image{number:07d}"
            noise(root / split / "images" / f"{stem}.jpg", seed, 96)
            (root / split / "labels").mkdir(exist_ok=True)
            (root / split / "labels" / f"{stem}.txt").write_text(f"{number % 8} 0.5 0.5 0.9 0.9\n")
    names = ", ".join(f"'{name}'" for name in ALPHABETICAL)
    (root / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnc: 8\nnames: [{names}]\n")


def fer2013_csv(root: Path) -> None:
    root.mkdir()
    with (root / "fer2013.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for number in range(40):
            pixels = np.asarray(smooth(number, 48).convert("L")).ravel()
            usage = "Training" if number < 28 else "PublicTest" if number < 34 else "PrivateTest"
            writer.writerow([number % 7, " ".join(map(str, pixels)), usage])


def huggingface(root: Path, names: list[str] | None, splits: tuple[str, ...] = ("train", "test")) -> None:
    (root / "data").mkdir(parents=True)
    for part, split in enumerate(splits):
        images = [{"bytes": encoded(smooth(100 * part + number, 96)), "path": None} for number in range(40)]
        table = pa.table({"image": images, "label": [number % 8 for number in range(40)]})
        path = root / "data" / f"{split}-00000-of-00001.parquet"
        pq.write_table(table.replace_schema_metadata(features(names) if names else None), path)


def raf_official(root: Path) -> None:
    (root / "EmoLabel").mkdir(parents=True)
    with (root / "EmoLabel" / "list_patition_label.txt").open("w") as file:
        for part, (split, count) in enumerate((("train", 20), ("test", 10))):
            for number in range(count):
                name = f"{split}_{number:05d}"
                file.write(f"{name}.jpg {number % 7 + 1}\n")
                noise(root / "Image" / "aligned" / f"{name}_aligned.jpg", 100 * part + number, 100)


def raf_folders(root: Path) -> None:
    """A copy from Kaggle, in numbered folders."""
    for part, split in enumerate(("train", "test")):
        for number in range(28):
            noise(root / split / str(number % 7 + 1) / f"{split}_{number}.jpg", 100 * part + number, 100)


def test_a_yolo_copy_has_the_expressions_of_its_data_yaml_and_its_boxes_in_px(workspace: Path) -> None:
    yolo(workspace / "own")
    image = Image.open(workspace / "own" / "train" / "images" / "image0000000.jpg").resize((120, 60))
    image.save(workspace / "own" / "train" / "images" / "image0000000.jpg")
    said = run("yolo", workspace / "own")
    assert "96 kept (train 32, validation 32, test 32), 0 rejected" in said["clean"]
    rows = {row["image"]: row for row in annotations()}
    for number, name in enumerate(ALPHABETICAL):
        assert rows[f"test/images/image{number:07d}.jpg"]["expression"] == CODES[name]
    box = [rows[f"train/images/image{number:07d}.jpg"][edge] for number in (0, 1) for edge in ("left", "top", "right", "bottom")]
    assert box == pytest.approx([6, 3, 114, 57, 4.8, 4.8, 91.2, 91.2], abs=1e-4)
    assert metrics("clean")["without_box"] == 0 and len(crops("train")) == 32


def test_faults_of_a_yolo_copy_are_counted(workspace: Path) -> None:
    yolo(workspace / "own")
    labels, images = (workspace / "own" / "train" / kind for kind in ("labels", "images"))
    (labels / "image0000000.txt").write_text("0 0.3 0.3 0.4 0.4\n3 0.7 0.7 0.4 0.4\n")
    (labels / "image0000001.txt").write_text("")
    (labels / "image0000002.txt").write_text("9 0.5 0.5 0.9 0.9\n")
    (labels / "image0000003.txt").write_text("3 0.5 0.5\n")
    (labels / "image0000004.txt").write_text("4 0.5 0.5 0 0\n")
    (labels / "image0000005.txt").write_text("4 1.9 0.5 0.5 0.5\n")
    (images / "image0000006.jpg").unlink()
    (images / "image0000007.jpg").write_bytes(b"")
    said = run("yolo", workspace / "own")
    assert "97 rows read, 90 kept" in said["clean"]
    assert rejected() == {
        ("image0000001.txt", 1): "expression_no_face",
        ("image0000002.txt", 1): "expression_unknown",
        ("image0000003.txt", 1): "malformed",
        ("image0000004.txt", 1): "box_empty",
        ("image0000005.txt", 1): "box_beyond",
        ("image0000006.txt", 1): "missing",
        ("image0000007.txt", 1): "empty",
    }


def test_fer2013s_csv_is_read_with_its_three_usages(workspace: Path) -> None:
    fer2013_csv(workspace / "own")
    before = (workspace / "own" / "fer2013.csv").read_bytes()
    said = run("fer2013_csv", workspace / "own")
    assert "40 rows read, 40 kept (train 28, validation 6, test 6), 0 rejected" in said["clean"]
    assert [(face["width"], face["height"]) for face in crops("test")] == [(48, 48)] * 6
    assert (workspace / "own" / "fer2013.csv").read_bytes() == before and len(list((workspace / "own").iterdir())) == 1
    said = run("fer2013_csv", workspace / "own", test="PublicTest", other="unused")
    assert "40 rows read" in said["clean"] and "test 6), 6 rejected (left_out 6)" in said["clean"]


def test_faults_of_fer2013s_csv_are_counted(workspace: Path) -> None:
    fer2013_csv(workspace / "own")
    file = workspace / "own" / "fer2013.csv"
    lines = file.read_text().splitlines()
    lines[1] = lines[1].replace(",Training", " 7,Training")
    lines[2] = f"9{lines[2][1:]}"
    lines[3] = "broken"
    lines[4] = lines[5]
    file.write_text("\n".join(lines))
    run("fer2013_csv", workspace / "own")
    assert rejected() == {
        ("fer2013.csv", 1): "malformed",
        ("fer2013.csv", 2): "expression_unknown",
        ("fer2013.csv", 3): "malformed",
        ("fer2013.csv", 5): "exact_duplicate",
    }


def test_parquet_shards_of_hugging_face_are_read_with_the_names_of_their_features(workspace: Path) -> None:
    huggingface(workspace / "own", ALPHABETICAL)
    said = run("huggingface", workspace / "own")
    assert "80 rows read, 80 kept" in said["clean"] and "test as test, train as train; images unpacked to" in said["acquire"]
    test = {row["row"]: row["expression"] for row in annotations() if row["split"] == "test"}
    assert [test[number] for number in range(1, 9)] == [CODES[name] for name in ALPHABETICAL]
    assert len(crops("test")) == 40


def test_numbers_without_names_are_mapped_by_the_user_and_never_guessed(workspace: Path) -> None:
    huggingface(workspace / "own", None)
    with pytest.raises(UserError, match=r"datasets\.huggingface\.classes does not map, 8: 0, 1, 2, 3, 4, 5, 6, 7; add them there"):
        run("huggingface", workspace / "own", ("acquire",))
    run("huggingface", workspace / "own", classes={str(number): name for number, name in enumerate(ALPHABETICAL)})
    test = {row["row"]: row["expression"] for row in annotations() if row["split"] == "test"}
    assert [test[number] for number in range(1, 9)] == [CODES[name] for name in ALPHABETICAL]


def test_shards_of_train_only_have_a_share_cut_off_as_test_on_request(workspace: Path) -> None:
    """A data set of the Hub with one split, and label numbers without names."""
    huggingface(workspace / "own", None, ("train",))
    classes = {str(number): name for number, name in enumerate(ALPHABETICAL)}
    with pytest.raises(UserError, match=r"nothing for the split test, there are 1: train; .*datasets\.huggingface\.test_share"):
        run("huggingface", workspace / "own", ("acquire",), classes=classes)
    said = run("huggingface", workspace / "own", classes=classes, test_share=0.2)
    assert "train as train, 0.2 of train to be cut off as test; images unpacked to" in said["acquire"]
    assert "40 rows read, 40 kept (train 24, validation 8, test 8)" in said["clean"]


def test_faults_of_parquet_shards_are_counted(workspace: Path) -> None:
    huggingface(workspace / "own", ALPHABETICAL)
    path = workspace / "own" / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["image"]["bytes"] = None
    rows[1]["image"]["bytes"] = b""
    rows[2]["image"]["bytes"] = b"<html>"
    rows[3]["image"]["bytes"] = rows[3]["image"]["bytes"][:-300]
    rows[4]["image"] = None
    rows[5]["label"] = -1
    rows[6]["label"] = None
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    run("huggingface", workspace / "own")
    reasons = ["missing", "empty", "not_an_image", "truncated", "missing", "expression_unknown", "expression_unknown"]
    assert rejected() == {(path.name, number): reason for number, reason in enumerate(reasons, 1)}
    details = {row["row"]: row["detail"] for row in REJECTED.read(Path("data/rejected.parquet")).to_pylist()}
    assert details[1] == "no bytes; path None" and details[6] == "label -1, which has no name"


def test_raf_dbs_official_archive_is_read(workspace: Path) -> None:
    raf_official(workspace / "own")
    said = run("raf_db", workspace / "own")
    assert "30 kept" in said["clean"] and "0 rejected" in said["clean"] and len(crops("test")) == 10
    order = ["Surprise", "Fear", "Disgust", "Happy", "Sad", "Anger", "Neutral"]
    assert [row["expression"] for row in annotations() if row["split"] == "test"][:7] == [CODES[name] for name in order]
    with pytest.raises(UserError, match=r"expected one folder original with images below it, there is none; unpack original.zip"):
        run("raf_db", workspace / "own", ("acquire",), images="original")


TREES: dict[str, Callable[[Path], None]] = {
    "yolo": yolo,
    "fer2013_csv": fer2013_csv,
    "huggingface": lambda root: huggingface(root, ALPHABETICAL),
    "raf_db": raf_official,
    "folder": raf_folders,
}


@pytest.mark.parametrize("layout", ["affectnet2017", "affectnet2021", "affectnet_plus", "folder", "fer2013"])
@pytest.mark.parametrize("tree", TREES)
def test_what_another_entry_is_pointed_at_is_named_and_nothing_is_written(workspace: Path, layout: str, tree: str) -> None:
    TREES[tree](workspace / "own")
    with pytest.raises(UserError) as caught:
        run(layout, workspace / "own", ("acquire",))
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    named = f"select dataset: {tree} and give datasets.{tree}.root"
    assert named in str(caught.value) or (tree == "folder" and layout in {"folder", "fer2013"})
    assert not (workspace / "data" / "raw").exists()


def test_unpacked_images_that_are_gone_are_one_line_for_each_stage_and_acquire_makes_them(workspace: Path) -> None:
    fer2013_csv(workspace / "own")
    said = run("fer2013_csv", workspace / "own")
    (images,) = (path for path in (workspace / ".dvc" / "tmp" / "affectnet" / "unpacked").iterdir() if path.is_dir())
    assert str(images) in said["acquire"]
    whole = Path("data/inventory.parquet").read_bytes()
    images.rename(workspace / "gone")
    for stage in ("verify", "clean", "crop"):
        with pytest.raises(UserError, match=r"run `dvc repro -f acquire`"):
            run_stage(stage)
    run("fer2013_csv", workspace / "own")
    assert Path("data/inventory.parquet").read_bytes() == whole


@pytest.mark.parametrize("name", read_document(Path(__file__).parents[2] / "params.yaml")["datasets"])
def test_every_shipped_entry_is_read_as_its_class(name: str) -> None:
    document = read_document(Path(__file__).parents[2] / "params.yaml")
    assert parse({**document, "dataset": name}, "acquire", AcquireParams).dataset.layout == document["datasets"][name]["layout"]
