import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import refused
from trees import noise, tree_2021, tree_plus

from affectnet.errors import UserError
from affectnet.expressions import CLASS_MEANS
from affectnet.sources.registry import open_source
from affectnet.tables.source_pointer import Pointer


def rows(pointer: Pointer) -> list[dict[str, Any]]:
    return [entry for part in open_source(pointer).rows() for entry in part.to_pylist()]


@pytest.mark.parametrize("tree", [tree_2021, tree_plus])
def test_every_annotation_is_read_with_its_split_and_values(tmp_path: Path, tree: Any) -> None:
    table = rows(tree(tmp_path))
    assert [entry["split"] for entry in table].count("train") == 48 and len(table) == 64
    for entry in table:
        valence, arousal = CLASS_MEANS[entry["expression"]]
        assert (entry["valence"], entry["arousal"]) == (pytest.approx(valence), pytest.approx(arousal))
        assert entry["fault"] is None and (tmp_path / entry["image"]).is_file() and entry["left"] is None
    assert [entry["expression"] for entry in table[:9]] == [0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_the_root_may_be_any_folder_above_the_sets(tmp_path: Path) -> None:
    tree_2021(tmp_path / "downloads" / "AffectNet")
    assert len(rows(Pointer("affectnet2021", str(tmp_path)))) == 64


def test_landmarks_of_2021_are_136_numbers_or_a_counted_fault(tmp_path: Path) -> None:
    pointer = tree_2021(tmp_path)
    annotations = tmp_path / "train_set" / "annotations"
    np.save(annotations / "0_lnd.npy", np.zeros(10))
    (annotations / "3_lnd.npy").unlink()
    (annotations / "9_lnd.npy").write_bytes(b"\x93NUMPY")
    first, second, third, fourth = rows(pointer)[:4]
    assert (first["fault"], first["unread"], first["landmarks"]) == (None, ["landmarks"], None)
    assert (second["fault"], second["unread"], second["landmarks"]) == (None, None, None)
    assert len(third["landmarks"]) == 136
    assert (fourth["fault"], fourth["unread"], fourth["detail"]) == (None, ["landmarks"], "9_lnd.npy: ValueError")


@pytest.mark.parametrize("tree", [tree_2021, tree_plus])
def test_two_images_of_one_annotation_are_one_line(tmp_path: Path, tree: Any) -> None:
    pointer = tree(tmp_path)
    image = next(tmp_path.rglob("train_set/images/0.jpg"))
    noise(image.with_suffix(".png"), 5)
    with pytest.raises(UserError, match=r"train_set/images: more than one image for the annotation of 1: 0\.jpg; leave one of each"):
        rows(pointer)


@pytest.mark.parametrize("tree", [tree_2021, tree_plus])
def test_annotation_files_have_their_suffix_in_any_case(tmp_path: Path, tree: Any) -> None:
    pointer = tree(tmp_path)
    before = rows(pointer)
    for path in [*tmp_path.rglob("[04].json"), *tmp_path.rglob("[03]_*.npy")]:
        path.rename(path.with_name(path.name.upper()))
    assert rows(pointer) == before and all((tmp_path / file).is_file() for file in open_source(pointer).annotation_files())


@pytest.mark.parametrize(("tree", "name", "other"), [(tree_2021, "3_exp.npy", "3_Exp.NPY"), (tree_plus, "3.json", "3.JSON")])
def test_two_annotation_files_of_one_kind_for_an_image_are_one_line(tmp_path: Path, tree: Any, name: str, other: str) -> None:
    pointer = tree(tmp_path)
    file = next(tmp_path.rglob(f"train_set/annotations/{name}"))
    file.with_name(other).write_bytes(file.read_bytes())
    with refused(f"train_set/annotations: names that differ only in case, 2: {other}, {name}; leave one of each"):
        open_source(pointer)


BROKEN = {
    "text": b"happy",
    "nothing": b"",
    "a cut header": b"\x93NUMPY\x01\x00v\x00{'descr'",
    "a pickle": b"\x80\x04]q\x00.",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_an_npy_file_that_is_none_is_malformed_and_never_unpickled(tmp_path: Path, content: bytes) -> None:
    pointer = tree_2021(tmp_path)
    (tmp_path / "train_set" / "annotations" / "0_exp.npy").write_bytes(content)
    assert [entry["fault"] for entry in rows(pointer)[:2]] == ["malformed", None]


@pytest.mark.parametrize(
    ("kind", "value"), [("exp", "happy"), ("exp", 1.5), ("val", "nan"), ("val", np.zeros(2)), ("aro", "١٢x"), ("exp", 1e300)]
)
def test_a_value_of_2021_that_is_not_a_number_is_malformed(tmp_path: Path, kind: str, value: Any) -> None:
    pointer = tree_2021(tmp_path)
    np.save(tmp_path / "train_set" / "annotations" / f"0_{kind}.npy", value)
    assert rows(pointer)[0]["fault"] == "malformed"


def test_an_annotation_without_all_its_files_is_malformed(tmp_path: Path) -> None:
    pointer = tree_2021(tmp_path)
    (tmp_path / "train_set" / "annotations" / "0_aro.npy").unlink()
    assert (rows(pointer)[0]["fault"], rows(pointer)[0]["detail"]) == ("malformed", "no aro")


def test_an_annotation_whose_image_is_gone_still_names_it(tmp_path: Path) -> None:
    pointer = tree_2021(tmp_path)
    (tmp_path / "train_set" / "images" / "0.jpg").unlink()
    assert rows(pointer)[0]["image"] == "train_set/images/0.jpg" and len(rows(pointer)) == 64


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"human-label": 9e99, "meta-data": {"valence": 0, "arousal": 0}}', "[" * 5000])
def test_a_json_that_is_no_annotation_is_malformed(tmp_path: Path, content: str) -> None:
    pointer = tree_plus(tmp_path)
    (tmp_path / "human_annotated" / "train_set" / "annotations" / "0.json").write_text(content)
    assert [entry["fault"] for entry in rows(pointer)[:2]] == ["malformed", None]


def test_landmarks_and_values_of_plus_may_stand_on_top_too(tmp_path: Path) -> None:
    pointer = tree_plus(tmp_path)
    content = {"HUMAN_LABEL": 5, "valence": -0.5, "arousal": 0.25, "landmarks": np.arange(136.0).tolist()}
    (tmp_path / "human_annotated" / "train_set" / "annotations" / "0.json").write_text(json.dumps(content))
    first = rows(pointer)[0]
    assert (first["expression"], first["valence"], first["arousal"], first["landmarks"][-1]) == (5, -0.5, 0.25, 135)


POINTS = np.linspace(1, 136, 136).reshape(68, 2)
DICTS = [{"x": x, "Y": y} for x, y in POINTS.tolist()]


@pytest.mark.parametrize(
    "about",
    [
        {"meta-data": {"landmark-68": POINTS.tolist(), "landmark-29": POINTS[:29].tolist()}},
        {"meta-data": {"Landmark_68": POINTS.ravel().tolist()}},
        {"Meta-Data": {"landmarks": {"landmark-29": POINTS[:29].tolist(), "LANDMARK-68": DICTS}}},
        {"LANDMARK-68": [POINTS.tolist()]},
    ],
)
def test_landmarks_of_plus_are_read_in_any_nesting_and_form(tmp_path: Path, about: dict[str, Any]) -> None:
    pointer = tree_plus(tmp_path)
    content = {"human-label": 1, "valence": 0.5, "arousal": 0.1, **about}
    (tmp_path / "human_annotated" / "train_set" / "annotations" / "0.json").write_text(json.dumps(content))
    assert (rows(pointer)[0]["fault"], rows(pointer)[0]["landmarks"]) == (None, POINTS.ravel().tolist())


@pytest.mark.parametrize(
    "points",
    [POINTS[:29].tolist(), "12;13", {"x": 1, "y": 2}, [*DICTS[:-1], {"x": 1}], [*DICTS[:-1], [1, 2]], [{"x": [1, 2], "y": None}]],
)
def test_landmarks_of_plus_that_are_no_68_points_are_a_counted_fault(tmp_path: Path, points: object) -> None:
    pointer = tree_plus(tmp_path)
    content = {"human-label": 1, "meta-data": {"valence": 0.5, "arousal": 0.1, "landmark-68": points}}
    (tmp_path / "human_annotated" / "train_set" / "annotations" / "0.json").write_text(json.dumps(content))
    assert (rows(pointer)[0]["unread"], rows(pointer)[0]["landmarks"]) == (["landmarks"], None)


def test_images_without_human_labels_are_skipped(tmp_path: Path) -> None:
    pointer = tree_plus(tmp_path)
    tree_plus(tmp_path / "no_human_annotated")
    assert len(rows(pointer)) == 64


@pytest.mark.parametrize("layout", ["affectnet2021", "affectnet_plus"])
def test_a_root_without_its_sets_is_one_line(tmp_path: Path, layout: str) -> None:
    (tmp_path / "train_set" / "images").mkdir(parents=True)
    with refused(r"one train_set and one val_set are needed, .* there is neither; set datasets."):
        open_source(Pointer(layout, str(tmp_path)))
