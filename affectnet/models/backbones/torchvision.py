"""The classifiers of torchvision's registry, with a new head. VGG, whose width and head can be chosen, has a file of its own."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn
from torchvision import models
from torchvision.ops import StochasticDepth

from affectnet.errors import UserError, first_line
from affectnet.models.backbones.registry import Backbone, ModelParams, register
from affectnet.models.layers import last_linear, layers_by_name, replace_module
from affectnet.models.weight_files import load_content, no_download


class TorchvisionParams(ModelParams):
    """An entry of `models` for torchvision's networks. stochastic_depth: share of dropped residual branches in the last block."""

    stochastic_depth: float = Field(0.0, ge=0, lt=1)


@register
class Torchvision(Backbone[TorchvisionParams]):
    """A classifier by its name in torchvision."""

    Params = TorchvisionParams
    examples = (
        {"architecture": "mobilenet_v3_small", "dropout": 0.2, "image_px": 32, "epochs": 1},
        {"architecture": "efficientnet_b0", "dropout": 0.2, "stochastic_depth": 0.1, "image_px": 32, "epochs": 1},
    )

    def has(self, architecture: str) -> bool:
        return not architecture.startswith("vgg") and architecture in models.list_models(module=models)

    def build(self, params: TorchvisionParams, outputs: int) -> nn.Module:
        name = params.architecture
        if name in {"googlenet", "inception_v3"}:
            raise UserError(f"params.yaml: model: {name} has auxiliary heads, which are not trained here; choose another architecture")
        try:
            network: nn.Module = models.get_model(name, weights=None, **_input_side(name, params.image_px))
        except (ValueError, AssertionError) as error:
            raise UserError(f"params.yaml: model: {name} cannot take image_px {params.image_px}: {first_line(error)}") from None
        last, layer = last_linear(network)
        replace_module(network, last, nn.Linear(layer.in_features, outputs))
        _set_dropout(network, self.head(network), last, params.dropout)
        _set_stochastic_depth(network, params)
        return network

    def layers(self, network: nn.Module) -> list[list[nn.Parameter]]:
        return layers_by_name(network)

    def published_names(self, params: TorchvisionParams) -> tuple[str, ...]:
        return published_names(params.architecture)

    def published_weights(self, params: TorchvisionParams) -> tuple[Any, str]:
        return published_weights(params)


def published_names(architecture: str) -> tuple[str, ...]:
    """The members of torchvision's enum for the architecture, as IMAGENET1K_V1."""
    return tuple(models.get_model_weights(architecture).__members__)


def published_weights(params: ModelParams) -> tuple[Any, str]:
    """A member of torchvision's enum and its file's SHA-256, compared with the published one, also of a file downloaded long ago."""
    url = models.get_model_weights(params.architecture)[params.weights].url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    match = re.search(r"-([0-9a-f]{8,})\.", path.name)
    published = match[1] if match else ""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=published, progress=False)
        content = path.read_bytes()
    except (OSError, RuntimeError) as error:
        raise no_download(params.weights, error) from None
    sha256 = hashlib.sha256(content).hexdigest()
    if not sha256.startswith(published):
        raise UserError(f"{path}: SHA-256 begins {sha256[:8]}, torchvision's {published}; remove the file and run again")
    return load_content(path, content), sha256


def _input_side(name: str, image_px: int) -> dict[str, Any]:
    """Constructor arguments of the transformers whose input has a fixed side."""
    if name.startswith("maxvit"):
        return {"input_size": (image_px, image_px)}
    return {"image_size": image_px} if name.startswith("vit_") else {}


def _set_dropout(network: nn.Module, head: str, last: str, p: float) -> None:
    """Dropout of the head: its own where it has some, else one before its last layer."""
    dropouts = [module for module in network.get_submodule(head).modules() if isinstance(module, nn.Dropout)]
    for module in dropouts:
        module.p = p
    if not dropouts:
        replace_module(network, last, nn.Sequential(nn.Dropout(p), network.get_submodule(last)))


def _set_stochastic_depth(network: nn.Module, params: TorchvisionParams) -> None:
    """The share of dropped residual branches, rising linearly from 0 in the first block to its value in the last (Huang et al. 2016)."""
    branches = [module for module in network.modules() if isinstance(module, StochasticDepth)]
    if params.stochastic_depth and not branches:
        raise UserError(f"params.yaml: model: {params.architecture} has no stochastic depth; set stochastic_depth to 0")
    for position, branch in enumerate(branches):
        branch.p = params.stochastic_depth * position / max(len(branches) - 1, 1)
