"""The networks: a classifier of torchvision's registry with its head replaced, by name, width and head."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from affectnet.errors import UserError
from affectnet.params import Section

State = Mapping[str, torch.Tensor]

VGG_LAYERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
"""Configurations of Simonyan & Zisserman 2015, table 1."""


class ModelParams(Section):
    """One entry of `models`."""

    architecture: str
    width: float = Field(gt=0, le=1)
    weights: str = Field(min_length=1)
    head: Literal["original", "pooled"]
    dropout: float = Field(ge=0, lt=1)
    image_px: int = Field(ge=32, le=1024)
    freeze_epochs: int = Field(ge=0)


def build(params: ModelParams, outputs: int) -> nn.Module:
    """The network, its weights drawn from torch's global generator: (n, 3, image_px, image_px) float32 → (n, outputs) logits.

    Errors: UserError when torchvision has no classifier of that name, or the width or head is not to be had.
    """
    name = params.architecture
    if name not in models.list_models(module=models):
        known = ", ".join(models.list_models(module=models, include="vgg*"))
        raise UserError(f"params.yaml: model: torchvision has no classifier {name!r}; choose for example one of {known}")
    if name.removesuffix("_bn") in VGG_LAYERS:
        return _vgg(params, outputs)
    if params.width != 1 or params.head != "original":
        raise UserError(f"params.yaml: model: width and head pooled are for the VGG family, {name} has width 1 and head original")
    network: nn.Module = models.get_model(name, weights=None)
    head_name, head = last_linear(network)
    _replace(network, head_name, nn.Sequential(nn.Dropout(params.dropout), nn.Linear(head.in_features, outputs)))
    return network


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the layer that gives the logits. Errors: UserError when the last layer is not linear."""
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    name, head = next(((n, m) for n, m in reversed(leaves) if any(True for _ in m.parameters())), ("", None))
    if not isinstance(head, nn.Linear):
        raise UserError(f"params.yaml: model: the last layer of {type(network).__name__} is not linear; choose another architecture")
    return name, head


def trunk_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Parameters below the head: those that stay still while only the head learns."""
    head = head_name(network) + "."
    return [parameter for name, parameter in network.named_parameters() if not name.startswith(head)]


def head_name(network: nn.Module) -> str:
    """Name of the part that holds the head, as `classifier` for VGG: the first word of the last linear layer's name."""
    return last_linear(network)[0].split(".")[0]


def start(network: nn.Module, params: ModelParams) -> None:
    """Loads the start weights named by `params.weights` into the trunk; `none` leaves the drawn ones.

    `IMAGENET1K_V1` and its like are members of torchvision's enum for the architecture (downloaded once, hash-checked);
    anything else is a local `.safetensors` or `.pth` file. Errors: UserError when they cannot be had or do not fit.
    """
    if params.weights == "none":
        return
    state, head = _weights(params), head_name(network) + "."
    trunk = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if not name.startswith(head)}
    wrong = [name for name, shape in wanted.items() if name not in trunk or tuple(trunk[name].shape) != shape]
    if wrong:
        raise UserError(
            f"{params.weights}: does not fit {params.architecture} at width {params.width:g}: "
            f"{len(wrong)} tensors are missing or of another shape, first {wrong[0]}"
        )
    network.load_state_dict({name: trunk[name] for name in wanted}, strict=False)


def _weights(params: ModelParams) -> State:
    enum = models.get_model_weights(params.architecture)
    if params.weights in enum.__members__:
        try:
            state: State = enum[params.weights].get_state_dict(check_hash=True, progress=False)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{params.weights}: could not be downloaded ({error}); "
                "name a local .pth or .safetensors file in models.<name>.weights, or none"
            ) from None
        return state
    path = Path(params.weights)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: not there; models.<name>.weights takes none, {', '.join(enum.__members__)} or a local file") from None
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path}: no readable weights: {str(error).splitlines()[0]}") from None
    except Exception as error:  # torch wraps pickle's many errors in whatever comes: all of them mean that the file is refused
        raise UserError(f"{path}: refused, holds more than tensors: {type(error).__name__}") from None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise UserError(f"{path}: holds no state dict (a mapping from names to tensors)")
    return state


def _vgg(params: ModelParams, outputs: int) -> nn.Module:
    """VGG with each layer's channels times `width`; the full classifier is never allocated when it is not used."""
    name, normalised = params.architecture.removesuffix("_bn"), params.architecture.endswith("_bn")
    layers: list[Any] = [layer if layer == "M" else max(8, int(layer * params.width)) for layer in models.vgg.cfgs[VGG_LAYERS[name]]]
    channels, hidden = layers[-2], max(8, int(4096 * params.width))
    with torch.device("meta"):
        network: nn.Module = models.get_model(params.architecture, weights=None, init_weights=False)
    network.features = models.vgg.make_layers(layers, batch_norm=normalised)
    if params.head == "pooled":
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.classifier = nn.Sequential(nn.Dropout(params.dropout), nn.Linear(channels, outputs))
    else:
        network.classifier = nn.Sequential(
            *(nn.Linear(channels * 49, hidden), nn.ReLU(True), nn.Dropout(params.dropout)),
            *(nn.Linear(hidden, hidden), nn.ReLU(True), nn.Dropout(params.dropout)),
            nn.Linear(hidden, outputs),
        )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # He et al. 2015, fan-out, as torchvision starts VGG
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias if module.bias is not None else torch.empty(0))
    return network


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)
