import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chain import ROOT, metrics, run_data_stages, run_stage
from model_files import write_model
from pages import Page
from sklearn.metrics import classification_report
from trees import HEADER, images_2017, noise, row, tree_2017, write_2017

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.images.data_uri import data_uri
from affectnet.images.resize import decode_face
from affectnet.metrics.classification import scores
from affectnet.models.checkpoint import load_model
from affectnet.params import read_document
from affectnet.reporting.contact_sheet import THUMBNAIL_QUALITY, FacePredictions
from affectnet.reporting.prediction_table import PREDICTIONS
from affectnet.reporting.values import shown
from affectnet.tables.inventory import STATUSES
from affectnet.tables.source_pointer import Pointer
from stages.report import ReportParams, contact_sheets, text_report

PAGES = (Path("metrics/report.html"), Path("data/report.html"))
HOSTILE = "1/'><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}.jpg"


def prepare(pointer: Pointer, **metadata: Any) -> None:
    shutil.copytree(ROOT / "stages" / "templates", "stages/templates")
    run_data_stages(pointer)
    write_model(**metadata)
    run_stage("evaluate", bootstrap=100)


@pytest.fixture
def prepared(workspace: Path) -> Path:
    prepare(tree_2017(workspace / "root", tests=3))
    return workspace


def metric(path: str) -> Any:
    stage, *names = path.split(".")
    value: Any = metrics(stage)
    for name in names:
        value = value[name]
    return value


def test_every_number_on_the_page_is_the_metrics_and_nothing_is_fetched(prepared: Path) -> None:
    run_stage("report")
    for path in PAGES:
        page = Page(path)
        assert len(page.numbers) > 100
        for name, value, text in page.numbers:
            assert json.loads(value) == metric(name) and text == shown(metric(name)), name
        for score in ("accuracy", "macro_f1", "kappa", "alpha", "auc", "aucpr", "recall.Fear", "f1.Fear", "skew_normalised.alpha"):
            assert any(name == f"evaluate.expression.{score}" for name, *_ in page.numbers), score
        links = [value for _, attributes in page.tags for name, value in attributes.items() if name in {"src", "href", "srcset", "action"}]
        assert all(str(value).startswith(("data:image/jpeg;base64,", "#")) for value in links)
        anchors = {attributes.get("id") for _, attributes in page.tags}
        assert {str(value)[1:] for value in links if str(value).startswith("#")} <= anchors
        assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
        assert not re.search(r"url\(|@import", path.read_text())
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not [tag for tag, _ in Page(PAGES[0]).tags if tag == "img"] and PAGES[0].stat().st_size < 300_000
    assert [tag for tag, _ in Page(PAGES[1]).tags if tag == "img"]


def test_the_same_inputs_give_the_same_bytes(prepared: Path) -> None:
    written = [
        *PAGES,
        Path("models/model_card.md"),
        Path("metrics/evaluate/classification_report.txt"),
        Path("data/test_predictions.parquet"),
    ]
    run_stage("report")
    before = [path.read_bytes() for path in written]
    run_stage("evaluate", bootstrap=100)
    run_stage("report")
    assert [path.read_bytes() for path in written] == before


def test_a_hostile_file_name_stays_text(workspace: Path) -> None:
    tree = tree_2017(workspace / "root", tests=2)
    lines = (workspace / "root" / "Manually_Annotated_file_lists" / "training.csv").read_text().splitlines()
    noise(images_2017(workspace / "root") / HOSTILE, 999)
    prepare(write_2017(Path(tree.root), lines[1:], [row(HOSTILE, expression=code) for code in range(1, 4)], HEADER))
    run_stage("report")
    page, text = Page(PAGES[1]), PAGES[1].read_text()
    assert any(HOSTILE in line for line in page.texts)
    assert "<img src=x" not in text and "49.jpg" not in text
    assert HOSTILE not in PAGES[0].read_text() and "onerror" not in PAGES[0].read_text()


def test_sheets_hold_the_faces_that_they_name_the_surest_first(prepared: Path) -> None:
    network, metadata = load_model(Path("models/model.safetensors"))
    table = PREDICTIONS.read(Path("data/test_predictions.parquet"))
    sheets = contact_sheets(ReportParams(examples=2, errors=3), Path("data/faces"), table, EXPRESSIONS, network, metadata)
    faces = pq.read_table("data/faces/test-00000-of-00001.parquet").to_pylist()
    known = {(face["list"], face["row"]): (number, face) for number, face in enumerate(faces)}
    answered = FacePredictions.of(table, EXPRESSIONS)
    wrong = int((answered.actual != answered.predicted).sum())
    assert sum(count for _, _, count, _ in sheets["confusions"]) == wrong > 0
    for actual, predicted, count, errors in sheets["confusions"]:
        assert len(errors) == min(3, count)
        assert [one.confidence for one in errors] == sorted((one.confidence for one in errors), reverse=True)
        for one in errors:
            number, face = known[one.list, one.row]
            picture = data_uri(decode_face(face["image"]["bytes"], 112), "JPEG", quality=THUMBNAIL_QUALITY)
            assert one.image == face["image"]["path"] and one.picture == picture
            assert (one.actual, one.predicted) == (actual, predicted) == (EXPRESSIONS[face["expression"]], one.predicted)
            assert dict(one.probabilities)[one.predicted] == pytest.approx(one.confidence) == pytest.approx(answered.confidence[number])
    for name, right, mistaken in sheets["examples"]:
        assert all(one.actual == one.predicted == name and one.overlay for one in right)
        assert all(one.actual == name != one.predicted and one.overlay for one in mistaken)


def test_scikit_learns_table_is_of_the_same_faces(prepared: Path) -> None:
    run_stage("report")
    with Path("metrics/evaluate/confusion.csv").open() as lines:
        pairs = [(line["actual"], line["predicted"]) for line in csv.DictReader(lines)]
    actual, predicted = zip(*pairs, strict=True)
    expected = classification_report(actual, predicted, labels=EXPRESSIONS, digits=3, zero_division=0.0)
    assert Path("metrics/evaluate/classification_report.txt").read_text().split() == expected.split()


def test_macro_f1_of_the_table_counts_0_for_an_expression_without_faces_as_evaluation_does() -> None:
    faces = pa.table({"expression": [0, 0, 1], "predicted": [0, 1, 1]})
    macro_f1 = float(scores(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]])).macro_f1)
    line = next(line for line in text_report(faces, EXPRESSIONS, EXPRESSIONS[:3]).splitlines() if "macro avg" in line)
    assert line.split()[-2] == f"{macro_f1:.3f}"


def test_valence_and_arousal_with_and_without_the_expressions(prepared: Path) -> None:
    for labels in (EXPRESSIONS, ()):
        write_model(labels=labels, affect=True)
        run_stage("evaluate", bootstrap=100)
        run_stage("report")
        page, text = Page(PAGES[1]), Path("models/model_card.md").read_text()
        assert {"evaluate.valence.ccc", "evaluate.arousal.rmse"} <= {name for name, *_ in page.numbers}
        assert ("Where the network looks" in "".join(page.texts)) and "| arousal, CCC |" in text
        assert bool([tag for tag, _ in page.tags if tag == "img"]) == bool(labels)
        assert "predicted, 24 faces" in PAGES[0].read_text()


def test_the_answers_are_those_that_were_scored(prepared: Path) -> None:
    faces = FacePredictions.of(PREDICTIONS.read(Path("data/test_predictions.parquet")), EXPRESSIONS)
    assert np.mean(faces.actual == faces.predicted) == metric("evaluate.expression.accuracy")
    assert np.allclose(faces.probabilities.sum(1), 1, atol=1e-5) and (faces.probabilities.argmax(1) == faces.predicted).all()


def test_the_card_says_what_the_model_is_and_is_not(prepared: Path) -> None:
    run_stage("report")
    text = Path("models/model_card.md").read_text()
    for said in ("non-commercial research", "not an emotion", "were not measured", "drawn faces", "Neutral, Happy, Sad, Surprise, Fear"):
        assert said in text, said
    assert "| accuracy |" not in text and f"| expression, accuracy | {shown(metric('evaluate.expression.accuracy'))} |" in text
    assert str(prepared) not in text + PAGES[0].read_text()


def test_the_card_says_where_test_comes_from(prepared: Path) -> None:
    shipped = read_document()
    for dataset, test_share, said in (
        ("demo", None, "test faces: the official validation list,"),
        ("folder", None, "test faces: the source's test split"),
        ("folder", 0.2, "test faces: a share of 0.2 of the training faces, cut off by"),
    ):
        entry = {**shipped["datasets"][dataset], "test_share": test_share}
        document = {**shipped, "dataset": dataset, "datasets": {**shipped["datasets"], dataset: entry}}
        Path("params.yaml").write_text(json.dumps(document))
        run_stage("report")
        assert said in Path("models/model_card.md").read_text()


def test_pages_and_card_name_the_labels_and_never_where_files_lie(prepared: Path) -> None:
    shipped = read_document()
    entry = {**shipped["datasets"]["folder"], "root": "/home/ann/faces", "checksums": "/home/ann/faces/sums.txt"}
    train = {**shipped["train"], "teacher": ["/home/ann/teacher.safetensors"]}
    evaluate = {**shipped["evaluate"], "groups": ["/home/ann/groups.csv"]}
    changes = {"dataset": "folder", "labels": ["engaged", "bored"], "train": train, "evaluate": evaluate}
    Path("params.yaml").write_text(json.dumps({**shipped, **changes, "datasets": {**shipped["datasets"], "folder": entry}}))
    run_stage("report")
    for path in (*PAGES, Path("models/model_card.md")):
        text = path.read_text()
        assert "/home/ann" not in text and "teacher.safetensors" in text and "groups.csv" in text
        assert "engaged, bored" in text and "search words" not in text


def written(path: str, content: str | None) -> Callable[[], str]:
    """Returns a function that breaks an input and returns the beginning of the message."""

    def make() -> str:
        Path(path).unlink()
        if content is not None:
            Path(path).write_text(content)
        return path

    return make


MISTAKES: dict[str, Callable[[], str]] = {
    "no metrics": written("metrics/evaluate.json", None),
    "metrics that are none": written("metrics/clean.json", "{"),
    "metrics of another kind": written("metrics/verify.json", "[]"),
    "a curve that is none": written("metrics/evaluate/learning.csv", "epoch,loss\n1,much\n"),
    "no curve": written("metrics/evaluate/calibration.csv", None),
    "an empty curve": written("metrics/evaluate/calibration.csv", ""),
    "predictions that are none": written("data/test_predictions.parquet", "PAR1"),
    "no template": written("stages/templates/page.html", None),
    "a template that asks for what is not there": written("stages/templates/page.html", "{{ nothing }}"),
    "no model": written("models/model.safetensors", None),
}


def test_a_wrong_input_is_one_line(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(".", tmp_path / "kept", ignore=shutil.ignore_patterns("kept", "root"))
    for name, make in MISTAKES.items():
        path = make()
        with pytest.raises(UserError) as error:
            run_stage("report")
        (problem,) = error.value.problems
        assert problem.startswith(f"{path}: ") and "\n" not in problem, name
        shutil.copy(tmp_path / "kept" / path, path)
    table = pq.read_table("data/test_predictions.parquet")
    for other, said in (
        (table[1:], "24 test faces, but 23 predictions"),
        (table.take(list(range(23, -1, -1))), "is not the one that was predicted"),
    ):
        pq.write_table(other, "data/test_predictions.parquet")
        with pytest.raises(UserError, match=said):
            run_stage("report")


def test_every_reason_that_clean_gives_has_its_words_on_the_page() -> None:
    words = set(re.findall(r'^  "(\w+)":', (ROOT / "stages" / "templates" / "reasons.html").read_text(), re.MULTILINE))
    code = "".join(path.read_text() for path in (ROOT / "stages" / "clean.py", *(ROOT / "affectnet" / "sources").glob("*.py")))
    reasons = set(re.findall(r'\.(?:reject|judge)\([^"\n]*"(\w+)"', code)) | set(STATUSES[1:])
    assert len(reasons) > 12 and reasons - {"null_box"} <= words
