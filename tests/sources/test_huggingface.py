from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chain import refused
from trees import download_huggingface, encoded, features, smooth, unpacked_rows

from affectnet.errors import UserError
from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.sources.registry import open_layout
from affectnet.tables.source_pointer import Pointer

ALPHABETICAL = sorted(EXPRESSIONS)
JPEG, PNG = encoded(smooth(1, 64)), encoded(smooth(2, 64), "PNG")
SHARD = "train-00000-of-00001.parquet"


def shard(root: Path, images: list[Any], labels: list[Any], name: str = SHARD, names: list[str] | None = None, **changes: Any) -> Pointer:
    """A training shard with these columns and a valid test shard, and the pointer to both."""
    pointer = download_huggingface(root, 1, 1)
    for path in (root / "data").glob("train-*"):
        path.unlink()
    table = pa.table({"image": images, "label": labels})
    (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(features(names) if names else None), root / "data" / name)
    return replace(pointer, **changes)


def train(pointer: Pointer, folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    root, rows = unpacked_rows(pointer, folder)
    return root, [row for row in rows if row["split"] != "test"]


def test_names_of_labels_come_from_the_metadata_in_their_order(tmp_path: Path) -> None:
    _, rows = unpacked_rows(download_huggingface(tmp_path / "root"), tmp_path / "unpacked")
    assert Counter(row["split"] for row in rows) == {"train": 48, "test": 16}
    assert [row["expression"] for row in rows if row["split"] == "test"][:8] == [CODES[name] for name in ALPHABETICAL]
    lists = Counter(row["list"] for row in rows)
    assert lists["data/train-00000-of-00002.parquet"] == lists["data/train-00001-of-00002.parquet"] == 24


@pytest.mark.parametrize(
    ("image", "suffix"),
    [
        ({"bytes": JPEG, "path": None}, ".jpg"),
        ({"bytes": PNG, "path": None}, ".png"),
        ({"bytes": JPEG, "path": "a/face.JPEG"}, ".jpeg"),
        ({"bytes": JPEG}, ".jpg"),
        (JPEG, ".jpg"),
        (b"no image", ""),
    ],
)
def test_the_bytes_of_an_image_are_kept_and_its_suffix_is_its_own(tmp_path: Path, image: Any, suffix: str) -> None:
    root, rows = train(shard(tmp_path / "root", [image], ["Happy"]), tmp_path / "unpacked")
    assert (root / rows[0]["image"]).read_bytes() == (image if isinstance(image, bytes) else image["bytes"])
    assert Path(rows[0]["image"]).suffix == suffix and rows[0]["expression"] == CODES["Happy"]


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        (["happy", "Sad"], None, {"HAPPY": "Happy", "sad": "Sad"}),
        ([0, 1], ["happy", "Sad"], {"HAPPY": "Happy", "sad": "Sad"}),
        ([0, 1], None, {"0": "Happy", "1": "Sad"}),
        (pa.array(["happy", "sad"]).dictionary_encode(), None, {"happy": "Happy", "sad": "Sad"}),
        (pa.array([0, 1], pa.uint8()), ["happy", "sad"], {"happy": "Happy", "sad": "Sad"}),
    ],
)
def test_labels_are_text_or_numbers_by_metadata_or_by_the_users_map(tmp_path: Path, labels: Any, names: Any, classes: Any) -> None:
    of_test = {name: name for name in EXPRESSIONS}
    pointer = shard(tmp_path / "root", [JPEG, JPEG], labels, names=names, classes={**of_test, **classes})
    _, rows = train(pointer, tmp_path / "unpacked")
    assert [row["expression"] for row in rows] == [CODES["Happy"], CODES["Sad"]]


def test_odd_rows_keep_their_place_and_say_why(tmp_path: Path) -> None:
    images = [JPEG, None, JPEG, JPEG, JPEG, b"", JPEG]
    classes: dict[str, str | None] = {**{name: name for name in EXPRESSIONS}, "unclear": None}
    names = [*ALPHABETICAL, "unclear"]
    _, rows = train(shard(tmp_path / "root", images, [0, 1, -1, 9, 8, 2, None], names=names, classes=classes), tmp_path / "unpacked")
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["expression"] for row in rows] == [CODES["Anger"], CODES["Contempt"], None, None, None, CODES["Disgust"], None]
    assert [row["fault"] for row in rows] == [None, None, None, None, "left_out", None, None]
    said = [row["detail"] for row in rows]
    assert said[1] == "no bytes; path None" and said[2:5] == ["label -1, which has no name", "label 9, which has no name", "label unclear"]
    assert [row["image"] is None for row in rows] == [False] * 4 + [True] + [False] * 2


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.parquet", "train"),
        ("train-00000-of-00003-a1b2c3.parquet", "train"),
        ("faces_train_v2.parquet", "train"),
        ("default/train/0000.parquet", "train"),
        ("partial-train/0000.parquet", "train"),
        ("TRAIN/0000.PARQUET", "train"),
        ("validation-00000-of-00001.parquet", "validation"),
        ("train/validation.parquet", "validation"),
        ("extra-00000-of-00001.parquet", None),
    ],
)
def test_a_shards_split_is_in_its_name_or_its_folders(tmp_path: Path, name: str, split: str | None) -> None:
    splits = {"train": "train", "validation": "validation", "test": "test", "extra": None}
    pointer = shard(tmp_path / "root", [JPEG], ["Happy"], name, splits=splits)
    pq.write_table(pa.table({"image": [JPEG], "label": ["Sad"]}), tmp_path / "root" / "data" / "train-sound.parquet")
    _, rows = unpacked_rows(pointer, tmp_path / "unpacked")
    assert [(row["split"], row["fault"]) for row in rows if name in row["list"]] == [(split, None if split else "left_out")]


def test_validation_is_test_where_no_shard_is(tmp_path: Path) -> None:
    pointer = download_huggingface(tmp_path / "root")
    (path,) = (tmp_path / "root" / "data").glob("test-*")
    path.rename(path.with_name("validation-00000-of-00001.parquet"))
    _, rows = unpacked_rows(pointer, tmp_path / "unpacked")
    assert Counter(row["split"] for row in rows) == {"train": 48, "test": 16}


def test_a_set_that_is_left_out_and_names_of_another_form_need_no_further_shards(tmp_path: Path) -> None:
    pointer = shard(tmp_path / "root", [JPEG], ["Happy"], "train-1-of-3.parquet")
    pq.write_table(pa.table({"image": [JPEG], "label": ["Sad"]}), tmp_path / "root" / "data" / "extra-00001-of-00002.parquet")
    _, rows = train(replace(pointer, splits={**pointer.splits, "extra": None}), tmp_path / "unpacked")
    assert Counter(row["split"] for row in rows) == {None: 1, "train": 1}


def _shard_of(name: str, **columns: Any) -> Any:
    def change(root: Path) -> None:
        pq.write_table(pa.table(columns), root / "data" / name)

    return change


def _bytes_of(name: str, content: bytes) -> Any:
    def change(root: Path) -> None:
        (root / "data" / name).write_bytes(content)

    return change


def _cut(root: Path) -> None:
    for path in (root / "data").glob("*"):
        content = bytearray(path.read_bytes())
        content[4:2000] = bytes(1996)
        path.write_bytes(content)


def _empty(root: Path) -> None:
    for path in (root / "data").glob("*"):
        path.unlink()


def _no_test(root: Path) -> None:
    for path in (root / "data").glob("test*"):
        path.unlink()


def _part(root: Path) -> None:
    (root / "more").mkdir()
    (root / "data" / "train-00001-of-00002.parquet").rename(root / "more" / "TRAIN-00001-of-00003.PARQUET")


BROKEN: dict[str, tuple[Any, str]] = {
    "no shard": (_empty, "no Parquet file below it"),
    "no test": (_no_test, r"nothing for the split test, there are 1: train.*datasets\.huggingface\.test_share"),
    "no Parquet": (_bytes_of(SHARD, b"version https://git-lfs.github.com/spec/v1\n"), "unreadable Parquet"),
    "a suffix in two cases": (
        _shard_of("test-00000-of-00001.PARQUET", image=[JPEG], label=["Happy"]),
        "only in the case of its suffix",
    ),
    "an empty file": (_bytes_of(SHARD, b""), "unreadable Parquet"),
    "broken pages": (_cut, "unreadable Parquet"),
    "shards that are missing": (
        _part,
        r"some are missing, 3: data/train-00001-of-00002\.parquet, more/TRAIN-00000-of-00003\.parquet, more/TRAIN-00002-of",
    ),
    "no split in its name": (_shard_of("0000.parquet", image=[JPEG], label=["Happy"]), "hold a split; choose from train, validation, test"),
    "another name of the images": (_shard_of(SHARD, img=[JPEG], label=["Happy"]), r"no column image of bytes.*columns are img: binary"),
    "images as lists": (_shard_of(SHARD, image=[[1, 2]], label=["Happy"]), "no column image of bytes"),
    "a struct of paths": (_shard_of(SHARD, image=[{"path": "a.jpg"}], label=["Happy"]), "no column image of bytes"),
    "another name of the labels": (_shard_of(SHARD, image=[JPEG], emotion=["Happy"]), r"no column label of whole numbers or text.*\.label"),
    "labels that are fractions": (_shard_of(SHARD, image=[JPEG], label=[0.5]), "no column label of whole numbers"),
    "a label that no map names": (_shard_of(SHARD, image=[JPEG], label=["joy"]), r"classes does not map, 1: joy"),
    "numbers without names": (_shard_of(SHARD, image=[JPEG] * 9, label=list(range(9))), r"does not map, 9: 0, 1, 2, 3, 4, 5, 6, 7, …"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_download_that_does_not_fit_is_one_line(tmp_path: Path, change: Any, message: str) -> None:
    pointer = download_huggingface(tmp_path / "root")
    change(tmp_path / "root")
    with refused(message):
        unpacked_rows(pointer, tmp_path / "unpacked")
    assert not [path for path in (tmp_path / "unpacked").rglob("*") if path.suffix != ".lock"]


@pytest.mark.parametrize("metadata", [b"", b"[]", b"{}", b'{"info": null}', b'{"info": {"features": {"label": {"names": 3}}}}', b"\xff"])
def test_metadata_that_says_nothing_leaves_numbers_without_names(tmp_path: Path, metadata: bytes) -> None:
    pointer = download_huggingface(tmp_path / "root")
    (path,) = (tmp_path / "root" / "data").glob("test-*")
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"huggingface": metadata}), path)
    with pytest.raises(UserError, match=r"labels that params.yaml: datasets\.huggingface\.classes does not map, 8: 0, 1, 2"):
        open_layout(pointer)
