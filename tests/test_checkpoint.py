import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from chain import TINY, tiny
from model_files import metadata
from old_model_files import WRITERS
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from affectnet.errors import UserError
from affectnet.images.crop_policy import CropPolicy
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.checkpoint import load_model, save_model
from affectnet.models.metadata import METADATA_KEY, ModelMetadata
from affectnet.models.migrations import FORMAT, OLDEST
from affectnet.models.network import build
from affectnet.models.transforms import LUMA


def test_what_is_saved_is_loaded_again_and_the_bytes_repeat(tmp_path: Path) -> None:
    network = build(ModelParams.model_validate(TINY), 8)
    for name in ("a.safetensors", "b.safetensors"):
        save_model(tmp_path / name, network, metadata())
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded, read = load_model(tmp_path / "a.safetensors")
    assert read == metadata() and not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())


def test_half_precision_halves_only_the_parameters_and_is_read_as_float32(tmp_path: Path) -> None:
    network = build(ModelParams.model_validate(TINY), 8)
    save_model(tmp_path / "half.safetensors", network, metadata(), "float16")
    stored, parameters = load_file(tmp_path / "half.safetensors"), dict(network.named_parameters())
    assert {name for name, tensor in stored.items() if tensor.dtype == torch.float16} == set(parameters)
    loaded, _ = load_model(tmp_path / "half.safetensors")
    for name, tensor in network.state_dict().items():
        expected = tensor.half().float() if name in parameters else tensor
        assert loaded.state_dict()[name].dtype == tensor.dtype and torch.equal(loaded.state_dict()[name], expected)


def test_a_model_of_grey_faces_sees_no_colour_and_has_no_more_parameters(tmp_path: Path) -> None:
    network = build(ModelParams.model_validate(TINY), 8).eval()
    save_model(tmp_path / "grey.safetensors", network, metadata(grey=True))
    loaded, read = load_model(tmp_path / "grey.safetensors")
    pixels = torch.rand(2, 3, 32, 32)
    shades = pixels * 0.2 + 0.5  # inverse of the metadata's mean and deviation
    grey = ((shades * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True).repeat(1, 3, 1, 1) - 0.5) / 0.2
    assert read.grey and sum(tensor.numel() for tensor in loaded.parameters()) == sum(tensor.numel() for tensor in network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels), network(grey), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(loaded(pixels), network(pixels), atol=1e-3)


@pytest.mark.parametrize(
    ("value", "precision", "said"),
    [
        (1e5, "float16", "train.stored_precision: float16 cannot hold .* 1: features.0.weight; choose float32"),
        (math.nan, "float16", "training diverged: .* 1: features.0.weight; choose a lower learning rate"),
        (math.inf, "float32", "training diverged: .* 1: features.0.weight; choose a lower learning rate"),
    ],
)
def test_weights_that_a_file_cannot_hold_are_one_line_and_no_file(
    tmp_path: Path, value: float, precision: Literal["float32", "float16"], said: str
) -> None:
    network = build(ModelParams.model_validate(TINY), 8)
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = value
    with pytest.raises(UserError, match=said):
        save_model(tmp_path / "model.safetensors", network, metadata(), precision)
    assert not list(tmp_path.iterdir())


def test_a_half_precise_buffer_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    network, path, name = build(ModelParams.model_validate(TINY), 8), tmp_path / "model.safetensors", "features.1.running_var"
    for kept in (True, False):
        save_model(path, network, metadata())
        weights = load_file(path)
        variance = weights.pop(name)
        weights |= {name: variance.half()} if kept else {}
        save_file(weights, path, metadata={METADATA_KEY: json.dumps(vars(metadata()))})
        with pytest.raises(UserError, match=f"weights do not fit vgg16_bn in tensors, 1: {name}"):
            load_model(path)


def broken(tmp_path: Path, case: str) -> Path:
    """A model file with one fault."""
    path = tmp_path / f"{case}.safetensors"
    if case == "missing":
        return path
    save_model(path, build(ModelParams.model_validate(TINY), 8), metadata())
    content, weights = json.loads(json.dumps(vars(metadata()))), load_file(path)
    if case == "no_safetensors":
        path.write_bytes(b"\x80\x04K\x01.")
        return path
    if case == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
        return path
    if case == "nan":
        weights["classifier.1.bias"][0] = torch.nan
    if case == "shapes":
        weights["classifier.1.bias"] = torch.zeros(9)
    content.update({"later_format": {"format": 99}, "labels": {"labels": ["Joy"] * 8}, "no_labels": {"labels": []}}.get(case, {}))
    if case == "foreign_key":
        content["evil"] = 1
    text = "[" * 100_000 if case == "nested" else json.dumps(content)
    save_file(weights, path, metadata={"other" if case == "not_ours" else METADATA_KEY: text})
    return path


CASES = (
    "missing",
    "no_safetensors",
    "truncated",
    "nan",
    "shapes",
    "later_format",
    "labels",
    "no_labels",
    "foreign_key",
    "nested",
    "not_ours",
)


@pytest.mark.parametrize("case", CASES)
def test_a_model_file_that_is_not_ours_or_broken_is_one_line(tmp_path: Path, case: str) -> None:
    path = broken(tmp_path, case)
    with pytest.raises(UserError) as caught:
        load_model(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [TINY, tiny(architecture="efficientnet_b0", stochastic_depth=0.1)], ids=["vgg", "efficientnet"])
@pytest.mark.parametrize("number", WRITERS)
def test_a_file_of_each_past_format_answers_as_one_of_today(number: int, model: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = build(ModelParams.model_validate(model), 8)
    WRITERS[number](tmp_path / "old.safetensors", network, model)
    save_model(tmp_path / "new.safetensors", network, metadata(model=model))
    (old, of_old), (new, of_new) = (load_model(tmp_path / f"{age}.safetensors") for age in ("old", "new"))
    assert of_old == of_new and of_old.format == FORMAT
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(old(pixels), new(pixels))


def test_there_is_a_writer_of_each_past_format() -> None:
    assert list(WRITERS) == list(range(OLDEST, FORMAT))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (FORMAT + 1, f"format {FORMAT + 1}: written by a later version; update this project, which reads formats {OLDEST} to {FORMAT}"),
        (OLDEST - 1, f"format {OLDEST - 1}: older than {OLDEST}, which this version does not read; train the model again"),
    ],
)
def test_a_file_of_a_format_that_is_not_read_is_one_line(number: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, build(ModelParams.model_validate(TINY), 8), metadata(format=number))
    with pytest.raises(UserError) as caught:
        load_model(path)
    assert str(caught.value) == f"{path}: invalid model metadata: {said}"


def test_a_crop_field_added_later_means_as_before_in_files_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(CropPolicy):
        sharpen: float = 0.0

    path = tmp_path / "model.safetensors"
    save_model(path, build(ModelParams.model_validate(TINY), 8), metadata())
    monkeypatch.setattr("affectnet.models.metadata.CropPolicy", Later)
    assert load_model(path)[1].crop == {**metadata().crop, "sharpen": 0.0}


def test_a_field_of_the_metadata_added_later_means_as_before_in_files_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Later(ModelMetadata):
        mirrored: bool = False

    path = tmp_path / "model.safetensors"
    save_model(path, build(ModelParams.model_validate(TINY), 8), metadata())
    monkeypatch.setattr("affectnet.models.metadata._METADATA", TypeAdapter(Later))
    assert vars(load_model(path)[1])["mirrored"] is False


def test_a_damaged_label_that_is_still_a_label_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, build(ModelParams.model_validate(TINY), 8), metadata())
    content = path.read_bytes()
    assert load_model(path)[1].labels == metadata().labels
    path.write_bytes(content.replace(b"Surprise", b"SArprise", 1))
    with pytest.raises(UserError, match="invalid model metadata: damaged or edited: its checksum is that of other metadata"):
        load_model(path)
