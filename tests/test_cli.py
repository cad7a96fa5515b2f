"""`affectnet predict` and `affectnet info`: they write what the Predictor returns, and count every file."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from chain import ROOT
from model_files import metadata
from numpy.typing import NDArray
from PIL import Image, ImageColor
from portraits import MODEL, drawn, write_model

from affectnet.__main__ import main
from affectnet.expressions import EXPRESSIONS
from affectnet.images.video import frames
from affectnet.models.checkpoint import load_model
from affectnet.predict.batch import BATCH, Options, results
from affectnet.predict.colours import COLOURS, colour
from affectnet.predict.parquet_table import contract
from affectnet.predict.paths import Shot
from affectnet.predict.predictor import Face, Predictor
from affectnet.predict.writers import EDGES
from affectnet.running.parallel import cores

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in a folder with a model; returns exit code, stdout and stderr."""
    write_model()

    def run(command: object, *arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in (command, *arguments, *(["--model", MODEL] if command == "predict" else []))])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def album(workspace: Path) -> Path:
    """Four photographs, one of them without a face, and another file."""
    folder = workspace / "photographs"
    (folder / "b").mkdir(parents=True)
    drawn().save(folder / "a.png")
    Image.new("RGB", (90, 60), "grey").save(folder / "b" / "empty.PNG")
    drawn(400).convert("L").save(folder / "b" / "grey.tif")
    two = Image.new("RGB", (640, 320), "grey")
    two.paste(drawn().resize((200, 200)), (20, 60))
    two.paste(drawn(), (320, 0))
    two.save(folder / "c.png")
    (folder / "notes.txt").write_text("none")
    return folder


FIELDS = ("box", "expression", "probabilities", "valence", "arousal", "detector")
NAMES = ("a.png", "b/empty.PNG", "b/grey.tif", "c.png")


def write_video(path: Path, seconds: float = 3, rate: int = 10) -> None:
    """Writes a video with a face only in the first second."""
    plain = path.with_name("plain.avi")
    writer = cv2.VideoWriter(str(plain), cv2.VideoWriter.fourcc(*"MJPG"), rate, (320, 320))
    face = np.ascontiguousarray(np.asarray(drawn())[:, :, ::-1])
    for number in range(round(seconds * rate)):
        writer.write(face if number < rate else np.full_like(face, 128))
    writer.release()
    plain.rename(path)


def pixels(path: Path) -> NDArray[np.int16]:
    with Image.open(path) as image:
        return np.asarray(image, np.int16)


def as_json(face: Face) -> dict[str, Any]:
    return {
        "box": list(face.box),
        **{name: getattr(face, name) for name in ("expression", "probabilities", "valence", "arousal", "detector")},
    }


def assert_same(results: list[dict[str, Any]], expected: list[Face], fields: tuple[str, ...] = FIELDS) -> None:
    """Asserts the same faces, to the digits of text."""
    assert len(results) == len(expected)
    for one, face in zip(results, expected, strict=True):
        content = as_json(face)
        assert tuple(one) == fields and list(one["probabilities"]) == list(EXPRESSIONS)
        assert "box" not in one or one["box"] == pytest.approx(content["box"], abs=0.051)
        assert one["expression"] == content["expression"]
        assert one["probabilities"] == pytest.approx(content["probabilities"], abs=1e-4)
        assert (one["valence"], one["arousal"]) == pytest.approx((content["valence"], content["arousal"]), abs=1e-4)
        assert one.get("detector", face.detector) == face.detector


def test_json_is_what_the_predictor_says(run: Command, album: Path) -> None:
    code, out, err = run("predict", album, "--json")
    results = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [one["path"] for one in results] == [str(album / name) for name in NAMES]
    assert all(list(one) == ["path", "faces", *(["whole"] if not one["faces"] else [])] for one in results)
    predictor = Predictor.load(MODEL)
    for one, expected in zip(results, predictor.predict_many([album / name for name in NAMES]), strict=True):
        assert_same(one["faces"], expected)
    assert [len(one["faces"]) for one in results] == [1, 0, 1, 2]
    assert_same([results[1]["whole"]], predictor.predict(album / "b" / "empty.PNG", "whole"), FIELDS[1:-1])
    assert err.splitlines()[-1] == "predict: 4 photographs, 4 faces, 1 without a face (answered whole), 0 unreadable, 1 other file skipped"


def rows_of_csv(run: Command, *arguments: object) -> list[dict[str, Any]]:
    out = run("predict", *arguments, "--csv")[1]
    text = ("path", "where", "detector", "expression")
    return [
        {name: cell if name in text else float(cell) if cell else None for name, cell in row.items()}
        for row in csv.DictReader(io.StringIO(out))
    ]


def rows_of_parquet(run: Command, *arguments: object) -> list[dict[str, Any]]:
    out = run("predict", *arguments, "--parquet", "new/found.parquet")[1]
    assert out == ""
    rows: list[dict[str, Any]] = pq.read_table("new/found.parquet").to_pylist()
    return rows


@pytest.mark.parametrize("rows", [rows_of_csv, rows_of_parquet])
def test_tables_have_one_row_per_face_and_one_for_a_photograph_without(
    rows: Callable[..., list[dict[str, Any]]], run: Command, album: Path
) -> None:
    table = rows(run, album)
    assert list(table[0]) == [
        "path", "seconds", "face", "where", "detector", *EDGES, "expression", *EXPRESSIONS, "valence", "arousal",
    ]  # fmt: skip
    assert [(row["path"], row["face"], row["where"], row["seconds"]) for row in table] == [
        (str(album / name), face, "detected" if face else "whole", None)
        for name, face in (("a.png", 1), ("b/empty.PNG", None), ("b/grey.tif", 1), ("c.png", 1), ("c.png", 2))
    ]
    assert not any(table[1][edge] for edge in EDGES)
    again = [
        {
            "box": [row[edge] for edge in EDGES],
            "expression": row["expression"],
            "probabilities": {name: row[name] for name in EXPRESSIONS},
            "valence": row["valence"],
            "arousal": row["arousal"],
            "detector": row["detector"] or None,
        }
        for row in table
    ]
    predictor = Predictor.load(MODEL)
    expected = predictor.predict_many([album / name for name in NAMES])
    assert_same([again[at] for at in (0, 2, 3, 4)], [face for faces in expected for face in faces])
    del again[1]["box"], again[1]["detector"]
    assert_same(again[1:2], predictor.predict(album / "b" / "empty.PNG", "whole"), FIELDS[1:-1])


def said(face: Face) -> str:
    assert face.expression
    return f"{face.expression} {face.probabilities[face.expression]:.2f}, valence {face.valence:+.2f}, arousal {face.arousal:+.2f}"


def test_without_a_form_each_face_is_a_readable_line_and_so_is_none(run: Command, album: Path) -> None:
    predictor = Predictor.load(MODEL)
    (face,) = predictor.predict(album / "a.png")
    (whole,) = predictor.predict(album / "b" / "empty.PNG", "whole")
    left, top, right, bottom = (round(edge) for edge in face.box)
    code, out, _ = run("predict", album / "a.png", album / "b" / "empty.PNG")
    assert code == 0 and out == (
        f"{album}/a.png  {said(face)}  at {left}, {top}, {right}, {bottom}\n"
        f"{album}/b/empty.PNG  no face; the whole photograph: {said(whole)}\n"
    )


def test_a_model_of_affect_only_has_no_probabilities(run: Command, album: Path) -> None:
    write_model(labels=())
    assert "  valence " in run("predict", album / "a.png")[1]
    (row,) = rows_of_parquet(run, album / "a.png")
    assert row["expression"] is None and not set(EXPRESSIONS) & set(row) and -1 <= row["valence"] <= 1
    (one,) = [json.loads(line) for line in run("predict", album / "a.png", "--json")[1].splitlines()]
    assert one["faces"][0]["expression"] is None and one["faces"][0]["probabilities"] == {}


def test_a_model_of_crops_that_landmarks_levelled_says_that_photographs_have_none(run: Command, album: Path) -> None:
    write_model(crop={**metadata().crop, "align": True})
    warning = f"predict: WARNING: {MODEL.name}: its training crops are levelled by 68 landmarks; no detector gives them"
    assert warning in run("predict", album / "a.png")[2]
    assert "WARNING" not in run("predict", album / "a.png", "--whole")[2]


def test_whole_takes_each_photograph_for_a_face(run: Command, album: Path) -> None:
    _, out, err = run("predict", album, "--whole", "--json")
    results = [json.loads(line) for line in out.splitlines()]
    assert "4 faces, 0 without a face, 0 unreadable" in err
    assert {row["where"] for row in rows_of_csv(run, album, "--whole")} == {"whole"}
    assert [one["faces"][0]["box"][2:] for one in results] == [[320, 320], [90, 60], [400, 400], [640, 320]]
    assert_same(results[3]["faces"], Predictor.load(MODEL).predict(album / "c.png", "whole"))


def test_a_video_gives_one_frame_a_second(run: Command, workspace: Path) -> None:
    write_video(workspace / "clip.avi")
    code, out, err = run("predict", "clip.avi", "--json")
    results = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and all(list(one) == ["path", "seconds", "faces"] for one in results)
    assert [(one["path"], one["seconds"]) for one in results] == [("clip.avi", 0.0), ("clip.avi", 1.0), ("clip.avi", 2.0)]
    expected = Predictor.load(MODEL).predict_many([frame for _, frame in frames("clip.avi", 1)])
    assert expected[0]
    for one, faces in zip(results, expected, strict=True):
        assert_same(one["faces"], faces)
    assert "0 photographs, 3 frames of videos" in err
    for rows in (rows_of_csv, rows_of_parquet):
        assert [row["seconds"] for row in rows(run, "clip.avi")] == [0.0] * len(expected[0]) + [1.0, 2.0]


@pytest.mark.parametrize(
    ("every", "times"),
    [(1, [0, 1, 2]), (0.5, [0, 0.5, 1, 1.5, 2, 2.5]), (0.75, [0, 0.8, 1.5, 2.3]), (9, [0]), (0, [number / 10 for number in range(30)])],
)
def test_frames_are_those_at_or_just_after_each_multiple(every: float, times: list[float], workspace: Path) -> None:
    write_video(workspace / "clip.avi")
    assert [seconds for seconds, _ in frames("clip.avi", every)] == times


def test_a_frame_has_the_colours_of_the_photograph(workspace: Path) -> None:
    write_video(workspace / "clip.avi")
    _, frame = next(iter(frames("clip.avi", 1)))
    assert np.abs(frame.mean((0, 1)) - np.asarray(drawn()).mean((0, 1))).max() < 3


def test_what_is_broken_is_one_line_and_counted_and_the_rest_goes_on(run: Command, album: Path) -> None:
    whole = (album / "a.png").read_bytes()
    (album / "cut.png").write_bytes(whole[: len(whole) // 2])
    (album / "text.jpg").write_text("no picture")
    (album / "zero.webp").write_bytes(b"")
    (album / "film.mp4").write_bytes(b"no film")
    write_video(album / "whole.avi", seconds=8)
    film = (album / "whole.avi").read_bytes()
    (album / "short.avi").write_bytes(film[: len(film) // 4])
    (album / "whole.avi").unlink()
    code, out, err = run("predict", album, "absent.png", "--json")
    read = [Path(json.loads(line)["path"]).name for line in out.splitlines()]
    assert code == 2 and [name for name in read if name != "short.avi"] == [Path(name).name for name in NAMES]
    *problems, last = err.splitlines()
    assert len(problems) == 6 and all(line.startswith("error: ") for line in problems)
    for name in ("cut.png", "text.jpg", "zero.webp", "film.mp4", "short.avi", "absent.png"):
        assert sum(f"{name}: " in line for line in problems) == 1
    assert ", 6 unreadable" in last and last.startswith("predict: 4 photographs, ")


def test_copies_have_the_box_and_the_label_drawn_on_in_the_colour_of_the_expression(run: Command, album: Path) -> None:
    (face,) = Predictor.load(MODEL).predict(album / "a.png")
    shade = ImageColor.getrgb(colour(face.expression))
    left, top, right, bottom = (round(edge) for edge in face.box)
    assert run("predict", album, "--annotate", "copies")[0] == 0
    copy, original = pixels(Path("copies/a.jpg")), pixels(album / "a.png")
    assert copy.shape == original.shape
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    for y, x in ((bottom - 1, middle_x), (middle_y, left), (middle_y, right - 1), (bottom - 1, left), (top, middle_x)):
        assert np.abs(copy[y, x] - shade).max() < 40 < np.abs(original[y, x] - shade).max()
    inside = slice(top + 8, bottom - 8), slice(left + 8, right - 8)
    assert np.abs(copy[inside] - original[inside]).mean() < 6
    label = copy[max(0, top - 40) : top, left : left + 60]
    assert (np.abs(label - shade).max(2) < 40).any() and (label.max(2) < 60).any()
    assert {str(path.relative_to("copies")) for path in Path("copies").rglob("*.*")} == {"a.jpg", "b/empty.jpg", "b/grey.jpg", "c.jpg"}


def test_copies_overwrite_nothing_but_themselves(run: Command, album: Path) -> None:
    Path("copies").mkdir()
    Path("copies/a.jpg").write_text("mine")
    drawn(200).save("c.png")
    for _ in range(2):
        code, _, err = run("predict", album, "c.png", "--annotate", "copies")
        assert code == 0 and "predict: 5 photographs" in err
        assert sorted(path.name for path in Path("copies").glob("*.*")) == ["a-2.jpg", "a.jpg", "c-2.jpg", "c.jpg"]
    assert Path("copies/a.jpg").read_text() == "mine"
    assert [pixels(Path("copies") / name).shape[1] for name in ("c.jpg", "c-2.jpg")] == [640, 200]


def test_a_folder_is_searched_without_the_copies_in_it(run: Command, album: Path) -> None:
    for _ in range(2):
        assert "predict: 4 photographs, 4 faces" in run("predict", album, "--annotate", album / "copies")[2]
    assert len(list((album / "copies").rglob("*.jpg"))) == 4


@pytest.mark.parametrize("path", ["photographs", "photographs/b", "photographs/a.jpg"])
def test_copies_among_the_photographs_are_refused(path: str, run: Command, album: Path) -> None:
    drawn().save(album / "a.jpg")
    before = {file: file.read_bytes() for file in album.rglob("*.*")}
    code, _, err = run("predict", path, "--annotate", "photographs")
    assert code == 2 and err.startswith("error: photographs: ") and err.count("\n") == 1
    assert {file: file.read_bytes() for file in album.rglob("*.*")} == before


def test_names_that_are_no_utf8_break_nothing(run: Command, workspace: Path) -> None:
    name = os.fsdecode(b"n\xff\n.png")
    drawn().save("plain.png")
    Path("plain.png").rename(name)
    write_video(workspace / os.fsdecode(b"v\xfe.avi"), seconds=1)
    results = [json.loads(line) for line in run("predict", name, os.fsdecode(b"v\xfe.avi"), "--json")[1].splitlines()]
    assert [os.fsencode(one["path"]) for one in results] == [b"n\xff\n.png", b"v\xfe.avi"] and results[1]["faces"]
    assert run("predict", name)[1].startswith("n\\udcff\\n.png  ")
    assert {row["path"] for rows in (rows_of_csv, rows_of_parquet) for row in rows(run, name)} == {"n\\xff\n.png"}
    code, _, err = run("predict", name, os.fsdecode(b"absent\xff\n"), "--annotate", "copies")
    assert code == 2 and err.startswith("error: absent\\udcff\\n: ")
    assert [os.fsencode(path.name) for path in Path("copies").iterdir()] == [b"n\xff\n.jpg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict"], "required: PATH"),
        (["describe"], "invalid choice: 'describe'"),
        (["predict", "a", "--every", "-1"], "'-1' is not a number of seconds"),
        (["predict", "a", "--every", "nan"], "'nan' is not a number of seconds"),
        (["predict", "a", "--json", "--csv"], "not allowed with"),
        (["predict", "a", "--model", "absent"], "absent: missing"),
        (["predict", "a", "--model", "params.yaml"], "neither an ONNX nor a safetensors file"),
        (["predict", "a", "--detector", "absent.onnx"], "'absent.onnx' is neither a file nor one of"),
        (["predict", "a", "--parquet", "params.yaml"], "not a Parquet file"),
        (["predict", "a", "--parquet", "models"], "a folder"),
        (["predict", "a", "--annotate", "params.yaml"], "a file; give a folder"),
        (["info", "absent"], "absent: missing"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    arguments: list[str], said: str, run: Command, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (workspace / "params.yaml").read_bytes()
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(str(ended.code))
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and said in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert (workspace / "params.yaml").read_bytes() == before


def test_only_so_many_photographs_are_under_way(run: Command, album: Path) -> None:
    taken = []

    def read() -> Iterator[Shot]:
        for number in range(120):
            taken.append(number)
            yield Shot(str(album / "b" / "empty.PNG"), "empty.PNG")

    answered = results(Predictor.load(MODEL), read(), Options(whole=True, every=1, bar=False))
    for done, _ in enumerate(answered, 1):
        assert len(taken) - done < BATCH + 2 * cores()
    assert done == 120


def test_info_says_what_the_card_says(run: Command) -> None:
    code, out, _ = run("info", MODEL, "--json")
    content = json.loads(out)
    metadata = load_model(MODEL)[1]
    assert code == 0 and content["bytes"] == MODEL.stat().st_size and content["weights"] > 10_000
    assert content["labels"] == list(metadata.labels) and content["crop"] == metadata.crop and content["training"] == metadata.training
    out = run("info", MODEL)[1]
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if " " in line.rstrip())
    assert lines["expressions"] == ", ".join(EXPRESSIONS) and lines["validation"] == "macro-F1 0.500"
    assert lines["data"] == "training faces of SHA-256 00" and lines["epoch"] == "2 of 3" and "vgg16_bn" in lines["network"]
    assert lines["input"].startswith("32 × 32 px") and "margin" in lines["crop"] and lines["temperature"] == "1.5"


def test_the_model_card_of_the_pipeline_is_of_no_other_file_next_to_it(run: Command) -> None:
    card, other = MODEL.with_name("model_card.md"), MODEL.with_name("other.safetensors")
    shutil.copy(MODEL, other)
    card.write_text("a card")
    assert json.loads(run("info", MODEL, "--json")[1])["card"] == str(card)
    assert json.loads(run("info", other, "--json")[1])["card"] is None and str(card) not in run("info", other)[1]
    other.with_suffix(".md").write_text("its own")
    assert json.loads(run("info", other, "--json")[1])["card"] == str(other.with_suffix(".md"))


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment, **options)


def test_a_closed_pipe_ends_quietly(run: Command, album: Path) -> None:
    started = process("-m", "affectnet", "predict", str(album), "--json", "--model", str(MODEL))
    assert started.stdout is not None and started.stderr is not None
    started.stdout.close()
    assert started.stderr.read() == "" and started.wait() == 141
    started.stderr.close()


def test_probabilities_in_text_have_six_digits_and_boxes_one_decimal(run: Command, album: Path) -> None:
    (one,) = [json.loads(line) for line in run("predict", album / "a.png", "--json")[1].splitlines()]
    (row,) = rows_of_csv(run, album / "a.png")
    (whole,) = rows_of_parquet(run, album / "a.png")
    assert one["faces"][0]["probabilities"] == {name: row[name] for name in EXPRESSIONS} == {
        name: float(f"{whole[name]:.6g}") for name in EXPRESSIONS
    }  # fmt: skip
    assert one["faces"][0]["box"] == [row[edge] for edge in EDGES] == [round(whole[edge], 1) for edge in EDGES]
    assert max(abs(whole[name] - row[name]) for name in EXPRESSIONS) > 0


def test_the_bare_command_shows_help_and_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0 and "predict" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"affectnet {version('affectnet-pipeline')}\n"


def test_hidden_files_and_pipes_are_other_files_and_addresses_are_not_read(run: Command, album: Path) -> None:
    for name in ("._a.jpg", ".thumbnails/b.jpg", "__MACOSX/._c.jpg"):
        (album / name).parent.mkdir(exist_ok=True)
        (album / name).write_bytes(b"of the system")
    os.mkfifo(album / "pipe.jpg")
    code, out, err = run("predict", album, "https://example.org/x.jpg")
    assert "5 other files skipped" in err and "pipe.jpg" not in err + out and "._" not in err + out
    assert code == 2 and "https://example.org/x.jpg: addresses are not read; download the photograph" in err


def test_an_empty_folder_is_an_error(run: Command, workspace: Path) -> None:
    (workspace / "nothing").mkdir()
    code, out, err = run("predict", "nothing")
    assert code == 2 and out == "" and "error: nothing: no photograph and no video" in err


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from affectnet.__main__ import main\ntry: main(['predict', '--help'])\nfinally: print(sorted(sys.modules))"
    out, err = process("-c", code).communicate()
    assert "--annotate DIR" in out and err == ""
    for name in ("torch", "numpy", "cv2", "PIL", "pyarrow", "tqdm"):
        assert f"'{name}'" not in out


def test_the_columns_and_colours_stand_in_the_document() -> None:
    table, text = contract(EXPRESSIONS, True), (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    assert f"One row: {table.row}." in text and f"\n\n{table.markdown()}\n\n" in text
    assert all(f"| {name} | `{shade}` " in text for name, shade in COLOURS.items())
