"""Every family of networks and every task as an ONNX file, compared with torch."""

from typing import Any

import numpy as np
import pytest
import torch
from chain import TINY, tiny
from drawn import grey
from model_files import metadata

from affectnet.engines.onnx_engine import session
from affectnet.engines.onnx_export import export_network
from affectnet.expressions import EXPRESSIONS
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.network import build
from affectnet.models.transforms import Grey, normalised

COLOURS = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
FAMILIES = [
    pytest.param({**TINY, "head": "original"}, ("Happy", "Sad"), False, id="vgg, two names"),
    pytest.param(tiny(architecture="resnet18", image_px=48), (), True, id="resnet18, only affect"),
    *(
        pytest.param(
            tiny(architecture=name, image_px=px),
            EXPRESSIONS,
            True,
            id=name,
            marks=pytest.mark.stress,
        )
        for name, px in (
            *(("mobilenet_v3_small", 64), ("efficientnet_b0", 64), ("convnext_tiny", 64), ("densenet121", 64), ("swin_t", 64)),
            *(("vit_b_16", 64), ("timm/efficientnet_b0", 64), ("timm/vit_tiny_patch16_224", 64), ("regnet_y_400mf", 64)),
        )
    ),
]


@pytest.mark.parametrize(("params", "labels", "affect"), FAMILIES)
def test_every_family_and_task_is_exported(params: dict[str, Any], labels: tuple[str, ...], affect: bool) -> None:
    torch.manual_seed(1)
    described = metadata(model=params, image_px=params["image_px"], labels=labels, affect=affect, temperature=1.7, **COLOURS)
    network = build(ModelParams.model_validate(params), described.outputs).eval()
    crops = np.random.default_rng(2).integers(0, 256, (3, params["image_px"], params["image_px"], 3), dtype=np.uint8)
    with torch.no_grad():
        pixels = (torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 - torch.tensor(described.mean).view(3, 1, 1)) / torch.tensor(
            described.std
        ).view(3, 1, 1)
        outputs = network(pixels)
    answer = session(export_network(network, described))(crops)
    if labels:
        expected = torch.softmax(outputs[:, : len(labels)] / 1.7, 1).numpy()
        assert answer["probabilities"] == pytest.approx(expected, abs=1e-4)
    if affect:
        assert answer["valence_arousal"] == pytest.approx(outputs[:, len(labels) :].clamp(-1, 1).numpy(), abs=1e-4)
    assert len(answer) == bool(labels) + affect


def test_a_model_of_grey_faces_is_exported_with_what_takes_colour_away() -> None:
    described = metadata(grey=True, temperature=1.7, **COLOURS)
    network = torch.nn.Sequential(Grey(described.mean, described.std), build(ModelParams.model_validate(TINY), described.outputs)).eval()
    colour = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    answers = session(export_network(network, described))
    (probabilities,) = answers(colour).values()
    with torch.no_grad():
        expected = torch.softmax(
            network(normalised(torch.from_numpy(colour), described.mean, described.std)) / described.temperature, 1
        ).numpy()
    assert probabilities == pytest.approx(expected, abs=1e-4) and probabilities == pytest.approx(
        answers(grey(colour))["probabilities"], abs=2e-3
    )
