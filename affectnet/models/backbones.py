"""The networks: a classifier of torchvision's registry, or of timm's, by name, with its head replaced."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from affectnet.errors import UserError, one_line
from affectnet.models.torchvision_lazy import StochasticDepth, models
from affectnet.models.transforms import MEAN, STD
from affectnet.params import Section
from affectnet.running.provenance import TIMM

Pixel = tuple[float, float, float]
State = Mapping[str, torch.Tensor]

VGG_LAYERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
"""Configurations of Simonyan & Zisserman 2015, table 1."""


class NetworkParams(Section):
    """What a model file says of its network; in it, `weights` is none and `freeze_epochs` 0."""

    architecture: str
    width: float = Field(gt=0, le=1)
    weights: str = Field(min_length=1)
    head: Literal["original", "pooled"]
    dropout: float = Field(ge=0, lt=1)
    stochastic_depth: float = Field(ge=0, lt=1)
    image_px: int = Field(ge=32, le=1024)
    freeze_epochs: int = Field(ge=0)


class ModelParams(NetworkParams):
    """One entry of `models`: a network, and what training it takes; no model file holds the latter."""

    lr_factor: float = Field(gt=0, le=1)
    layer_decay: float = Field(gt=0, le=1)
    epochs: int = Field(ge=1)


def build(params: NetworkParams, outputs: int) -> nn.Module:
    """The network, its weights drawn from torch's global generator: (n, 3, image_px, image_px) float32 → (n, outputs).

    The last linear layer is new, with dropout before it. Errors: UserError when there is no classifier of that name, its width,
    head or stochastic depth is not to be had, or it cannot take an image of that side, which is tried.
    """
    network = assemble(params, outputs)
    try:
        with torch.no_grad():
            answers = network.eval()(torch.zeros(1, 3, params.image_px, params.image_px))
    except Exception as error:  # of hundreds of networks, each refuses a side in its way
        raise _unfit(params, error) from None
    if not isinstance(answers, torch.Tensor) or answers.shape != (1, outputs):
        raise UserError(f"params.yaml: model: {params.architecture} gives other than {outputs} outputs a face; choose another architecture")
    return network.train()


def assemble(params: NetworkParams, outputs: int) -> nn.Module:
    """The network of `build`, not tried: for a file whose network was trained. Errors: UserError but for the side of the image."""
    if params.architecture.removesuffix("_bn") in VGG_LAYERS:
        network = _vgg(params, outputs)
    elif params.architecture.startswith(TIMM):
        network = _timm(params, outputs)
        last_linear(network)
        return network
    else:
        network = _torchvision(params)
        name, head = last_linear(network)
        _replace(network, name, nn.Linear(head.in_features, outputs))
        _set_dropout(network, name, params.dropout)
    _set_stochastic_depth(network, params)
    return network


def _torchvision(params: NetworkParams) -> nn.Module:
    name = params.architecture
    if name not in models.list_models(module=models):
        known = ", ".join(models.list_models(module=models, include="vgg*"))
        raise UserError(f"params.yaml: model: torchvision has no classifier {name!r}; choose for example one of {known}")
    if name in {"googlenet", "inception_v3"}:
        raise UserError(f"params.yaml: model: {name} has auxiliary heads, which are not trained here; choose another architecture")
    _refuse_what_vgg_alone_has(params)
    try:
        network: nn.Module = models.get_model(name, weights=None, **_sized(name, params.image_px))
    except (ValueError, AssertionError) as error:
        raise _unfit(params, error) from None
    return network


def _unfit(params: NetworkParams, error: Exception) -> UserError:
    return UserError(f"params.yaml: model: {params.architecture} cannot take image_px {params.image_px}: {_reason(error)}")


def _reason(error: Exception) -> str:
    return one_line((str(error).splitlines() or [type(error).__name__])[0])


def _refuse_what_vgg_alone_has(params: NetworkParams) -> None:
    if params.width != 1 or params.head != "original":
        raise UserError(
            f"params.yaml: model: width and head pooled are for the VGG family, {params.architecture} has width 1 and head original"
        )


def _sized(name: str, image_px: int) -> dict[str, Any]:
    """What the transformers with a fixed input side are told of it."""
    if name.startswith("maxvit"):
        return {"input_size": (image_px, image_px)}
    return {"image_size": image_px} if name.startswith("vit_") else {}


def timm_name(architecture: str) -> str:
    """The name as timm has it, with its tag: `timm/resnet18.a1_in1k`, or as timm's page on the hub is called, `timm/hf-hub:timm/…`."""
    return architecture.removeprefix(TIMM).removeprefix("hf-hub:timm/")


def _timm(params: NetworkParams, outputs: int) -> nn.Module:
    name = timm_name(params.architecture)
    if find_spec("timm") is None:
        raise UserError(f"params.yaml: model: {params.architecture} needs timm; run `pip install timm`")
    import timm  # noqa: PLC0415 (optional)

    if name.startswith("hf-hub:"):  # its description is fetched, also by who opens the model file later
        raise UserError(
            f"params.yaml: model: {name} is described on a hub alone; name an architecture of timm's, and a local file as weights"
        )
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:5]}*")[:3])
        raise UserError(f"params.yaml: model: timm has no classifier {name!r}" + (f"; near it are {near}" if near else ""))
    _refuse_what_vgg_alone_has(params)
    settings: dict[str, Any] = {"num_classes": outputs, "drop_rate": params.dropout}
    if params.stochastic_depth:
        settings["drop_path_rate"] = params.stochastic_depth
    try:
        return with_side(partial(timm.create_model, name, pretrained=False, **settings), params.image_px)
    except Exception as error:  # of a thousand constructors, each refuses in its way
        raise UserError(f"params.yaml: model: timm's {name} refuses this entry: {_reason(error)}") from None


def with_side(create: Callable[..., nn.Module], image_px: int) -> nn.Module:
    """The network, made for the side of the input where its constructor has a param for it."""
    try:
        return create(img_size=image_px)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return create()


def _set_dropout(network: nn.Module, head: str, p: float) -> None:
    """Dropout of the head: its own where it has some, else one before its last layer."""
    part = network.get_submodule(head_name(network))
    own = [module for module in part.modules() if isinstance(module, nn.Dropout)]
    for module in own:
        module.p = p
    if not own:
        _replace(network, head, nn.Sequential(nn.Dropout(p), network.get_submodule(head)))


def _set_stochastic_depth(network: nn.Module, params: NetworkParams) -> None:
    """The share of dropped residual branches, rising linearly from 0 at the input (Huang et al. 2016)."""
    branches = [module for module in network.modules() if isinstance(module, StochasticDepth)]
    if params.stochastic_depth and not branches:
        raise UserError(f"params.yaml: model: {params.architecture} has no stochastic depth; set stochastic_depth to 0")
    for position, branch in enumerate(branches):
        branch.p = params.stochastic_depth * position / len(branches)


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the layer that gives the logits. Errors: UserError when the last layer is not linear."""
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    name, head = next(((n, m) for n, m in reversed(leaves) if any(True for _ in m.parameters())), ("", None))
    if not isinstance(head, nn.Linear):
        raise UserError(f"params.yaml: model: the last layer of {type(network).__name__} is not linear; choose another architecture")
    return name, head


def pixel_statistics(network: nn.Module) -> tuple[Pixel, Pixel]:
    """Per-channel mean and deviation of the input, RGB in 0–1: timm's own for its models, else ImageNet's."""
    config = getattr(network, "pretrained_cfg", {})
    return tuple(config.get("mean", MEAN)), tuple(config.get("std", STD))


def trunk_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Parameters below the head: those that stay still while only the head learns."""
    head = head_name(network) + "."
    return [parameter for name, parameter in network.named_parameters() if not name.startswith(head)]


def head_name(network: nn.Module) -> str:
    """Name of the part that holds the head, as `classifier` for VGG: the first word of the last linear layer's name."""
    return last_linear(network)[0].split(".")[0]


def _vgg(params: NetworkParams, outputs: int) -> nn.Module:
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
