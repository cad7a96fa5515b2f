from contextlib import nullcontext
from typing import Any

import pytest
import torch
from chain import ROOT, tiny
from torchvision.ops import StochasticDepth

from affectnet.errors import UserError
from affectnet.models.backbones.registry import ModelParams, backbone_of
from affectnet.models.layers import last_linear, trunk_parameters
from affectnet.models.network import build
from affectnet.models.transforms import MEAN, STD
from affectnet.params import read_document

CATALOGUE = read_document(ROOT / "params.yaml")["models"]


def params(**changes: Any) -> ModelParams:
    return ModelParams.model_validate(tiny(**{"dropout": 0.0, **changes}))


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_vgg16_is_simonyans_network_with_as_many_parameters_as_the_paper_counts() -> None:
    with torch.device("meta"):
        network = build(params(architecture="vgg16", width=1.0, head="original"), 1000)
    assert count(network) == 138_357_544


def test_a_quarter_of_the_channels_keeps_the_topology() -> None:
    network = build(params(width=0.25), 8)
    convolutions = [module.out_channels for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert convolutions == [16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128]
    assert count(network) < 1_000_000


@pytest.mark.parametrize("name", [name for name in CATALOGUE if not name.startswith("vgg16")])
def test_every_model_of_the_catalogue_gives_as_many_outputs_as_asked(name: str) -> None:
    entry = params(**{**CATALOGUE[name], "weights": "none", "image_px": 224 if "vit" in name else 64})
    with torch.device("meta") if name == "vgg11" else nullcontext():
        network = build(entry, 10).eval()
    if name != "vgg11":
        assert network(torch.zeros(1, 3, entry.image_px, entry.image_px)).shape == (1, 10)
    backbone = backbone_of(entry.architecture)
    head = network.get_submodule(backbone.head(network))
    frozen = sum(parameter.numel() for parameter in trunk_parameters(network, backbone.head(network)))
    assert 0 < frozen < count(network)
    assert backbone.head(network) in last_linear(network)[0] and last_linear(network)[1].out_features == 10
    dropped = {module.p for module in head.modules() if isinstance(module, torch.nn.Dropout)}
    assert dropped == {entry.dropout} or name.startswith("timm")
    by_layer = backbone.layers(network)
    assert sum(len(layer) for layer in by_layer) == len(list(network.parameters())) and len(by_layer) > 4
    assert all(any(parameter.dim() > 1 for parameter in layer) for layer in by_layer)
    assert {id(p) for p in by_layer[-1]} <= {id(p) for p in head.parameters()}


@pytest.mark.parametrize("outputs", [7, 8])
def test_a_vgg_with_its_original_head_gives_as_many_outputs_as_asked(outputs: int) -> None:
    network = build(params(architecture="vgg11", width=0.125, head="original"), outputs).eval()
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, outputs)


def test_stochastic_depth_rises_to_its_value_and_drops_whole_branches_only_in_training() -> None:
    network = build(params(architecture="efficientnet_b0", stochastic_depth=0.4), 8)
    shares = [module.p for module in network.modules() if isinstance(module, StochasticDepth)]
    assert shares[0] == 0 and shares == sorted(shares) and shares[-1] == 0.4
    still = build(params(architecture="efficientnet_b0"), 8)
    assert {module.p for module in still.modules() if isinstance(module, StochasticDepth)} == {0.0}
    timm = build(params(architecture="timm/efficientnet_b0", stochastic_depth=0.4), 8)
    assert any(getattr(module, "drop_prob", 0.0) > 0.3 for module in timm.modules())


@pytest.mark.parametrize("architecture", ["vit_b_16", "timm/vit_tiny_patch16_224"])
def test_patches_class_token_and_positions_of_a_transformer_are_one_layer(architecture: str) -> None:
    """As in MAE, whose layer decay FMAE takes: twelve blocks, the embeddings before them and the head after them."""
    by_layer = backbone_of(architecture).layers(build(params(architecture=architecture, image_px=32), 8))
    assert len(by_layer) == 14 and len(by_layer[0]) == 4


def test_pixel_statistics_are_the_models_own() -> None:
    assert backbone_of("vgg16_bn").pixel_statistics(build(params(), 8)) == (MEAN, STD)
    timm = build(params(architecture="timm/vit_tiny_patch16_224", image_px=32), 8)
    assert backbone_of("timm/vit_tiny_patch16_224").pixel_statistics(timm) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_timm_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affectnet.models.backbones.timm.find_spec", lambda _: None)
    with pytest.raises(UserError, match="needs timm; run `pip install timm`"):
        build(params(architecture="timm/efficientnet_b2"), 8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "squeezenet1_1"}, "last layer of SqueezeNet is not linear"),
        ({"architecture": "resnet18", "stochastic_depth": 0.1}, "resnet18 has no stochastic depth"),
        ({"architecture": "googlenet"}, "googlenet has auxiliary heads"),
        ({"architecture": "vit_b_16", "image_px": 100}, "vit_b_16 cannot take image_px 100"),
        ({"architecture": "timm/efficientnet_z9"}, "timm has no classifier 'efficientnet_z9'; near it"),
        ({"architecture": "squeezenet1_0"}, "last layer of SqueezeNet is not linear"),
    ],
)
def test_a_network_that_cannot_be_built_is_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(params(**changes), 8)
