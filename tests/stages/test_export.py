import copy
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from chain import ROOT, TINY, entry, metrics, pipeline_folder, run_data_stages, run_stage
from PIL import Image
from trees import tree_2017

from affectnet.engines.onnx_engine import session
from affectnet.engines.onnx_export import export_network
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.models.dataset import load_faces
from affectnet.models.layers import last_linear
from affectnet.models.metadata import ModelMetadata
from affectnet.predict.predictor import Predictor

MODEL, ONNX = Path("models/model.safetensors"), Path("models/model.onnx")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of both tasks, trained a little."""
    with pipeline_folder(tmp_path_factory, "trained") as folder:
        run_data_stages(tree_2017(folder / "root", each=6, tests=2), crop={"image_px": 80})
        run_stage("train", model=TINY, epochs=2, batch=16, task=entry("task", "both"))
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    ONNX.unlink(missing_ok=True)
    return trained


def test_the_file_answers_as_the_predictor_does_from_the_photographs_own_pixels(here: Path) -> None:
    line = run_stage("export")
    comparison, ask = metrics("export"), session(ONNX)
    assert comparison["difference"]["largest"] < 0.01 and comparison["equal_answers"] == 1.0
    assert comparison["difference_same_pixels"]["largest"] < 1e-4
    validation = sum(metrics("clean")["by_split"]["validation"].values())
    assert comparison["faces"] == validation and f"on {validation} validation faces" in line
    assert set(comparison["scores"]["onnx"]) == {"accuracy", "valence_ccc", "arousal_ccc"} and comparison["bytes"] == ONNX.stat().st_size
    predictor = Predictor.load(MODEL, device="cpu", averaging="none")
    for side in (32, 57, 80):  # the crop policy resizes none, so that both get the same pixels
        buffer = io.BytesIO()
        Image.effect_noise((side, side), 60).convert("RGB").save(buffer, "JPEG")
        (face,) = predictor.predict(buffer.getvalue(), faces="whole")
        answered = ask(np.asarray(Image.open(buffer))[None])
        assert answered["probabilities"][0] == pytest.approx(list(face.probabilities.values()), abs=0.01)
        assert answered["valence_arousal"][0] == pytest.approx([face.valence, face.arousal], abs=0.01)
    assert ask(np.zeros((5, 40, 30, 3), np.uint8))["probabilities"].shape == (5, 8)


def test_the_file_says_what_it_is_repeats_and_names_no_place_of_this_machine(here: Path) -> None:
    run_stage("export")
    content = ONNX.read_bytes()
    properties = {entry.key: entry.value for entry in onnx.load(ONNX).metadata_props}
    assert json.loads(properties["labels"]) == list(EXPRESSIONS)
    assert json.loads(properties["affectnet"])["crop"]["image_px"] == 80 and set(properties) == {"affectnet", "labels", "weights"}
    run_stage("export")
    assert ONNX.read_bytes() == content
    for text in (str(here), str(ROOT), "site-packages", ".py"):
        assert text.encode() not in content


def test_int8_is_smaller_sees_no_test_face_and_may_cost_no_more_than_allowed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage("export")
    whole = ONNX.stat().st_size
    seen: list[torch.Tensor] = []
    original = torch.split

    def watched(images: torch.Tensor, count: int) -> Any:
        seen.append(images)
        return original(images, count)

    monkeypatch.setattr("stages.export.torch.split", watched)
    run_stage("export", precision="int8", calibration_faces=20, most_lost=1.0)
    assert (
        metrics("export")["precision"] == "int8"
        and ONNX.stat().st_size < whole
        and "probabilities" in session(ONNX)(np.zeros((1, 9, 9, 3), np.uint8))
    )
    (calibrated,) = [images for images in seen if images.dtype == torch.uint8 and len(images) == 20]
    train = {bytes(image.numpy().tobytes()) for image in load_faces(Path("data/faces"), "train", 32, 1).images}
    assert {bytes(image.numpy().tobytes()) for image in calibrated} <= train


def test_a_score_that_int8_lowers_too_much_is_one_line_and_no_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reversed_answers(network: torch.nn.Module, metadata: ModelMetadata, pixels: Any, half: bool) -> bytes:
        other = copy.deepcopy(network)
        with torch.no_grad():
            for parameter in last_linear(other)[1].parameters():
                parameter.neg_()
        return export_network(other, metadata, pixels)

    monkeypatch.setattr("stages.export.export_network", reversed_answers)
    with pytest.raises(UserError, match=r"json: \w+ is -?\d\.\d+ in int8 and -?\d\.\d+ before, more lost than export.most_lost 0 allows"):
        run_stage("export", precision="int8", calibration_faces=8, most_lost=0.0)
    assert not ONNX.exists()


def test_predictions_that_are_nan_are_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(content: bytes) -> Any:
        ask = session(content)
        return lambda crops: {name: np.full_like(value, np.nan) for name, value in ask(crops).items()}

    monkeypatch.setattr("stages.export.session", broken)
    with pytest.raises(UserError, match=r"models/model.safetensors: outputs of its ONNX file are NaN or inf"):
        run_stage("export")


def test_answers_that_differ_are_one_line_and_no_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "stages.export.export_network",
        lambda network, metadata, pixels, half: export_network(network, ModelMetadata(**{**vars(metadata), "temperature": 0.02})),
    )
    with pytest.raises(
        UserError, match=r"the ONNX file's outputs differ by up to 0\.\d+ on the same pixels, .*more than export.tolerance 0.01"
    ):
        run_stage("export")
    assert not ONNX.exists() and metrics("export")["difference_same_pixels"]["largest"] > 0.01


@pytest.mark.parametrize(("share", "refused"), [(1.0, True), (0.1, False)])
def test_stored_crops_that_are_resized_otherwise_are_refused_and_a_single_face_is_not(
    here: Path, monkeypatch: pytest.MonkeyPatch, share: float, refused: bool
) -> None:
    def darkening(content: bytes) -> Any:
        ask = session(content)

        def darker(crops: Any) -> Any:
            stored = crops.shape[1] != TINY["image_px"]
            first = np.arange(len(crops))[:, None, None, None] < share * len(crops)
            return ask(np.where(first & stored, 0, crops).astype(np.uint8))

        return darker

    monkeypatch.setattr("stages.export.session", darkening)
    try:
        run_stage("export", tolerance=1e-4)
    except UserError as error:
        assert refused and "in the median from stored crops, more than export.tolerance 0.0001 allows" in str(error)
    difference = metrics("export")["difference"]
    assert difference["largest"] > 1e-4 and (difference["median"] > 1e-4) == refused == (not ONNX.exists())


def test_what_torch_cannot_export_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such operator\nand a long report")

    monkeypatch.setattr(torch.onnx, "export", failing)
    with pytest.raises(UserError, match=r"^model: torch cannot export vgg16_bn to ONNX: no such operator$"):
        run_stage("export")


def test_the_documents_snippet_answers_without_this_project(here: Path, tmp_path: Path) -> None:
    run_stage("export")
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "affectnet" not in re.sub(r"#.*|\".*?\"", "", snippet) and "torch" not in snippet
    image = Image.effect_noise((80, 80), 60).convert("RGB")
    image.save(tmp_path / "face.jpg")
    names: dict[str, Any] = {}
    exec(snippet.replace("face.jpg", str(tmp_path / "face.jpg")), names)
    (face,) = Predictor.load(MODEL, device="cpu", averaging="none").predict(tmp_path / "face.jpg", faces="whole")
    assert names["answer"] == pytest.approx(face.probabilities, abs=0.01)
