import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from affectnet.models.backbones.registry import ModelParams
from affectnet.models.network import build
from affectnet.params import read_document
from affectnet.reporting.contact_sheet import with_map
from affectnet.reporting.gradcam import Layer, feature_map, find_layer, heat_maps

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CATALOGUE = read_document()["models"]


def made_to_matter() -> nn.Module:
    """A network whose output 0 is the mean of red, and 1 that of blue."""
    colours, answers = nn.Conv2d(3, 2, 1, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        colours.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1]])[:, :, None, None])
        answers.weight.copy_(torch.eye(2))
    return nn.Sequential(colours, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), answers)


def test_the_map_is_hot_where_what_was_made_to_matter_is_and_nowhere_else() -> None:
    image = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    image[0, :8, :8, 0], image[0, 8:, 8:, 2] = 255, 255
    network = made_to_matter()
    layer = find_layer(network, 16)
    assert layer == Layer("1", 16)
    red, blue = heat_maps(network, layer, image.repeat(2, 1, 1, 1), [0, 1], MEAN, STD)
    assert red[:8, :8].min() == blue[8:, 8:].min() == 1
    assert red.sum() == blue.sum() == 64


def test_with_global_pooling_it_is_the_class_activation_map() -> None:
    """Zhou et al. 2016: the features weighted by the last layer's weights of the output."""
    torch.manual_seed(3)
    last = nn.Linear(5, 4)
    network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last).eval()
    image = torch.randint(0, 256, (1, 12, 12, 3), dtype=torch.uint8)
    layer = find_layer(network, 12)
    assert layer is not None
    (heat,) = heat_maps(network, layer, image, [2], MEAN, STD)
    with torch.no_grad():
        features = network[:2](image.permute(0, 3, 1, 2) / 255)[0]
        expected = (last.weight[2][:, None, None] * features).sum(0).relu()
    assert torch.allclose(heat, expected / expected.max(), atol=1e-5)


def test_a_transformer_is_looked_at_before_its_last_attention() -> None:
    """After it only the class token has an influence."""
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3)
    nn.init.normal_(network.heads.head.weight)  # torchvision initialises it with zeros, which give no gradient
    layer = find_layer(network, 32)
    assert layer == Layer("encoder.layers.encoder_layer_1.ln_1", 4)
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    maps = heat_maps(network, layer, images, [0, 1, 2] * 2, MEAN, STD)
    assert maps.shape == (6, 32, 32) and maps.min() >= 0 and 0.5 < maps.max() <= 1


@pytest.mark.parametrize(
    "name", [name if name in {"resnet18", "vgg16_small"} else pytest.param(name, marks=pytest.mark.stress) for name in CATALOGUE]
)
def test_every_network_of_the_catalogue_has_its_place(name: str) -> None:
    torch.manual_seed(1)
    params = ModelParams.model_validate({**CATALOGUE[name], "weights": "none"})
    network = build(params, 8).eval()
    layer = find_layer(network, params.image_px)
    assert layer is not None and 4 <= layer.side <= 16
    assert not any(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        before = network(torch.zeros(1, 3, params.image_px, params.image_px))
    heat_maps(network, layer, torch.zeros(1, params.image_px, params.image_px, 3, dtype=torch.uint8), [0], MEAN, STD)
    with torch.no_grad():
        assert torch.equal(network(torch.zeros(1, 3, params.image_px, params.image_px)), before)


def test_a_network_without_maps_has_none() -> None:
    assert find_layer(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4)), 8) is None
    assert feature_map(torch.zeros(1, 7)) is None and feature_map(torch.zeros(1, 5, 1, 1)) is None


def test_where_nothing_is_hot_the_face_stays_grey() -> None:
    face = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    cold, hot = with_map(face, np.zeros((4, 4), np.float32)), with_map(face, np.ones((4, 4), np.float32))
    assert (cold == cold[:, :, :1]).all() and (hot[..., 0] > hot[..., 2]).all()
