"""A model file in torch and in ONNX Runtime: the same predictions, the same lines about files and devices that are wrong."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from chain import TINY, refused
from drawn import NAMES, face
from model_files import metadata
from onnx import TensorProto
from PIL import Image

from affectnet.engines import engine as engines
from affectnet.engines import onnx_engine
from affectnet.engines.engine import file_kind, open_engine
from affectnet.engines.onnx_engine import OnnxEngine
from affectnet.engines.onnx_export import export_network
from affectnet.engines.torch_engine import TorchEngine
from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.calibration import probabilities
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.checkpoint import save_model
from affectnet.models.metadata import CHECKSUM, METADATA_KEY, ModelMetadata
from affectnet.models.network import build
from affectnet.models.outputs import Averaging
from affectnet.predict.predictor import Predictor


def crops(count: int = 12, side: int = 32) -> np.ndarray:
    drawn = [face(NAMES[number % len(NAMES)], number, side=48).resize((side, side)) for number in range(count)]
    return np.stack([np.asarray(image.convert("RGB")) for image in drawn])


@cache
def content(half: bool, **changes: Any) -> tuple[bytes, bytes, ModelMetadata]:
    """One untrained network as the bytes of a safetensors and of an ONNX file. An export takes a second."""
    torch.manual_seed(7)
    described = metadata(**{"affect": True, "temperature": 1.7, **changes})
    network = build(ModelParams.model_validate(TINY), described.outputs).eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_var.uniform_(0.2, 2.0)  # type: ignore[union-attr]
        network.classifier[-1].weight.mul_(20)  # type: ignore[index, union-attr]
    with TemporaryDirectory() as folder:
        weights = Path(folder, "model.safetensors")
        save_model(weights, network, described, "float16" if half else "float32")
        stored = TorchEngine.load(weights)
        return weights.read_bytes(), export_network(stored.network, described, half=half), described


def write(folder: Path, half: bool = False, **changes: Any) -> tuple[Path, Path, ModelMetadata]:
    """One untrained network as a safetensors and as an ONNX file."""
    weights, exported = folder / "model.safetensors", folder / "model.onnx"
    torch_bytes, onnx_bytes, described = content(half, **changes)
    weights.write_bytes(torch_bytes)
    exported.write_bytes(onnx_bytes)
    return weights, exported, described


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize(("averaging", "furthest"), [("none", 1e-5), ("flip", 1e-5), ("ten_crop", 2e-3)])
def test_both_engines_predict_the_same(tmp_path: Path, averaging: Averaging, furthest: float, half: bool) -> None:
    weights, exported, described = write(tmp_path, half)
    outputs = [open_engine(path).outputs(crops(), averaging, batch=5) for path in (weights, exported)]
    expected, actual = (probabilities(one.logits, described.temperature) for one in outputs)
    assert expected.std(0).max() > 0.01
    np.testing.assert_allclose(actual, expected, atol=furthest)
    np.testing.assert_allclose(outputs[1].affect, outputs[0].affect, atol=furthest)
    assert (outputs[0].logits.argmax(1) == outputs[1].logits.argmax(1)).all()


@pytest.mark.parametrize("changes", [{"labels": ()}, {"affect": False}], ids=["affect", "expressions"])
def test_a_model_of_one_task_has_empty_outputs_for_the_other(tmp_path: Path, changes: dict[str, Any]) -> None:
    weights, exported, described = write(tmp_path, **changes)
    for path in (weights, exported):
        outputs = open_engine(path).outputs(crops(3))
        assert outputs.logits.shape == (3, len(described.labels)) and outputs.affect.shape == (3, 2 * described.affect)
        (predicted,) = Predictor.load(path).predict(face("Happy", 1, side=64), "whole")
        assert (predicted.expression is None, predicted.valence is None) == (not described.labels, not described.affect)


def test_both_files_have_the_same_metadata_and_number_of_weights(tmp_path: Path) -> None:
    weights, exported, _ = write(tmp_path)
    first, second = open_engine(weights), open_engine(exported)
    assert asdict(first.metadata) == asdict(second.metadata) and first.weights == second.weights > 0


def test_each_run_and_number_of_threads_gives_the_same_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, exported, _ = write(tmp_path)
    outputs = []
    for threads in (1, 1, 2, 3):
        monkeypatch.setattr(onnx_engine, "cores", lambda threads=threads: threads)
        outputs.append(OnnxEngine(exported).outputs(crops(33)))
    assert all((one.logits == outputs[0].logits).all() and (one.affect == outputs[0].affect).all() for one in outputs)


def test_a_file_is_told_by_its_content_and_then_by_its_name(tmp_path: Path) -> None:
    weights, exported, _ = write(tmp_path)
    misnamed = tmp_path / "exported.safetensors"
    misnamed.write_bytes(exported.read_bytes())
    assert [file_kind(path) for path in (weights, exported, misnamed)] == ["safetensors", "onnx", "onnx"]
    torch.save({}, tmp_path / "model.pth")
    (tmp_path / "model.txt").write_text("weights")
    for name, line in [
        ("model.pth", "a PyTorch file, which could run code when it is opened; give model.onnx"),
        ("model.txt", "neither an ONNX nor a safetensors file; give model.onnx"),
        ("none.onnx", "missing; give model.onnx"),
        (".", "Is a directory; give model.onnx"),
    ]:
        with refused(line):
            open_engine(tmp_path / name)


def test_without_torch_a_safetensors_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, _, _ = write(tmp_path)
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    with refused(r"needs torch; pip install 'affectnet-pipeline\[train\]', or give its model.onnx"):
        open_engine(weights)


def test_a_device_that_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, exported, _ = write(tmp_path)
    for device in ("mps", "gpu", "cuda:x", "CPU"):
        with refused(f"device: no device '{device}' here; ONNX Runtime sees cpu; install onnxruntime-gpu for cuda"):
            open_engine(exported, device)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx_engine.CUDA, onnx_engine.CPU])
    assert onnx_engine._providers("cuda:1") == [(onnx_engine.CUDA, {"device_id": "1"}), onnx_engine.CPU]
    assert onnx_engine._providers("auto") == [(onnx_engine.CUDA, {"device_id": "0"}), onnx_engine.CPU]
    assert onnx_engine._providers("cpu") == [onnx_engine.CPU]


def foreign(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def entry_of(model: onnx.ModelProto) -> Any:
    """The file's metadata as an entry, whose `value` is its JSON."""
    (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    return entry


def change_metadata(model: onnx.ModelProto, **changes: object) -> None:
    """Changes fields of the metadata, as a program would that writes the file without a checksum."""
    content = json.loads(entry_of(model).value)
    del content[CHECKSUM]
    entry_of(model).value = json.dumps({**content, **changes})


def other_labels(model: onnx.ModelProto) -> None:
    change_metadata(model, labels=EXPRESSIONS[:5])


def unknown_crop(model: onnx.ModelProto) -> None:
    change_metadata(model, crop={**json.loads(entry_of(model).value)["crop"], "padding": "none"})


def huge_side(model: onnx.ModelProto) -> None:
    change_metadata(model, image_px=10**9)


def damaged(model: onnx.ModelProto) -> None:
    entry_of(model).value = entry_of(model).value.replace("Surprise", "SArprise")


def no_count(model: onnx.ModelProto) -> None:
    kept = [entry for entry in model.metadata_props if entry.key != "weights"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def another_input(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "crops":
                node.input[index] = "faces"
    model.graph.input[0].name = "faces"


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "RunProgram"


def other_file(model: onnx.ModelProto) -> None:
    """Weights in another file, which a model file never has."""
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (foreign, "not a model of this pipeline"),
        (other_labels, "its inputs and outputs, .* are not those of its metadata; export the model again"),
        (unknown_crop, "invalid model metadata: crop.padding: "),
        (huge_side, "invalid model metadata: image_px: "),
        (damaged, "invalid model metadata: damaged or edited"),
        (no_count, "no number of weights in its metadata; export the model again"),
        (another_input, "its inputs and outputs, .* are not those of its metadata"),
        (unknown_operator, "not a readable ONNX file: "),
        (other_file, "not a readable ONNX file: "),
    ],
)
def test_an_onnx_file_of_another_kind_is_one_line(tmp_path: Path, change: Callable[[onnx.ModelProto], None], line: str) -> None:
    _, exported, _ = write(tmp_path)
    model = onnx.load(exported)
    change(model)
    exported.write_bytes(model.SerializeToString())
    with refused(line):
        Predictor.load(exported)


def test_a_graph_that_computes_nan_is_one_line(tmp_path: Path) -> None:
    weights, exported, described = write(tmp_path)
    engine = TorchEngine.load(weights)
    with torch.no_grad():
        engine.network.classifier[-1].bias.fill_(float("nan"))  # type: ignore[index, union-attr]
    exported.write_bytes(export_network(engine.network, replace(described)))
    with refused("outputs are NaN or inf for 1 of 1 faces; train another model"):
        Predictor.load(exported).predict(Image.new("RGB", (40, 40)), "whole")


def test_a_model_whose_input_has_another_side_resizes_as_pillow(tmp_path: Path) -> None:
    _, exported, described = write(tmp_path)
    engine, large = OnnxEngine(exported), crops(4, 80)
    small = np.stack([np.asarray(Image.fromarray(crop).resize((32, 32), Image.Resampling.BICUBIC)) for crop in large])
    resized, expected = (probabilities(engine.outputs(one).logits, described.temperature) for one in (large, small))
    np.testing.assert_allclose(resized, expected, atol=2e-3)


FUZZ = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from affectnet.errors import UserError
from affectnet.predict.predictor import Predictor
import numpy as np
whole = Path(sys.argv[1]).read_bytes()
broken = Path(sys.argv[2])
opened = 0
for case in range(int(sys.argv[3]), int(sys.argv[4])):
    generator = np.random.default_rng(case)
    content = bytearray(whole)
    if case % 3 == 0:
        content = content[: int(generator.integers(1, len(content)))]
    else:
        first = 4000 if case % 3 == 1 else len(content)
        for _ in range(1 + case % 5):
            at = int(generator.integers(0, min(first, len(content))))
            content[at] ^= 1 << int(generator.integers(8))
    broken.write_bytes(content)
    try:
        Predictor.load(broken).predict(np.full((40, 40, 3), 90, np.uint8), "whole")
        opened += 1
    except UserError as error:
        assert "\\n" not in str(error) and len(str(error)) < 1000, error
print(opened)
"""


def test_a_damaged_file_predicts_or_is_one_line(tmp_path: Path) -> None:
    """In a process of its own, since ONNX Runtime is not written in Python."""
    _, exported, _ = write(tmp_path)
    program = [sys.executable, "-c", FUZZ, str(exported), str(tmp_path / "broken.onnx"), "0", "90"]
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and 0 < int(done.stdout) < 90, done.stderr[-2000:]
