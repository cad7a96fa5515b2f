"""`affectnet evaluate ANSWERS --truth …` and `affectnet compare`: the scores of any program's answers, by hand and against our own."""

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chain import run_data_stages
from portraits import MODEL, drawn, write_model
from sklearn.metrics import f1_score, roc_auc_score
from trees import tree_2017

from affectnet.__main__ import main
from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.predict.image_folder import NUMBERS
from affectnet.predict.paths import Shot
from affectnet.predict.predictor import Face
from affectnet.predict.writers import Answer, csv_rows
from affectnet.predict.writers import rows as table_rows
from affectnet.sources import fer2013_csv, raf_db
from affectnet.tables.labels import labels_metadata
from benchmarks.peers import answers as peers_answers

Rows = Sequence[Mapping[str, Any]]
Command = Callable[..., tuple[int, str, str]]
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
"""Of AffectNet's training list, which its validation list lacks in some releases."""

EACH = 6
TRUE = [code for code in range(8) for _ in range(EACH)]
IMAGES = [f"{EXPRESSIONS[code].lower()}/{number}.jpg" for number, code in enumerate(TRUE)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, *capsys.readouterr()

    return run


def write_csv(path: str, rows: Rows) -> str:
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_truth() -> str:
    return write_csv("truth.csv", [{"image": image, "expression": EXPRESSIONS[code]} for image, code in zip(IMAGES, TRUE, strict=True)])


def probabilities(seed: int = 1) -> np.ndarray:
    """(n, 8) of a program that is right more often than not."""
    generator = np.random.default_rng(seed)
    values = generator.random((len(TRUE), 8))
    values[np.arange(len(TRUE)), TRUE] += generator.random(len(TRUE)) * 1.2
    return np.asarray(values / values.sum(1, keepdims=True))


def ranked(seed: int = 1) -> list[dict[str, Any]]:
    names = [name.upper() for name in EXPRESSIONS]
    return [{"image": image, **dict(zip(names, row.tolist(), strict=True))} for image, row in zip(IMAGES, probabilities(seed), strict=True)]


def named(codes: Sequence[int], names: Sequence[Any] = EXPRESSIONS) -> list[dict[str, Any]]:
    return [{"file": image, "Expression": names[code]} for image, code in zip(IMAGES, codes, strict=True)]


def report(run: Command, *arguments: object) -> dict[str, Any]:
    code, out, err = run("evaluate", *arguments, "--json")
    assert code == 0, err
    content: dict[str, Any] = json.loads(out)
    return content


def test_probabilities_have_the_scores_of_a_model_in_each_format(run: Command) -> None:
    rows = ranked()
    write_csv("a.csv", rows)
    Path("a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), "a.parquet")
    by_csv, by_json, by_parquet = (report(run, file, "--truth", write_truth()) for file in ("a.csv", "a.jsonl", "a.parquet"))
    assert by_csv == by_json == by_parquet
    chances = probabilities()
    assert by_csv["faces"] == len(TRUE) and "selection" not in by_csv
    assert by_csv["expression"]["accuracy"] == pytest.approx((chances.argmax(1) == TRUE).mean())
    assert by_csv["expression"]["macro_f1"] == pytest.approx(f1_score(TRUE, chances.argmax(1), average="macro"))
    assert by_csv["expression"]["auc"] == pytest.approx(roc_auc_score(TRUE, chances, multi_class="ovr", average="macro"))
    assert set(by_csv["interval"]["expression"]) == set(by_csv["expression"])
    shown = run("evaluate", "a.csv", "--truth", "truth.csv")[1]
    assert "8 expressions, 48 faces" in shown and "AUC" in shown and "calibration error" in shown


def test_names_and_mapped_numbers_are_scored_without_confidence(run: Command) -> None:
    codes = probabilities().argmax(1).tolist()
    write_csv("names.csv", named(codes))
    write_csv("numbers.csv", named(codes, [f"{code}.0" for code in range(8)]))  # as pandas writes them
    write_csv("odd.csv", named(codes, ["calm", *EXPRESSIONS[1:]]))
    by_name = report(run, "names.csv", "--truth", write_truth())
    assert by_name["expression"]["accuracy"] == pytest.approx((np.array(codes) == TRUE).mean())
    assert not {"auc", "aucpr"} & set(by_name["expression"]) and "calibration" not in by_name
    assert report(run, "numbers.csv", "--truth", "truth.csv", "--labels", "AffectNet") == by_name
    assert report(run, "odd.csv", "--truth", "truth.csv", "--labels", "Calm=neutral") == by_name
    assert "calibration" not in run("evaluate", "names.csv", "--truth", "truth.csv")[1]


def test_the_numbers_of_data_sets_are_those_of_their_readers() -> None:
    assert NUMBERS["fer2013"] == {str(number): name for number, name in enumerate(fer2013_csv.EMOTIONS)}
    assert NUMBERS["raf_db"] == {str(number): name for number, name in raf_db.EXPRESSIONS.items()}
    assert {NUMBERS["affectnet"][str(code)]: code for code in range(8)} == CODES


def test_a_photograph_without_an_answer_is_an_error_and_counted(run: Command) -> None:
    rows = ranked()
    right = probabilities().argmax(1) == TRUE
    kept = [row for number, row in enumerate(rows) if number % 4]
    kept[0] = {name: value if name == "image" else "" for name, value in kept[0].items()}
    write_csv("some.csv", [*kept, {**rows[0], "image": "elsewhere/9.jpg"}])
    code, out, err = run("evaluate", "some.csv", "--truth", write_truth(), "--json")
    answered = np.array([number % 4 > 0 and number != 1 for number in range(len(TRUE))])
    assert code == 0 and f"{(~answered).sum()} photographs without an answer, counted as errors" in err
    assert "1 answer for photographs that are not in the truth, left out" in err
    scores = json.loads(out)["expression"]
    assert scores["accuracy"] == pytest.approx((right & answered).mean())
    for code, name in enumerate(EXPRESSIONS):
        assert scores["recall"][name] == pytest.approx((right & answered)[np.array(TRUE) == code].mean())


@pytest.mark.parametrize("form", ["{name}", "./{path}", "/data/test/{path}", "C:\\data\\{windows}"])
def test_paths_match_by_whole_names_from_their_end(run: Command, form: str) -> None:
    rows = named(TRUE)
    for row in rows:
        path = row["file"]
        row["file"] = form.format(path=path, name=path.split("/")[1], windows=path.replace("/", "\\"))
    assert report(run, write_csv("a.csv", rows), "--truth", write_truth())["expression"]["accuracy"] == 1


def test_valence_and_arousal_of_affectnets_list_and_of_our_table(run: Command, workspace: Path) -> None:
    run_data_stages(tree_2017(workspace / "root", each=2, tests=3))
    table = [row for row in pq.read_table("data/annotations.parquet").to_pylist() if row["split"] == "test"]
    rows = [
        {"path": row["image"], "expression": EXPRESSIONS[row["expression"]], "valence": 0.1, "arousal": row["arousal"]} for row in table
    ]
    by_table = report(run, write_csv("a.csv", rows), "--truth", "data/annotations.parquet", "--split", "test")
    assert by_table["expression"]["accuracy"] == 1 and by_table["arousal"]["ccc"] == pytest.approx(1)
    annotated = [row["valence"] for row in table if row["valence"] is not None and row["arousal"] is not None]
    assert by_table["annotated"] == len(annotated) and by_table["valence"]["ccc"] == pytest.approx(0)
    assert "arousal, " in run("evaluate", "a.csv", "--truth", "data/annotations.parquet", "--split", "test")[1]
    (listed,) = (workspace / "root").rglob("validation.csv")
    Path("listed.csv").write_text(f"{HEADER}\n{listed.read_text()}")
    by_list = report(run, "a.csv", "--truth", "listed.csv", "--truth-labels", "affectnet")
    assert by_list["expression"]["accuracy"] == 1 and by_list["faces"] == by_table["faces"]
    code, _, err = run("evaluate", "a.csv", "--truth", "data/annotations.parquet")
    assert code == 2 and "choose one of its splits with --split" in err


def test_one_of_valence_and_arousal_is_left_out_as_clean_does(run: Command) -> None:
    """Absent, −2, or empty: the faces that are scored are those whose number is shown."""
    pairs = [(0.1, 0.2), (0.5, -0.1), (-0.3, 0.4), (-2, 0.3), (0.2, -2), ("", 0.9), (-2, -2)]
    truth = [{"image": f"{number}.jpg", "valence": v, "arousal": a} for number, (v, a) in enumerate(pairs)]
    answers = [{**row, "valence": 0.5, "arousal": 0.1 * number} for number, row in enumerate(truth)]
    code, out, err = run("evaluate", write_csv("a.csv", answers), "--truth", write_csv("t.csv", truth), "--json")
    scores = json.loads(out)
    assert code == 0 and scores["annotated"] == 3 and err.endswith("4 rows of the truth without a label, left out\n")
    assert scores["arousal"]["rmse"] == pytest.approx(0.2)
    assert scores["valence"]["rmse"] == pytest.approx(np.sqrt(np.mean([0.4**2, 0.0, 0.8**2])))
    assert "arousal, 3 faces" in run("evaluate", "a.csv", "--truth", "t.csv")[1]


def test_an_answer_is_missing_only_where_the_truth_has_a_label(run: Command) -> None:
    dimensions = [(0.1, 0.2), (0.5, -0.1), ("", ""), (-2, 0.3)]
    truth = [{"image": f"{n}.jpg", "expression": "Happy", "valence": v, "arousal": a} for n, (v, a) in enumerate(dimensions)]
    truth[0]["expression"] = "Sad"
    answers = [{**row, "valence": "" if row["valence"] == -2 else row["valence"]} for row in truth]
    code, out, err = run("evaluate", write_csv("a.csv", answers), "--truth", write_csv("t.csv", truth), "--json")
    assert code == 0 and json.loads(out)["expression"]["accuracy"] == 1
    assert "without an answer" not in err and "t.csv: 1 row with only one of valence and arousal, which is left out" in err


def test_rows_that_are_not_scored_or_whose_probabilities_tie_contradict_nothing(run: Command) -> None:
    write_csv("t.csv", [{"image": f"{n}.jpg", "expression": "Happy" if n else "Sad"} for n in range(3)])
    rows = [("0.jpg", "Sad", 0.5, 0.5), ("1.jpg", "Sad", "", ""), ("2.jpg", "Happy", 0.8, 0.2), ("9.jpg", "Sad", 0.9, 0.1)]
    write_csv("a.csv", [dict(zip(("image", "expression", "Happy", "Sad"), row, strict=True)) for row in rows])
    assert "whose expression is not the largest probability" not in run("evaluate", "a.csv", "--truth", "t.csv")[2]
    write_csv("b.csv", [{"image": "2.jpg", "expression": "Sad", "Happy": 0.8, "Sad": 0.2}])
    assert "1 row whose expression is not the largest probability" in run("evaluate", "b.csv", "--truth", "t.csv")[2]


@pytest.mark.parametrize("expression", ["Happy", "Sad"])
def test_of_equal_probabilities_the_named_one_counts(run: Command, expression: str) -> None:
    write_csv("t.csv", [{"image": f"{n}.jpg", "expression": ("Happy", "Sad")[n % 2]} for n in range(8)])
    write_csv("a.csv", [{"image": f"{n}.jpg", "expression": expression, "Happy": 0.4, "Sad": 0.4} for n in range(8)])
    scores = report(run, "a.csv", "--truth", "t.csv")["expression"]
    assert scores["recall"] == {"Happy": float(expression == "Happy"), "Sad": float(expression == "Sad")}
    assert scores["auc"] == pytest.approx(0.5)


def test_what_is_below_a_cell_of_json_is_no_column(run: Command) -> None:
    rows = [{"image": f"{n}.jpg", "expression": name, "meta": {"Score": 1, "score": 2}} for n, name in enumerate(("Happy", "Sad"))]
    Path("a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    write_csv("t.csv", [{name: row[name] for name in ("image", "expression")} for row in rows])
    assert run("evaluate", "a.jsonl", "--truth", "t.csv")[0] == 0
    Path("a.jsonl").write_text('{"image": "0.jpg", "expression": "Sad", "Expression": "Happy"}\n')
    assert "several columns named expression" in run("evaluate", "a.jsonl", "--truth", "t.csv")[2]


def test_names_with_backslashes_and_broken_characters_match_their_folder(run: Command) -> None:
    write_model()
    for name in ("happy", "sad"):
        Path("faces", name).mkdir(parents=True)
    for number, file in enumerate((b"happy/a\\b.png", b"sad/n\xff.png", b"sad/c.png")):
        drawn(64 + number).save("plain.png")
        Path("plain.png").rename(os.fsdecode(b"faces/" + file))
    Path("faces", "notes.txt").write_text("none")
    Path("faces", "sad", "notes.txt").write_text("none")
    Path("ours.csv").write_text(run("predict", "faces", "--model", MODEL, "--whole", "--csv")[1])
    code, _, err = run("evaluate", "ours.csv", "--truth", "faces")
    assert code == 0 and "without an answer" not in err and "not in the truth" not in err
    assert "faces: 2 other files skipped" in err


def test_other_labels_are_those_that_our_table_names(run: Command) -> None:
    names = ("bored", "very bored", "engaged")
    columns = {"image": [f"{number}.jpg" for number in range(9)], "expression": pa.array([0, 1, 2] * 3, pa.int8())}
    empty = {name: [None] * 9 for name in ("list", "row", "left", "group", "valence", "arousal")}
    pq.write_table(pa.table({**columns, **empty, "split": ["test"] * 9}).replace_schema_metadata(labels_metadata(names)), "table.parquet")
    answers = [{"image": f"{number}.jpg", "expression": names[number % 3].title()} for number in range(8)]
    by_name = report(run, write_csv("a.csv", answers), "--truth", "table.parquet")
    assert by_name["expression"]["recall"] == {"bored": 1, "very bored": 1, "engaged": pytest.approx(2 / 3)}
    for option in (("--truth-labels", "2=null"), ("--label-set", "a,b")):
        code, _, err = run("evaluate", "a.csv", "--truth", "table.parquet", *option)
        assert code == 2 and err == f"error: {option[0]}: table.parquet names its labels; leave it out\n"
    ranked = [{"image": f"{number}.jpg", **{name: float(number % 3 == at) for at, name in enumerate(names)}} for number in range(9)]
    assert report(run, write_csv("b.csv", ranked), "--truth", "table.parquet")["expression"]["auc"] == 1


def test_other_labels_are_named_for_folders_and_lists(run: Command) -> None:
    names = ("bored", "very bored", "AU12")
    images = [f"{name}/{number}.jpg" for name in names for number in range(3)]
    for image in images:
        Path("faces", image).parent.mkdir(parents=True, exist_ok=True)
        Path("faces", image).write_bytes(b"a photograph")
    label_set = ("--label-set", "bored, very bored,AU12")
    codes = [0, 0, 1, 1, 1, 1, 2, 2, 0]
    answers = write_csv("a.csv", [{"image": image, "expression": names[code]} for image, code in zip(images, codes, strict=True)])
    by_folder = report(run, answers, "--truth", "faces", *label_set)
    assert by_folder["expression"]["recall"] == {"bored": pytest.approx(2 / 3), "very bored": 1, "AU12": pytest.approx(2 / 3)}
    listed = write_csv("truth.csv", [{"image": image, "expression": number // 3} for number, image in enumerate(images)])
    numbers = [option for code, name in enumerate(names) for option in ("--truth-labels", f"{code}={name}")]
    assert report(run, answers, "--truth", listed, *numbers, *label_set) == by_folder
    dull = [{"image": image, "expression": "dull" if code == 0 else names[code]} for image, code in zip(images, codes, strict=True)]
    assert report(run, write_csv("dull.csv", dull), "--truth", "faces", *label_set, "--labels", "dull=bored") == by_folder
    assert (
        "9 test faces" in run("compare", answers, "dull.csv", "--truth", "faces", *label_set, "--labels", "dull=bored", "--draws", 100)[1]
    )
    for options, said in (
        (("--label-set", "bored,AU12"), "folders that name no expression, 1: very bored"),
        (("--label-set", "bored"), "--label-set: 1 labels, 2 to 100 are possible; give all labels, with commas between"),
        (("--label-set", "Left,face"), "--label-set: Left, face: columns of tables of predictions or answers, not labels; give all labels"),
        ((*label_set, "--truth-labels", "9=Happy"), "--truth-labels: 1: 9 is Happy, not one of the 3: bored, very bored, AU12"),
    ):
        code, out, err = run("evaluate", answers, "--truth", "faces", *options)
        assert code == 2 and out == "" and err.count("\n") == 1 and said in err


def test_our_own_table_of_predictions_has_the_scores_of_the_model(run: Command) -> None:
    write_model(affect=False)
    for number, name in enumerate(("happy", "sad", "fear")):
        Path("faces", name).mkdir(parents=True)
        for each in range(2):
            drawn(64 + 4 * number + each).resize((64, 64)).save(f"faces/{name}/{each}.png")
    out = run("predict", "faces", "--model", MODEL, "--averaging", "none", "--whole", "--csv")[1]
    Path("ours.csv").write_text(out)
    by_answers, by_model = report(run, "ours.csv", "--truth", "faces"), report(run, MODEL, "faces", "--cropped")
    for name in ("accuracy", "macro_f1", "recall", "precision"):
        assert by_answers["expression"][name] == pytest.approx(by_model["expression"][name])


def test_a_permuted_order_is_noticed_and_a_weak_or_small_one_is_not(run: Command) -> None:
    write_truth()
    turned = [(code + 1) % 8 for code in TRUE]
    err = run("evaluate", write_csv("turned.csv", named(turned)), "--truth", "truth.csv")[2]
    assert "another order of the labels fits better, 1.000 right for 0.000" in err and "Happy means Neutral" in err
    chance = np.random.default_rng(3).integers(8, size=len(TRUE)).tolist()
    for codes in (TRUE, chance, [0] * len(TRUE)):
        assert "another order" not in run("evaluate", write_csv("a.csv", named(codes)), "--truth", "truth.csv")[2]


ONE = {"image": IMAGES[0], "expression": "Happy"}


def test_sure_answers_of_predict_have_the_same_scores_in_each_format(run: Command) -> None:
    """A probability of 0.00004 of the annotated expression, which four decimals would make impossible."""
    write_truth()
    answers = []
    for number, code in enumerate(TRUE):
        values = np.full(len(EXPRESSIONS), 0.00004)
        values[(code + (number < 4)) % len(EXPRESSIONS)] = 1 - 0.00004 * (len(EXPRESSIONS) - 1)
        likely = EXPRESSIONS[int(values.argmax())]
        face = Face((0.0, 0.0, 9.0, 9.0), likely, dict(zip(EXPRESSIONS, values.tolist(), strict=True)), None, None, "haar")
        answers.append(Answer(Shot(IMAGES[number], IMAGES[number]), [face]))
    with Path("answers.csv").open("w") as stream:
        write = csv_rows(stream, EXPRESSIONS, tracked=False)
        for answer in answers:
            write(answer)
    pq.write_table(pa.Table.from_pylist([row for answer in answers for row in table_rows(answer)]), "answers.parquet")
    by_csv, whole = (report(run, f"answers.{form}", "--truth", "truth.csv")["calibration"]["nll"] for form in ("csv", "parquet"))
    assert by_csv == pytest.approx(whole, rel=1e-5) and whole > 0


def test_a_column_face_drops_rows_only_in_tables_of_predict_and_they_are_counted(run: Command) -> None:
    faces = [{**row, "face": number % 2} for number, row in enumerate(named(TRUE))]
    for number in (0, 2):
        truth = write_csv("t.csv", [{**row, "face": number} for row in named(TRUE)])
        content = report(run, write_csv("a.csv", faces), "--truth", truth)
        assert content["faces"] == len(TRUE) and content["expression"]["accuracy"] == 1
    several = [{**row, "face": face, "where": "detected", "detector": "haar"} for row in named(TRUE) for face in (1, 2)]
    code, out, err = run("evaluate", write_csv("ours.csv", several), "--truth", write_truth(), "--json")
    assert code == 0 and json.loads(out)["expression"]["accuracy"] == 1
    assert f"ours.csv: {len(TRUE)} rows of faces that are not their photograph's largest, left out" in err
    err = run("evaluate", "a.csv", "--truth", "ours.csv", "--json")[2]
    assert f"ours.csv: {len(TRUE)} rows of faces that are not" in err


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_column_that_is_there_twice_is_refused(run: Command, name: str) -> None:
    if name == "a.csv":
        Path(name).write_text(f"image,Expression, expression\n{IMAGES[0]},Happy,Sad\n")
    elif name == "a.jsonl":
        Path(name).write_text(json.dumps({"image": IMAGES[0], "Expression": "Happy", "expression": "Sad"}))
    else:
        pq.write_table(pa.table([[IMAGES[0]], ["Happy"], ["Sad"]], ["image", "expression", "expression"]), name)
    twice = "several columns named expression; keep one, case does not distinguish them"
    for arguments in ((name, "--truth", write_truth()), (write_csv("b.csv", [ONE]), "--truth", name)):
        code, out, err = run("evaluate", *arguments)
        assert code == 2 and out == "" and err == f"error: {name}: unreadable: {twice}\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"name": "1.jpg", "expression": "Happy"}], "no column of photographs"),
        ([{"image": "", "expression": "Happy"}], "1 of 1 rows name no photograph"),
        ([{"image": IMAGES[0], "score": 1}], "no answers that truth.csv has labels for"),
        ([{"image": IMAGES[0], "expression": "3"}], "labels without an expression, 1: 3; map each with --labels"),
        ([ONE, ONE], "several answers for the same photograph, 1: neutral/0.jpg"),
        ([{"image": "nowhere/x.jpg", "expression": "Happy"}], "are for no photograph of truth.csv"),
        ([{"image": IMAGES[0], "Happy": -0.5, "Sad": 1}], "probabilities below 0, or all 0"),
        ([{"image": IMAGES[0], "Happy": 0, "Sad": 0}], "probabilities below 0, or all 0"),
        ([{"image": IMAGES[0], "Happy": "much", "Sad": 1}], "column happy: no finite numbers, 1: 'much' for neutral/0.jpg"),
        ([{"image": IMAGES[0], "Happy": 1, "happiness": 0}], "several columns of the same expression"),
    ],
)
def test_bad_answers_are_one_line(run: Command, rows: Rows, said: str) -> None:
    code, out, err = run("evaluate", write_csv("a.csv", rows), "--truth", write_truth())
    assert code == 2 and out == "" and err.count("\n") == 1 and said in err


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "a.csv", "no rows"),
        (b"image,expression\n1.jpg\n", "a.csv", "line 2 has another number of cells"),
        (b"\xff\xfe\x00", "a.csv", "unreadable"),
        (b"[1]\n", "a.jsonl", "line 1 is not an object"),
        (b"{", "a.jsonl", "unreadable"),
        (b"PAR1", "a.parquet", "unreadable"),
        (b"x", "a.xlsx", "neither CSV"),
    ],
)
def test_unreadable_answers_are_one_line(run: Command, content: bytes, name: str, said: str) -> None:
    Path(name).write_bytes(content)
    code, out, err = run("evaluate", name, "--truth", write_truth())
    assert code == 2 and out == "" and err.count("\n") == 1 and said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["default"], "give FOLDER with photographs, or for a file of answers --truth"),
        (["a.csv"], "a.csv: a table of answers, not a model; its labels come by --truth"),
        (["a.csv", "--truth", "truth.csv", "--averaging", "flip"], "--averaging: with --truth no model is asked"),
        (["semicolons.csv", "--truth", "truth.csv"], "cells are separated by ';'; save it with commas"),
        (["utf16.csv", "--truth", "truth.csv"], "utf16.csv: unreadable: not UTF-8"),
        (["joy.csv", "--truth", "truth.csv"], "if all labels are others, name them with --label-set"),
        (["joy.csv", "--truth", "truth.csv", "--label-set", "Neutral,Happy"], "add each to --label-set, or map it"),
        (["a.csv", "faces", "--truth", "truth.csv"], "FOLDER: with --truth no model is asked"),
        (["a.csv", "--truth", "twice.csv"], "photographs with several rows, 1: neutral/0.jpg"),
        (["a.csv", "--truth", "same.csv"], "each names several photographs"),
        (["a.csv", "--truth", "far.csv"], "valence beyond -1 … 1, 1: 7 for neutral/0.jpg"),
        (["a.csv", "--truth", "truth.csv", "--split", "test"], "no column split"),
        (["a.csv", "--truth", "absent.csv"], "No such file"),
        (["a.csv", "--truth", "truth.csv", "--labels", "x=y"], "--labels: 'x=y' is not name=Expression"),
        (["a.csv", "--truth", "truth.csv", "--truth-labels", "x"], "--truth-labels: 'x' is not name=Expression"),
    ],
)
def test_a_bad_truth_is_one_line(run: Command, arguments: list[str], said: str) -> None:
    write_truth()
    write_csv("a.csv", [{"image": "0.jpg", "expression": "Happy"}])
    write_csv("twice.csv", [ONE, ONE])
    write_csv("same.csv", [ONE, {**ONE, "image": "x/0.jpg"}])
    write_csv("far.csv", [{**ONE, "valence": 7}])
    write_csv("joy.csv", [{**ONE, "expression": "joy"}])
    Path("semicolons.csv").write_text("image;expression\n1.jpg;Happy\n")
    Path("utf16.csv").write_text("image,expression\n1.jpg,Happy\n", encoding="utf-16")
    if "joy.csv" in arguments and "--label-set" in arguments:
        write_csv("truth.csv", [ONE, {"image": "9.jpg", "expression": "Neutral"}])
    code, out, err = run("evaluate", *arguments)
    assert code == 2 and out == "" and err.count("\n") == 1 and said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["evaluate", "default", "faces", "--label-set", "a,b", "--truth-labels", "a=Sad"],
            "--label-set, --truth-labels: a model file names",
        ),
        (
            ["evaluate", "default", "faces", "--cropped", "--smallest", "0.5", "--detector", "haar"],
            "--detector, --smallest: with --cropped",
        ),
        (
            ["evaluate", "a.csv", "--truth", "t.csv", "--batch", "7", "--smallest", "0.3"],
            "--batch, --smallest: with --truth no model is asked",
        ),
        (["compare", "a", "b", "--split", "test", "--labels", "x=Sad"], "--split, --labels: models are asked about our test split"),
        (["compare", "a", "b", "--label-set", "a,b", "--truth-labels", "a=Sad"], "--label-set, --truth-labels: models are asked"),
        (["compare", "a.csv", "b.csv", "--truth", "t.csv", "--faces", "data/faces"], "--faces: with --truth no model is asked"),
        (
            ["predict", "a.jpg", "--whole", "--smallest", "0.9", "--detector", "haar"],
            "--detector, --smallest: with --whole no face is detected",
        ),
        (["demo", "--site", "out", "--port", "0", "--open", "--host", "a.org"], "--port, --host, --open: with --site the page is written"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(run: Command, arguments: list[str], said: str) -> None:
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith(f"error: {said}")


def test_what_of_answers_is_not_used_is_a_line_each(run: Command) -> None:
    write_truth()
    rows = [{name: value for name, value in row.items() if name.lower() != "fear"} for row in ranked()]
    rows = [{**row, "feer": 0.1, "expression": "Sad", "valence": 0.5} for row in rows]
    err = run("evaluate", write_csv("a.csv", rows), "--truth", "truth.csv", "--labels", "happpy=null", "--labels", "raf_db")[2]
    assert "a.csv: no column of Fear: each of its photographs is an error" in err
    assert "rows whose expression is not the largest probability, which counts" in err
    assert "a.csv: valence without arousal, left out" in err
    assert "--labels happpy=null: nothing in a.csv has such a name" in err
    assert "--labels raf_db: nothing in a.csv has such a name" in err
    err = run("compare", write_csv("b.csv", ranked()), "a.csv", "--truth", "truth.csv", "--truth-labels", "x=Sad", "--draws", 100)[2]
    assert "compare: a.csv: a.csv: no column of Fear" in err and "--truth-labels x=Sad: nothing in truth.csv has such a name" in err


def test_a_comparison_names_each_file_whose_order_of_labels_is_permuted(run: Command) -> None:
    """`evaluate` does for one file; a comparison would call it significantly worse."""
    write_truth()
    moved = write_csv("moved.csv", named([(code + 1) % 8 for code in TRUE]))
    right = write_csv("right.csv", named(TRUE))
    line = "another order of the labels fits better, 1.000 right for 0.000: "
    assert line in run("evaluate", moved, "--truth", "truth.csv")[2]
    code, _, err = run("compare", right, moved, "--truth", "truth.csv", "--draws", 100)
    assert code == 0 and err.count("\n") == 1 and err.startswith(f"compare: moved.csv: {line}") and "Happy means Neutral" in err
    err = run("compare", moved, right, moved, "--truth", "truth.csv", "--draws", 100)[2]
    assert err.count(f"compare: moved.csv: {line}") == 2 and "right.csv" not in err


def test_a_comparison_is_a_table_whatever_the_files_are_called(run: Command) -> None:
    write_truth()
    out = run("compare", write_csv("a|b.csv", ranked()), write_csv("c.csv", ranked(2)), "--truth", "truth.csv", "--draws", 100)[1]
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert "a\\|b.csv" in out and len({line.replace("\\|", "").count("|") for line in rows[:4]}) == 1
    for arguments, said in (
        (("a|b.csv", "c.csv"), "tables of answers, not models; their labels come by --truth"),
        (("a|b.csv", "c.csv", "--truth", "truth.csv", "--seed", "-1"), "'-1' is not a whole number from 0"),
        (("a|b.csv", "c.csv", "--truth", "truth.csv", "--averaging", "flip"), "--averaging: with --truth no model is asked"),
    ):
        code, out, err = run("compare", *arguments)
        assert code == 2 and out == "" and err.count("\n") == 1 and said in err


def test_any_number_of_answers_is_compared_with_the_first(run: Command) -> None:
    write_truth()
    write_csv("a.csv", ranked())
    write_csv("b.csv", ranked(2)[4:])
    write_csv("constant.csv", named([0] * len(TRUE)))
    code, out, err = run("compare", "a.csv", "b.csv", "constant.csv", "--truth", "truth.csv", "--draws", 400, "--json")
    results = json.loads(out)
    assert code == 0 and err == "compare: b.csv: 4 photographs without an answer, counted as errors\n"
    right = probabilities().argmax(1) == TRUE
    assert results["models"][0]["scores"]["expression.accuracy"]["value"] == pytest.approx(right.mean())
    assert results["models"][2]["scores"]["expression.macro_f1"]["value"] == pytest.approx(f1_score(TRUE, [0] * 48, average="macro"))
    (_, constant) = results["mcnemar"]
    assert constant["only_second"] == sum(~right[:EACH]) and constant["only_first"] == sum(right[EACH:])
    pairs = [row for row in results["differences"] if row["name"] == "expression.accuracy"]
    first, second = sorted(pairs, key=lambda row: row["p"])
    assert first["p_holm"] == pytest.approx(min(1, 2 * first["p"])) and second["p_holm"] == max(first["p_holm"], second["p"])
    table = run("compare", "constant.csv", "a.csv", "--truth", "truth.csv", "--draws", 50)[1].splitlines()
    assert table[0] == "48 test faces" and [line.split()[1] for line in table[4:6]] == ["a.csv", "constant.csv"]


def test_two_faces_have_no_interval_of_the_difference(run: Command) -> None:
    rows = [{"image": "1.jpg", "expression": "Happy"}, {"image": "2.jpg", "expression": "Sad"}]
    write_csv("right.csv", rows)
    write_csv("wrong.csv", [{**row, "expression": "Fear"} for row in rows])
    out = run("compare", "wrong.csv", "right.csv", "--truth", "right.csv", "--draws", 100)[1]
    assert "+1.000 [–] " in out and "| 0.5000 | 0.5000 " in out and "no interval of fewer than 6 faces with different answers" in out
    assert "no interval" not in run("compare", "right.csv", "right.csv", "--truth", "right.csv", "--draws", 100)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.csv", "--truth", "truth.csv"], "one model only"),
        (["a.csv", "absent.csv", "--truth", "truth.csv"], "absent.csv: No such file"),
        (["a.csv", "a.csv", "--truth", "truth.csv", "--draws", "0"], "not a number of resamples"),
    ],
)
def test_what_cannot_be_compared_is_one_line(run: Command, arguments: list[str], said: str) -> None:
    write_truth()
    write_csv("a.csv", ranked())
    code, out, err = run("compare", *arguments)
    assert code == 2 and out == "" and err.count("\n") == 1 and said in err


def test_the_program_of_the_peers_writes_answers_that_are_compared(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("happy", "sad", "sad")):
        Path("faces", name).mkdir(parents=True, exist_ok=True)
        for each in range(2):
            drawn(64 + 4 * number + each).resize((64, 64)).save(f"faces/{name}/{number}{each}.png")
    monkeypatch.setattr("sys.argv", ["answers", "faces", "out", "--train", "faces", "--whole"])
    peers_answers.main()
    names = [f"out/{name}.csv" for name in ("ours", "constant", "pixels")]
    code, out, _ = run("compare", *names, "--truth", "faces", "--draws", 20, "--json")
    ours, constant, pixels = (model["scores"]["expression.accuracy"]["value"] for model in json.loads(out[out.index("{") :])["models"])
    assert code == 0 and constant == pytest.approx(4 / 6) and pixels == 1
    assert ours == report(run, "default", "faces", "--cropped", "--averaging", "flip")["expression"]["accuracy"]
