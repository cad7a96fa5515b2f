"""ONNX files of other authors by their descriptions: small files with the same inputs and outputs, answers by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from chain import ROOT
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from ruamel.yaml import YAML

from affectnet.__main__ import main
from affectnet.engines.description import FOLDER, SHIPPED, Description, read_description
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.predict.predictor import Predictor

COLOUR = (200, 120, 40)
EACH = 8


def weights(labels: int, depth: int) -> np.ndarray:
    return np.random.default_rng(labels).normal(0, 0.5, (depth, labels)).astype(np.float32)


def write_onnx(
    path: Path,
    described: Description,
    batch: Any = "n",
    softmax: bool = False,
    outputs: Sequence[int] | None = None,
    kind: int = TensorProto.FLOAT,
) -> None:
    """The mean of each channel times `weights`. outputs: widths of the tensors into which the result is divided; kind: of the input."""
    side, depth, labels = described.image_px, described.depth, len(described.labels)
    first = described.layout == "nchw"
    shape = [batch, depth, side, side] if first else [batch, side, side, depth]
    widths = list(outputs or [labels])
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=[2, 3] if first else [1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["raw"]),
        helper.make_node("Softmax", ["raw"], ["all"], axis=1) if softmax else helper.make_node("Identity", ["raw"], ["all"]),
        helper.make_node("Split", ["all"], [f"out{position}" for position in range(len(widths))], axis=1, split=widths),
    ]
    constants = [numpy_helper.from_array(weights(labels, depth) * (0.01 if described.highest == 255 else 1), "weights")]
    results = [helper.make_tensor_value_info(f"out{position}", TensorProto.FLOAT, [batch, width]) for position, width in enumerate(widths)]
    images = helper.make_tensor_value_info("images", kind, shape)
    graph = helper.make_graph(nodes, "small", [images], results, constants)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 11)]), path)


def expected_values(described: Description) -> np.ndarray:
    """The outputs for a photograph of one colour, whatever is cut of it."""
    red, green, blue = map(float, COLOUR)
    by_channels = {"rgb": [red, green, blue], "bgr": [blue, green, red], "grey": [0.299 * red + 0.587 * green + 0.114 * blue]}
    scaled = (np.array(by_channels[described.channels]) * described.highest / 255 - described.mean) / described.std
    values: np.ndarray = scaled @ weights(len(described.labels), described.depth) * (0.01 if described.highest == 255 else 1)
    return values


def assert_answers(path: Path, description: str, averaging: Any = "none") -> None:
    described = read_description(description)
    values = dict(zip(described.labels, expected_values(described), strict=True))
    exponents = np.exp([values[name] for name in EXPRESSIONS if name in described.labels])
    predictor = Predictor.load(path, description=description, averaging=averaging)
    faces = predictor.predict_many([Image.new("RGB", (90, 70), COLOUR)] * 3, "whole")
    for (face,) in faces:
        assert list(face.probabilities) == [name for name in EXPRESSIONS if name in described.labels]
        np.testing.assert_allclose(list(face.probabilities.values()), exponents / exponents.sum(), atol=2e-3)
        if described.affect:
            np.testing.assert_allclose(
                np.array([face.valence, face.arousal], np.float64), np.clip([values["valence"], values["arousal"]], -1, 1), atol=5e-3
            )


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_description_puts_in_and_takes_out_what_it_says(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path, read_description(name), batch=1 if name in {"ferplus_8", "opencv_mobilefacenet"} else "n")
    assert_answers(path, name)


def test_facts_of_the_authors() -> None:
    """hsemotion_onnx/facial_emotions.py; onnx/models, emotion_ferplus; opencv_zoo, facial_fer_model.py."""
    eight, seven, plus = (read_description(name) for name in ("emotiefflib_b0_8", "emotiefflib_b2_7", "ferplus_8"))
    assert eight.labels == ["Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"] and eight.image_px == 224
    assert seven.labels == [label for label in eight.labels if label != "Contempt"] and seven.image_px == 260
    assert plus.labels == ["Neutral", "Happy", "Surprise", "Sad", "Anger", "Disgust", "Fear", "Contempt"]
    assert (plus.channels, plus.highest, plus.image_px) == ("grey", 255, 64)


def test_each_shipped_description_stands_in_the_document() -> None:
    text = (ROOT / "docs" / "answers.md").read_text(encoding="utf-8")
    assert SHIPPED and all(f"`{name}`" in text for name in SHIPPED) and all(f"\n{field}: " in text for field in Description.model_fields)


def description(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(FOLDER / "emotiefflib_b0_8_va.yaml")
    return {**content, "image_px": 32, **changes}


def write_description(**changes: Any) -> str:
    with Path("model.yaml").open("w") as file:
        YAML().dump(description(**changes), file)
    return "model.yaml"


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": "nhwc", "channels": "bgr"},
        {"layout": "nhwc", "channels": "grey", "mean": [0.4], "std": [0.2]},
        {"labels": ["Happy", "Sad", "Fear"], "values": "probabilities", "margin": 0.2, "square": True},
    ],
)
def test_layout_channels_and_probabilities(workspace: Path, changes: dict[str, Any]) -> None:
    name = write_description(**changes)
    write_onnx(Path("model.onnx"), read_description(name), batch=2, softmax=changes.get("values") == "probabilities")
    assert_answers(Path("model.onnx"), name)
    assert_answers(Path("model.onnx"), name, "ten_crop")


@pytest.mark.parametrize("channels", ["rgb", "grey"])
def test_an_input_of_whole_numbers_gets_rounded_pixels_and_nothing_else(workspace: Path, channels: str) -> None:
    depth = {"rgb": 3, "grey": 1}[channels]
    pixels = {"channels": channels, "highest": 255, "mean": [0.0] * depth, "std": [1.0] * depth}
    name = write_description(**pixels)
    write_onnx(Path("model.onnx"), read_description(name), kind=TensorProto.UINT8)
    write_onnx(Path("floats.onnx"), read_description(name))
    whole, floats = (Predictor.load(model, description=name) for model in ("model.onnx", "floats.onnx"))
    rounded = COLOUR if channels == "rgb" else (135, 135, 135)  # 134.8
    answer, expected = (
        whole.predict(Image.new("RGB", (90, 70), COLOUR), "whole"),
        floats.predict(Image.new("RGB", (90, 70), rounded), "whole"),
    )
    assert answer[0].probabilities == pytest.approx(expected[0].probabilities, abs=1e-5)
    for changes in ({"highest": 1}, {"mean": [0.5] * depth}, {"std": [0.5] * depth}):
        described = write_description(**{**pixels, **changes})
        with pytest.raises(UserError, match=r"model\.onnx: its input is of whole numbers, .*; .* highest: 255, mean: 0 and std: 1"):
            Predictor.load("model.onnx", description=described)


def test_several_outputs_are_read_in_the_named_order(workspace: Path) -> None:
    labels = ["Anger", "Happy", "Sad", "valence", "arousal"]
    name = write_description(labels=labels)
    write_onnx(Path("model.onnx"), read_description(name), outputs=[3, 2])
    assert_answers(Path("model.onnx"), name)
    turned = write_description(labels=[*labels[3:], *labels[:3]], outputs=["out1", "out0"])
    again = Predictor.load("model.onnx", description=turned).predict(Image.new("RGB", (90, 70), COLOUR), "whole")
    assert again == Predictor.load("model.onnx", description=write_description(labels=labels)).predict(
        Image.new("RGB", (90, 70), COLOUR), "whole"
    )


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def write_readings(labels: Sequence[str]) -> None:
    """A model whose output p is largest for grey level p, and photographs of each level in the folder of its label."""
    described = Description(**description(labels=list(labels), channels="grey", mean=[0.0], std=[1.0]))
    write_onnx(Path("model.onnx"), described)
    model = onnx.load("model.onnx")
    levels = np.arange(len(labels), dtype=np.float32) / 10
    graph = model.graph
    graph.initializer[0].CopyFrom(numpy_helper.from_array(200 * levels[None], "weights"))
    graph.initializer.append(numpy_helper.from_array(-100 * levels**2, "bias"))
    graph.node.insert(3, helper.make_node("Add", ["raw", "bias"], ["biased"]))
    graph.node[4].input[0] = "biased"
    onnx.save(model, "model.onnx")
    for position, label in enumerate(labels):
        folder = Path("faces", label.lower())
        folder.mkdir(parents=True)
        for number in range(EACH):
            Image.new("L", (64, 64), round(25.5 * position)).save(folder / f"{number}.png")


def test_scores_and_a_permuted_order_of_labels(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
    grey = {"channels": "grey", "mean": [0.0], "std": [1.0]}
    write_readings(labels)
    asked = ("evaluate", "model.onnx", "faces", "--cropped", "--as")
    code, out, err = run(capsys, *asked, write_description(labels=list(labels), **grey), "--json")
    assert code == 0 and json.loads(out)["expression"]["accuracy"] == 1 and "another order" not in err
    turned = [labels[1], labels[2], labels[0], *labels[3:]]
    code, out, err = run(capsys, *asked, write_description(labels=turned, **grey))
    assert code == 0 and "another order of the labels fits better, 1.000 right for 0.571" in err and "Disgust means Anger" in err
    written = run(capsys, "predict", "faces", "--model", "model.onnx", "--as", "model.yaml", "--whole", "--csv")[1]
    assert written.count("\n") == 1 + EACH * len(labels)


def test_info_describes_a_file_by_its_description(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_readings(("Happy", "Sad"))
    name = write_description(labels=["Happy", "Sad"], channels="grey", mean=[0.0], std=[1.0])
    code, out, _ = run(capsys, "info", "model.onnx", "--as", name, "--json")
    assert code == 0 and json.loads(out)["labels"] == ["Happy", "Sad"] and json.loads(out)["image_px"] == 32
    code, out, _ = run(capsys, "info", "model.onnx", "--as", name)
    assert code == 0 and "Happy, Sad" in out and "32 × 32 px" in out
    code, out, err = run(capsys, "info", "--as", name)
    assert code == 2 and out == "" and err.startswith("error: --as: describes an ONNX file of other authors")


def test_info_of_a_described_file_says_what_the_description_says_and_no_more(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"labels": ["Sad", None, "Happy"], "channels": "bgr", "highest": 255, "layout": "nhwc", "mean": [104.0, 117.0, 123.5]}
    name = write_description(**changes, std=[1.0, 1.0, 2.0], margin=0.2, source="the authors")
    write_onnx(Path("model.onnx"), read_description(name))
    out = run(capsys, "info", "model.onnx", "--as", name)[1]
    assert dict(line.split(None, 1) for line in out.splitlines()) == {
        "file": f"model.onnx, {Path('model.onnx').stat().st_size / 1e6:.1f} MB",
        "description": "model.yaml",
        "source": "the authors",
        "labels": "Sad, null, Happy",
        "values": "logits",
        "outputs": "all, in the file's order",
        "crop": "margin 0.2, square no",
        "input": "32 × 32 px, nhwc, bgr in 0–255, less 104, 117, 123.5, by 1, 1, 2",
    }
    content = json.loads(run(capsys, "info", "model.onnx", "--as", name, "--json")[1])
    assert content == {
        "file": "model.onnx",
        "bytes": Path("model.onnx").stat().st_size,
        "description": "model.yaml",
        **read_description(name).model_dump(),
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ["Happy", "Joy"]}, "labels.1: input should be 'Neutral', 'Happy'"),
        ({"labels": ["Happy", "Happy"]}, "labels: several of 1: Happy"),
        ({"labels": ["Happy", "valence"]}, "labels: only one of valence and arousal"),
        ({"labels": [None, None]}, "labels: no expression"),
        ({"mean": [0.5]}, "mean: 1 values for 3 channels"),
        ({"std": [0.0, 1.0, 1.0]}, "std.0: input should be greater than 0"),
        ({"side": 3}, "side: unknown; check the spelling"),
        ({"highest": 2}, "highest: input should be 1 or 255"),
        ({"labels": ["Happy", "Sad"]}, "10 values per face (out0 10), the description has 2 labels"),
        ({"image_px": 48}, "the description says nchw of [3, 48, 48]"),
        ({"outputs": ["scores"]}, "does not run on its description"),
        ({"values": "probabilities"}, "are no probabilities; try `values: logits`"),
    ],
)
def test_a_wrong_description_is_one_line(workspace: Path, changes: dict[str, Any], said: str) -> None:
    write_onnx(Path("model.onnx"), Description(**description()))
    with pytest.raises(UserError) as caught:
        Predictor.load("model.onnx", description=write_description(**changes)).predict(Image.new("RGB", (64, 64), COLOUR), "whole")
    assert "\n" not in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize("labels", [["Happy", "Sad", "Fear"], ["Happy", None, "Fear"], ["valence", "Happy", "Sad", "arousal"]])
def test_probabilities_that_are_described_as_logits_are_one_line(workspace: Path, labels: list[str | None]) -> None:
    """Of one face, too; otherwise they would get a second softmax."""
    name = write_description(labels=labels)
    write_onnx(Path("model.onnx"), read_description(name), softmax="valence" not in labels)
    if "valence" in labels:  # two values that are no part of the softmax
        model = onnx.load("model.onnx")
        model.graph.node.insert(3, helper.make_node("Split", ["raw"], ["first", "scores", "last"], axis=1, split=[1, 2, 1]))
        model.graph.node.insert(4, helper.make_node("Softmax", ["scores"], ["shares"], axis=1))
        model.graph.node.insert(5, helper.make_node("Concat", ["first", "shares", "last"], ["joined"], axis=1))
        model.graph.node[6].input[0] = "joined"
        onnx.save(model, "model.onnx")
    with pytest.raises(UserError) as caught:
        Predictor.load("model.onnx", description=name)
    assert str(caught.value) == "model.onnx: values from 0 to 1 that sum to 1 are no logits; try `values: probabilities`"
    Predictor.load("model.onnx", description=write_description(labels=labels, values="probabilities"))


def test_what_is_no_description_or_no_onnx_is_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_readings(("Happy", "Sad"))
    Path("broken.yaml").write_text("labels: [")
    for name, said in (
        ("hsemotion", f"these are {', '.join(SHIPPED)}"),
        ("broken.yaml", "unreadable YAML"),
        ("model.onnx", "model.onnx: "),
    ):
        code, out, err = run(capsys, "evaluate", "model.onnx", "faces", "--as", name)
        assert code == 2 and out == "" and err.count("\n") == 1 and said in err
    code, _, err = run(capsys, "evaluate", "model.onnx", "faces")
    assert code == 2 and "say what it expects, by --as" in err
    code, _, err = run(capsys, "evaluate", "broken.yaml", "faces", "--as", SHIPPED[0])
    assert code == 2 and "broken.yaml: not a readable ONNX file" in err
