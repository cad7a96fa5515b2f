"""Other labels than AffectNet's, from folders of photographs to predictions."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from chain import ROOT, entry, metrics, refused, run_data_stages, run_stage, tiny
from model_files import write_model
from trees import noise

from affectnet import Predictor
from affectnet.__main__ import main
from affectnet.expressions import COLUMNS, EXPRESSIONS
from affectnet.params import parse, read_document
from affectnet.predict.answers.tables import IMAGE_COLUMNS
from affectnet.predict.colours import COLOURS, colour, colours_of
from affectnet.predict.image_folder import with_labels
from affectnet.predict.parquet_table import contract
from affectnet.predict.paths import Shot
from affectnet.predict.predictor import Face
from affectnet.predict.writers import Answer, columns, csv_rows, json_lines
from affectnet.sources.registry import open_source
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.labels import labels_metadata, read_labels
from affectnet.tables.source_pointer import Pointer
from stages.acquire import AcquireParams, check_labels

LABELS = ("engaged", "bored", "AU12+25")
SPLITS = {"train": "train", "test": "test"}


def tree(root: Path, *folders: str, each: int = 8) -> Pointer:
    """A download in folders of these labels."""
    for code, folder in enumerate(folders):
        for split in SPLITS:
            for number in range(each):
                noise(root / split / folder / f"{number}.jpg", 1000 * code + number + 500 * (split == "test"), 48)
    return Pointer("folder", str(root), splits=SPLITS, labels=LABELS)


def test_labels_of_any_name_pass_through_all_stages(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "stages" / "templates", "stages/templates")
    run_data_stages(tree(workspace / "root", "Engaged", "bored", "au12+25"), clean={"validation_share": 0.25})
    run_stage("train", model=tiny(), epochs=1, loss=entry("loss", "weighted"))
    run_stage("evaluate", bootstrap=100)
    Path("params.yaml").write_text(json.dumps({**read_document(), "labels": list(LABELS)}))
    run_stage("report")
    run_stage("export", tolerance=1.0)
    assert read_labels(Path("data/annotations.parquet")) == read_labels(Path("data/test_predictions.parquet")) == LABELS
    features = json.loads(pq.read_schema(next(Path("data/faces").glob("train-*"))).metadata[b"huggingface"])["info"]["features"]
    assert features["expression"]["names"] == list(LABELS)
    assert metrics("clean")["by_split"]["test"] == dict.fromkeys(LABELS, 8)
    assert list(metrics("evaluate")["expression"]["recall"]) == list(LABELS) and "expression_7" not in metrics("evaluate")
    page = Path("metrics/report.html").read_text()
    assert all(f'<th scope="row">{label}</th>' in page for label in LABELS) and "Contempt" not in page
    assert main(["evaluate", "models/model.onnx", str(workspace / "root"), "--split", "test", "--cropped", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["faces"] == 24 and list(scored["expression"]["recall"]) == list(LABELS)
    for model in ("models/model.safetensors", "models/model.onnx"):
        (face,) = Predictor.load(model).predict(workspace / "root" / "test" / "bored" / "0.jpg", faces="whole")
        assert tuple(face.probabilities) == LABELS and face.expression in LABELS


def test_the_name_of_a_label_is_never_mapped_to_another_label(tmp_path: Path) -> None:
    """params.yaml ships `fearful: Fear`, which would leave a label called fearful without a face."""
    tree(tmp_path, "Fear", "fearful", each=1)
    shipped = Pointer("folder", str(tmp_path), splits=SPLITS, labels=("Fear", "fearful"), classes={"fear": "Fear", "fearful": "Fear"})
    with refused("classes: maps the name of a label to another label, 1: fearful: Fear; map it to itself"):
        open_source(shipped)
    open_source(replace(shipped, classes={"fear": "Fear", "fearful": "fearful"}))


def test_a_folder_that_is_no_label_is_refused_until_it_is_mapped(tmp_path: Path) -> None:
    pointer = tree(tmp_path, "engaged", "bored", "neutral", each=1)
    with refused("classes does not map, 1: neutral; add them there, to one of engaged, bored, AU12.25, or to null"):
        open_source(pointer)
    shipped = Pointer("folder", str(tmp_path), splits=SPLITS, labels=LABELS, classes={"neutral": "Neutral"})
    with refused("maps to something else than labels, 1: neutral: Neutral; map them to one of engaged"):
        open_source(shipped)
    mapped = Pointer("folder", str(tmp_path), splits=SPLITS, labels=LABELS, classes={"Neutral": "bored", "engaged": None})
    codes = [code for rows in open_source(mapped).rows() for code in rows["expression"].to_pylist()]
    assert codes == [1, 1, 1, 1]


@pytest.mark.parametrize("labels", [("happy", "sad", "neutral"), ("angry", "calm")])
def test_the_folder_of_a_label_needs_no_entry_in_the_shipped_classes(tmp_path: Path, labels: tuple[str, ...]) -> None:
    tree(tmp_path, *labels, each=2)
    classes = read_document(ROOT / "params.yaml")["datasets"]["folder"]["classes"]
    opened = open_source(Pointer("folder", str(tmp_path), splits=SPLITS, labels=labels, classes=classes))
    read = {(row["list"].split("/")[1], row["expression"]) for rows in opened.rows() for row in rows.to_pylist()}
    assert read == {(label, code) for code, label in enumerate(labels)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": {"bored": "bored", "Bored": "engaged"}}, "classes: Bored is both bored and engaged, since case does not count"),
        ({"classes": {"bored": None, "BORED": "bored"}}, "classes: BORED is both null and bored"),
        ({"splits": {**SPLITS, "Train": "test"}}, "splits: Train is both train and test"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    pointer = tree(tmp_path, "engaged", "bored", each=2)
    with refused(message):
        open_source(replace(pointer, **changed))


def test_labels_of_a_map_may_be_in_any_case(tmp_path: Path) -> None:
    pointer = tree(tmp_path, "engaged", "bored", "Dull", each=2)
    opened = open_source(replace(pointer, classes={"dull": "Bored", "DULL": "bored"}))
    assert {code for rows in opened.rows() for code in rows["expression"].to_pylist()} == {0, 1}


def test_a_folder_that_is_mapped_as_number_and_as_text_is_refused() -> None:
    document = read_document(ROOT / "params.yaml")
    document["dataset"] = "folder"
    document["datasets"]["folder"] |= {"root": "/data", "classes": {0: "Happy", "0": "Sad"}}
    with refused("classes: .*a number as a name twice, with and without quotes"):
        parse(document, "acquire", AcquireParams)


@pytest.mark.parametrize(
    ("labels", "layout", "message"),
    [
        (["one"], "folder", "labels: 1 labels, 2 to 100"),
        (["a", "A"], "folder", "labels: repeated labels, a, A"),
        (["a", "../b"], "folder", r"labels: '../b' is not a label"),
        (["a", "b "], "folder", "labels: 'b ' is not a label"),
        (["a", "x" * 41], "folder", "is not a label"),
        (["a", ""], "folder", "labels: '' is not a label"),
        (["Left", "right", "ahead"], "folder", "labels: Left, right: columns of tables of predictions or answers, not labels"),
        (["image", "a"], "folder", "labels: image: columns of tables"),
        (["bored", "engaged"], "affectnet2017", "labels: those of the layout affectnet2017 are Neutral, .*folder, huggingface, yolo"),
        (list(reversed(EXPRESSIONS)), "raf_db", "labels: those of the layout raf_db are Neutral"),
    ],
)
def test_invalid_labels_are_one_line(labels: list[str], layout: str, message: str) -> None:
    with refused(message):
        check_labels(labels, layout)


def test_the_names_that_are_no_labels_are_those_of_the_fixed_columns() -> None:
    assert {*columns([], True), *IMAGE_COLUMNS} == COLUMNS
    assert {column.name for column in contract([], True).columns} <= COLUMNS
    assert not {name.lower() for name in EXPRESSIONS} & COLUMNS


def test_an_expression_to_keep_must_be_a_label(workspace: Path) -> None:
    pointer = tree(workspace / "root", "engaged", "bored", each=2)
    with refused("clean.expressions: Happy: not among the labels; choose from engaged, bored, AU12.25, or null"):
        run_data_stages(pointer, clean={"expressions": ["bored", "Happy"]})


def test_a_table_without_labels_has_affectnets_and_one_with_broken_ones_is_refused(tmp_path: Path) -> None:
    ANNOTATIONS.write(tmp_path / "before.parquet", ANNOTATIONS.schema.empty_table())
    assert read_labels(tmp_path / "before.parquet") == EXPRESSIONS
    for number, labels in enumerate((["a"], ["a", "a"])):
        path = tmp_path / f"{number}.parquet"
        ANNOTATIONS.write(path, ANNOTATIONS.schema.empty_table(), labels_metadata(labels))
        with refused("label"):
            read_labels(path)


def test_a_label_that_is_called_box_has_all_its_digits() -> None:
    face = Face((0.04, 0.0, 1.0, 1.0), "other", {"box": 0.3412346, "other": 0.6587654}, None, None, "d")
    answer = Answer(Shot("a.jpg", "a.jpg"), [face])
    table, lines = io.StringIO(), io.StringIO()
    csv_rows(table, tuple(face.probabilities), False)(answer)
    json_lines(lines)(answer)
    (row,) = csv.DictReader(io.StringIO(table.getvalue()))
    assert (row["box"], row["other"], row["left"]) == ("0.341235", "0.658765", "0.0")
    (written,) = json.loads(lines.getvalue())["faces"]
    assert written["probabilities"] == {"box": 0.341235, "other": 0.658765} and written["box"] == [0.0, 0.0, 1.0, 1.0]


def test_other_labels_have_colours_of_their_own() -> None:
    colours = colours_of(["Happy", *LABELS])
    assert colours["Happy"] == COLOURS["Happy"] and len({colours[label] for label in LABELS}) == 3


def test_a_face_has_the_colour_of_its_label_in_copies_as_in_timelines() -> None:
    colours = colours_of(LABELS)
    assert {label: colour(label, LABELS) for label in LABELS} == colours and len(set(colours.values())) == 3


def test_other_labels_take_first_the_colours_that_no_label_has() -> None:
    mixed = ("Neutral", "Happy", *(f"label {number}" for number in range(6)))
    colours = colours_of(mixed)
    assert colours["Neutral"] == COLOURS["Neutral"] and colours["Happy"] == COLOURS["Happy"] and len(set(colours.values())) == 8
    assert set(colours_of([*mixed, "one more"])) == {*mixed, "one more"}


def test_a_model_whose_labels_are_other_names_of_ours_is_right_about_folders_of_these_names() -> None:
    labels = ("angry", "disgusted", "fearful", "happiness", "sadness", "surprised", "neutral")
    assert with_labels([], further=labels) | dict(zip(labels, labels, strict=True)) == with_labels([], further=labels)
    assert with_labels(["angry=sadness"], further=labels)["angry"] == "sadness" and with_labels([])["angry"] == "Anger"


def test_labels_in_other_letters_are_the_models_own_in_folders_and_refused_for_our_tables(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [name.lower() for name in EXPRESSIONS]
    write_model(labels=(*names[:7], "Joy"))
    for folder in ("happiness", "joy", "contempt"):
        noise(Path("faces", folder, "1.png"), 3, 64)
    assert main(["evaluate", "models/model.safetensors", "faces", "--cropped", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["expression"]["recall"]) >= {"happy", "Joy", "Contempt"}
    with refused("models/model.safetensors: its labels and those of the faces, repeated labels, Neutral, .*neutral"):
        run_stage("evaluate", bootstrap=100)
    assert not Path("data/test_predictions.parquet").exists()
