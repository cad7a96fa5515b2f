"""VGG (Simonyan & Zisserman 2015) at any width, with its original head or a pooled one."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn
from torchvision import models

from affectnet.models.backbones.registry import Backbone, ModelParams, register
from affectnet.models.backbones.torchvision import published_names, published_weights

CONFIGURATIONS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
"""Configurations of Simonyan & Zisserman 2015, table 1; `_bn` after the name adds batch normalisation."""


class VggParams(ModelParams):
    """An entry of `models` for VGG. width: share of the channels of each layer."""

    width: float = Field(1.0, gt=0, le=1)
    head: Literal["original", "pooled"] = "original"


@register
class Vgg(Backbone[VggParams]):
    """torchvision's VGG, with each layer's channels times `width`."""

    Params = VggParams
    examples = (
        {"architecture": "vgg11", "width": 0.0625, "dropout": 0.2, "image_px": 32, "epochs": 1},
        {"architecture": "vgg16_bn", "width": 0.0625, "head": "pooled", "dropout": 0.2, "image_px": 32, "epochs": 1},
    )

    def has(self, architecture: str) -> bool:
        return architecture.removesuffix("_bn") in CONFIGURATIONS

    def build(self, params: VggParams, outputs: int) -> nn.Module:
        """The full classifier is never allocated when it is not used."""
        name, normalised = params.architecture.removesuffix("_bn"), params.architecture.endswith("_bn")
        configuration = models.vgg.cfgs[CONFIGURATIONS[name]]
        layers: list[Any] = [layer if layer == "M" else max(8, int(layer * params.width)) for layer in configuration]
        with torch.device("meta"):
            network: nn.Module = models.get_model(params.architecture, weights=None, init_weights=False)
        network.features = models.vgg.make_layers(layers, batch_norm=normalised)
        if params.head == "pooled":
            network.avgpool = nn.AdaptiveAvgPool2d(1)
            network.classifier = nn.Sequential(nn.Dropout(params.dropout), nn.Linear(layers[-2], outputs))
        else:
            network.classifier = _original_head(params, layers[-2], outputs)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):  # He et al. 2015, fan-out, as in torchvision
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias if module.bias is not None else torch.empty(0))
        return network

    def layers(self, network: nn.Module) -> list[list[nn.Parameter]]:
        """A convolution with its batch normalisation, or a linear layer."""
        layers: list[list[nn.Parameter]] = []
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                layers.append([])
            if parameters := list(module.parameters(recurse=False)):
                layers[-1].extend(parameters)
        return layers

    def head(self, network: nn.Module) -> str:
        return "classifier"

    def published_names(self, params: VggParams) -> tuple[str, ...]:
        return published_names(params.architecture)

    def published_weights(self, params: VggParams) -> tuple[Any, str]:
        return published_weights(params)


def _original_head(params: VggParams, channels: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of 4,096 times `width`."""
    hidden = max(8, int(4096 * params.width))
    return nn.Sequential(
        *(nn.Linear(channels * 49, hidden), nn.ReLU(True), nn.Dropout(params.dropout)),
        *(nn.Linear(hidden, hidden), nn.ReLU(True), nn.Dropout(params.dropout)),
        nn.Linear(hidden, outputs),
    )
