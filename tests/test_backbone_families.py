"""The requirements of every backbone, tested over the registry: a new family is tested by its examples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import ROOT, entry
from model_files import metadata
from safetensors.torch import save_file
from test_trainer import trainer

from affectnet.engines.onnx_engine import session
from affectnet.engines.onnx_export import export_network
from affectnet.errors import UserError
from affectnet.models.backbones.registry import ModelParams, backbone_of, backbones
from affectnet.models.checkpoint import load_model, save_model
from affectnet.models.layers import trunk_parameters
from affectnet.models.network import build
from affectnet.models.start_weights import load_start_weights
from affectnet.models.transforms import normalised
from affectnet.params import parse, read_document
from affectnet.reporting import gradcam
from stages.train import TrainParams

EXAMPLES = [
    pytest.param(dict(example), id=f"{type(backbone).__name__}-{example['architecture']}")
    for backbone in backbones()
    for example in backbone.examples
]
every_backbone = pytest.mark.parametrize("example", EXAMPLES)


def drawn(example: dict[str, Any], seed: int, outputs: int = 8) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build(ModelParams.model_validate(example), outputs)


def pixels(example: dict[str, Any], count: int = 3) -> torch.Tensor:
    side = example["image_px"]
    return torch.from_numpy(np.random.default_rng(2).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


@every_backbone
def test_a_seed_draws_the_same_network_of_so_many_outputs(example: dict[str, Any]) -> None:
    first, second = drawn(example, 3, 5), drawn(example, 3, 5)
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    assert first.training and first.eval()(normalised(pixels(example))).shape == (3, 5)


@every_backbone
def test_layers_hold_each_parameter_once_and_end_in_the_head(example: dict[str, Any]) -> None:
    network, backbone = drawn(example, 3), backbone_of(example["architecture"])
    layers, head = backbone.layers(network), backbone.head(network)
    listed = [id(parameter) for layer in layers for parameter in layer]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters()) and len(layers) > 1
    in_head = {id(parameter) for parameter in network.get_submodule(head).parameters()}
    assert {id(parameter) for parameter in layers[-1]} <= in_head
    trunk = {id(parameter) for parameter in trunk_parameters(network, head)}
    assert trunk and trunk.isdisjoint(in_head) and len(trunk) + len(in_head) == len(listed)


@every_backbone
def test_it_trains_frozen_at_first_and_with_layer_decay(example: dict[str, Any]) -> None:
    entries = {"model": {**example, "freeze_epochs": 1}, "optimizer": entry("optimizer", "adam", layer_decay=0.5)}
    training = trainer(epochs=2, batch=16, **entries)
    before = {name: tensor.clone() for name, tensor in training.network.named_parameters()}
    losses = [training.train_epoch(0)]
    after = dict(training.network.named_parameters())
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith(f"{training.head}.") for name in changed)
    losses.append(training.train_epoch(1))
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert np.isfinite(losses).all() and any(not name.startswith(f"{training.head}.") for name in changed)
    rates = [group["lr"] for group in training.optimizer.param_groups]
    assert rates[1] == pytest.approx(rates[0] / 2) and len(rates) == len(backbone_of(example["architecture"]).layers(training.network))


@every_backbone
def test_its_model_file_and_its_onnx_file_answer_as_the_network(example: dict[str, Any], tmp_path: Path) -> None:
    network, path, crops = drawn(example, 4).eval(), tmp_path / "model.safetensors", pixels(example)
    about = metadata(model=example, image_px=example["image_px"], temperature=1.7)
    save_model(path, network, about)
    loaded, read = load_model(path)
    with torch.no_grad():
        logits = network(normalised(crops, about.mean, about.std))
        assert read == about and torch.equal(loaded(normalised(crops, about.mean, about.std)), logits)
    onnx = session(export_network(loaded, read))(crops.numpy())["probabilities"]
    assert onnx == pytest.approx(torch.softmax(logits / 1.7, 1).numpy(), abs=1e-4)


@every_backbone
def test_start_weights_of_a_file_fill_its_trunk(example: dict[str, Any], tmp_path: Path) -> None:
    source, network, path = drawn(example, 5, 3), drawn(example, 6), tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    head = backbone_of(example["architecture"]).head(network) + "."
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    started = load_start_weights(network, ModelParams.model_validate({**example, "weights": str(path)}))
    assert started.weights.source == "file"
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] if name.startswith(head) else source.state_dict()[name])
    with pytest.raises(UserError, match=rf"^nonsense: {example['architecture']} has no such weights; .* takes none"):
        load_start_weights(network, ModelParams.model_validate({**example, "weights": "nonsense"}))


@every_backbone
def test_grad_cam_finds_a_layer(example: dict[str, Any]) -> None:
    network = drawn({**example, "image_px": 64}, 7).eval()
    layer = gradcam.find_layer(network, 64)
    assert layer is not None and layer.side > 1


def test_each_architecture_of_params_yaml_has_one_family() -> None:
    for model in read_document(ROOT / "params.yaml")["models"].values():
        assert type(ModelParams.model_validate(model)) is backbone_of(model["architecture"]).Params


def test_an_architecture_of_no_family_and_a_setting_of_another_one_are_problems_of_the_entry() -> None:
    document = read_document(ROOT / "params.yaml")
    for changes, said in (
        (
            {"architecture": "vgg17"},
            r"models.vgg16_small.architecture: no backbone 'vgg17'; choose a classifier of torchvision, timm/<name>",
        ),
        ({"stochastic_depth": 0.1}, r"models.vgg16_small.stochastic_depth: unknown; check the spelling"),
    ):
        entries = {**document["models"], "vgg16_small": {**document["models"]["vgg16_small"], **changes}}
        with pytest.raises(UserError, match=said):
            parse({**document, "models": entries}, "train", TrainParams)
