"""`affectnet evaluate`: the stage's scores for photographs in folders, with counts; and the default model."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from chain import ROOT, metrics, run_data_stages, run_stage
from PIL import Image
from portraits import MODEL, drawn, write_model
from trees import tree_2017

from affectnet import __main__
from affectnet.__main__ import main
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.models.outputs import Averaging
from affectnet.params import read_document
from affectnet.predict import image_folder
from affectnet.predict.defaults import model_file
from affectnet.predict.options import AVERAGING
from affectnet.predict.predictor import Predictor

Command = Callable[..., tuple[int, str, str]]
FOLDERS = ("neutral", "Happiness", "SAD", "surprise", "fear", "disgust", "angry", "contempt")


@pytest.fixture
def run(workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in a folder like the repository's root, with a model; returns exit code, stdout and stderr."""
    write_model(affect=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def faces(workspace: Path) -> Path:
    """Three faces of each of two expressions, and in one folder another file and a broken image."""
    for name in ("happy", "sad"):
        (workspace / "faces" / name).mkdir(parents=True)
        for number in range(3):
            drawn(64 + number).resize((64, 64)).save(workspace / "faces" / name / f"{number}.png")
    (workspace / "faces" / "sad" / "notes.txt").write_text("none")
    return workspace / "faces"


def keys(tree: Any, *path: str) -> set[tuple[str, ...]]:
    return set().union(*(keys(value, *path, key) for key, value in tree.items())) if isinstance(tree, dict) else {path}


def at(tree: Any, path: tuple[str, ...]) -> Any:
    return at(tree[path[0]], path[1:]) if path else tree


def assert_as_the_stage(report: dict[str, Any]) -> None:
    """Asserts equal scores; rounding differs in other batches, and resamples differ where a score needs more than counts."""
    stage = metrics("evaluate")
    assert keys(report) == keys(stage)
    for path in keys(stage):
        ranked = path[0] == "interval" and {"auc", "aucpr"} & set(path)
        assert at(report, path) == pytest.approx(at(stage, path), abs=0.05 if ranked else 1e-6), path


def test_crops_in_folders_have_the_stages_scores(run: Command, workspace: Path) -> None:
    run_data_stages(tree_2017(workspace / "root", each=2, tests=3))
    curve = Path("metrics/train/plots/metrics/train/loss.tsv")
    curve.parent.mkdir(parents=True)
    curve.write_text("step\ttrain/loss\n0\t2.0\n")
    run_stage("evaluate")
    for shard in Path("data/faces").glob("test-*.parquet"):
        for number, row in enumerate(pq.read_table(shard, columns=["image", "expression"]).to_pylist()):
            for root, suffix in (("png", "png"), ("bytes", "jpg"), ("test/tiff", "tif")):
                folder = Path(root, FOLDERS[row["expression"]])
                folder.mkdir(parents=True, exist_ok=True)
                content = row["image"]["bytes"]
                if root == "bytes":
                    (folder / f"{number}.jpg").write_bytes(content)
                else:
                    Image.open(io.BytesIO(content)).save(folder / f"{number}.{suffix}")
    for arguments in (["png"], ["bytes"], ["test", "--split", "TIFF", "--batch", "5"]):
        code, out, err = run("evaluate", MODEL, *arguments, "--cropped", "--json")
        assert code == 0 and err == "evaluate: 24 photographs scored, 0 unreadable\n"
        assert_as_the_stage(json.loads(out))
    code, out, _ = run("evaluate", MODEL, "png", "--cropped")
    assert code == 0 and f"accuracy{metrics('evaluate')['expression']['accuracy']:>37.3f}" in out
    assert f"Fear{3:>33}{metrics('evaluate')['expression']['recall']['Fear']:>8.3f}" in out and "8 expressions, 24 faces" in out


def test_a_face_is_found_and_cut_and_a_photograph_without_one_is_scored_whole(run: Command, workspace: Path) -> None:
    two = Image.new("RGB", (640, 320), "grey")
    two.paste(drawn().resize((200, 200)), (20, 60))
    two.paste(drawn(), (320, 0))
    for name, image in (("one", drawn()), ("none", Image.new("RGB", (90, 60), "grey")), ("two", two)):
        for folder in ("happy", "fear"):
            Path("photographs", folder).mkdir(parents=True, exist_ok=True)
            image.save(Path("photographs", folder, f"{name}.png"))
    code, out, err = run("evaluate", MODEL, "photographs", "--json")
    *_, last = err.splitlines()
    assert (code, last) == (
        0, "evaluate: 6 photographs scored, 2 of them whole, without a detected face, 2 by the largest of several faces, 0 unreadable",
    )  # fmt: skip
    predictor = Predictor.load(MODEL, averaging="none")
    answers = [predictor.predict(Path(f"photographs/happy/{name}.png"))[:1] for name in ("one", "two")]
    answers.append(predictor.predict(Path("photographs/happy/none.png"), "whole"))
    right = sum(face.expression == "Happy" for (face,) in answers) + sum(face.expression == "Fear" for (face,) in answers)
    assert json.loads(out)["expression"]["accuracy"] == pytest.approx(right / 6)


def test_what_is_broken_is_a_line_each_and_the_rest_is_scored(run: Command, faces: Path) -> None:
    (faces / "happy" / "text.jpg").write_text("no picture")
    (faces / "sad" / "cut.png").write_bytes((faces / "sad" / "0.png").read_bytes()[:300])
    (faces / "next to the folders.png").write_bytes((faces / "sad" / "0.png").read_bytes())
    code, out, err = run("evaluate", MODEL, faces, "--cropped")
    lines = err.splitlines()
    assert code == 2 and "8 expressions, 6 faces" in out
    assert [line.startswith("error: ") and name in line for line, name in zip(lines, ("text.jpg", "cut.png"), strict=False)] == [True] * 2
    assert lines[-1] == "evaluate: 6 photographs scored, 2 unreadable, 2 other files skipped"
    assert "no photograph of Neutral, Surprise, Fear, Disgust, Anger, Contempt" in err


def test_what_a_model_does_not_know_counts_against_it_and_seven_are_called_seven(run: Command, faces: Path) -> None:
    write_model(affect=False, labels=EXPRESSIONS[:7])
    (faces / "sad").rename(faces / "contempt")
    code, out, err = run("evaluate", MODEL, faces, "--cropped")
    assert code == 0 and "Contempt                            3   0.000   0.000 – 0.000  unknown to the model: each an error" in out
    assert "the model knows 7 expressions: Neutral" in err and "count as errors, 3 of Contempt" in err
    code, out, err = run("evaluate", MODEL, faces, "--cropped", "--labels", "contempt=null", "--labels", "Joy=happy")
    assert out.startswith("7 expressions, 3 faces") and "3 photographs scored" in err and "4 other files skipped" in err
    assert "--labels Joy=happy: no folder has such a name" in err and "contempt=null" not in err


def test_averaging_is_what_the_command_says(run: Command, faces: Path) -> None:
    def likelihood(*arguments: str) -> float:
        nll: float = json.loads(run("evaluate", MODEL, faces, "--cropped", "--json", *arguments)[1])["calibration"]["nll"]
        return nll

    assert get_args(Averaging) == AVERAGING
    each = {averaging: likelihood("--averaging", averaging) for averaging in AVERAGING}
    assert len(set(each.values())) == 3 and likelihood() == each["none"]
    assert "fitted without averaging" in run("evaluate", MODEL, faces, "--cropped", "--averaging", "flip")[2]


def test_scores_and_names_of_folders_are_those_of_params_yaml() -> None:
    document = read_document(ROOT / "params.yaml")
    assert {**document["evaluate"], **__main__.SCORING} == document["evaluate"]
    assert document["datasets"]["folder"]["classes"] == image_folder.NAMES


def test_a_predictor_averages_too(run: Command) -> None:
    faces = [Predictor.load(MODEL, averaging=averaging).predict(drawn(), "whole")[0] for averaging in ("none", "flip")]
    mirrored = Predictor.load(MODEL, averaging="flip").predict(np.asarray(drawn())[:, ::-1].copy(), "whole")[0]
    assert list(mirrored.probabilities.values()) == pytest.approx(list(faces[1].probabilities.values()), abs=0.01)
    assert faces[0].probabilities != faces[1].probabilities
    with pytest.raises(UserError, match="averaging: 'five' is unknown; choose one of none, flip, ten_crop"):
        Predictor.load(MODEL, averaging="five")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["faces/happy"], "no folder of an expression in it"),
        (["absent"], "absent: No such file or directory; give a folder"),
        (["params.yaml"], "params.yaml: Not a directory; give a folder"),
        (["."], "folders that name no expression, 2: faces, models; expected are neutral, happy, happiness, "),
        ([".", "--split", "Val"], ".: 0 folders named 'Val' in it, expected 1; its folders: 2: faces, models"),
        (["faces", "--labels", "happy=joyful"], "--labels: 'happy=joyful' is not name=Expression"),
        (["faces", "--labels", "happy"], "--labels: 'happy' is not name=Expression"),
        (["faces", "--labels", "happy=null", "--labels", "sad=null"], "no folder of an expression in it"),
        (["faces", "--batch", "0"], "'0' is not a number of faces from 1 to 65,536"),
        (["faces", "--averaging", "five"], "invalid choice: 'five'"),
        (["faces", "--detector", "absent.onnx"], "'absent.onnx' is neither a file nor one of"),
        ([], "give FOLDER with photographs"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(arguments: list[str], said: str, run: Command, faces: Path) -> None:
    code, out, err = run("evaluate", MODEL, *arguments)
    assert (code, out) == (2, "") and said in err and err.startswith("error: ") and err.count("\n") == 1


def test_a_folder_without_a_readable_photograph_and_a_model_without_expressions_are_one_line(run: Command, workspace: Path) -> None:
    (workspace / "empty" / "happy").mkdir(parents=True)
    code, out, err = run("evaluate", MODEL, "empty")
    assert (code, out, err.count("\n")) == (2, "", 2) and "empty/happy: no photograph and no video in it or below" in err
    assert "no photograph could be read, 1 unreadable, 0 other files" in err
    write_model(labels=())
    code, out, err = run("evaluate", MODEL, "empty")
    assert (code, out, err.count("\n")) == (2, "", 1) and "predicts only valence and arousal" in err


def test_the_shipped_model_predicts_by_default_and_by_its_name(
    run: Command, workspace: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn().save("face.png")
    code, out, err = run("predict", workspace / "face.png", "--whole")
    assert code == 0 and err.splitlines()[0] == "predict: the shipped model, fer2013; choose another with --model"
    (workspace / "elsewhere").mkdir()
    monkeypatch.chdir(workspace / "elsewhere")
    code, named, err = run("predict", workspace / "face.png", "--whole", "--model", "default")
    assert (code, named) == (0, out) and "shipped" not in err
    assert run("info")[1] == run("info", "default")[1] and f"{model_file(None)}, " in run("info")[1]
    assert run("evaluate", "default", faces, "--cropped")[1] == run("evaluate", model_file(None), faces, "--cropped")[1]
