"""The classifiers of timm, as `timm/<name>`. timm is optional and imported only when one of them is used."""

import hashlib
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from pydantic import Field
from torch import nn

from affectnet.errors import UserError, first_line
from affectnet.models.backbones.registry import Backbone, ModelParams, Pixel, register
from affectnet.models.layers import last_linear, layers_by_name
from affectnet.models.transforms import MEAN, STD
from affectnet.models.weight_files import no_download

PREFIX = "timm/"


class TimmParams(ModelParams):
    """An entry of `models` for timm's networks. stochastic_depth: share of dropped residual branches in the last block."""

    stochastic_depth: float = Field(0.0, ge=0, lt=1)


@register
class Timm(Backbone[TimmParams]):
    """A classifier by its name in timm, with a tag or without."""

    Params = TimmParams
    examples = ({"architecture": "timm/test_resnet", "dropout": 0.2, "image_px": 32, "epochs": 1},)

    def has(self, architecture: str) -> bool:
        return architecture.startswith(PREFIX)

    def build(self, params: TimmParams, outputs: int) -> nn.Module:
        name = _known_name(params.architecture)
        import timm  # noqa: PLC0415 (optional)

        settings: dict[str, Any] = {"num_classes": outputs, "drop_rate": params.dropout}
        if params.stochastic_depth:
            settings["drop_path_rate"] = params.stochastic_depth
        try:
            network = _with_side(partial(timm.create_model, name, pretrained=False, **settings), params.image_px)
        except Exception as error:  # each of a thousand constructors raises errors of its own
            raise UserError(f"params.yaml: model: timm's {name} refuses this entry: {first_line(error)}") from None
        last_linear(network)
        return network

    def layers(self, network: nn.Module) -> list[list[nn.Parameter]]:
        return layers_by_name(network)

    def pixel_statistics(self, network: nn.Module) -> tuple[Pixel, Pixel]:
        config = getattr(network, "pretrained_cfg", {})
        return tuple(config.get("mean", MEAN)), tuple(config.get("std", STD))

    def published_names(self, params: TimmParams) -> tuple[str, ...]:
        return ("pretrained",)

    def published_weights(self, params: TimmParams) -> tuple[Any, str]:
        """Fitted to the side of the input. The SHA-256 is of their names and bytes: timm does not say which file it read."""
        import timm  # noqa: PLC0415 (optional)

        create = partial(timm.create_model, timm_name(params.architecture), pretrained=True)
        try:
            state = _with_side(create, params.image_px).state_dict()
        except (OSError, RuntimeError) as error:
            raise no_download(f"{params.architecture} pretrained", error) from None
        digest = hashlib.sha256()
        for name, tensor in sorted(state.items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return state, digest.hexdigest()


def timm_name(architecture: str) -> str:
    """The name as timm has it, with its tag: `timm/resnet18.a1_in1k`, or as timm's page on the hub is called, `timm/hf-hub:timm/…`."""
    return architecture.removeprefix(PREFIX).removeprefix("hf-hub:timm/")


def _known_name(architecture: str) -> str:
    """The name of a classifier that timm has. Errors: UserError when timm is missing, or has no such classifier."""
    name = timm_name(architecture)
    if find_spec("timm") is None:
        raise UserError(f"params.yaml: model: {architecture} needs timm; run `pip install timm`")
    import timm  # noqa: PLC0415 (optional)

    if name.startswith("hf-hub:"):  # its configuration would be downloaded again each time the model file is opened
        raise UserError(
            f"params.yaml: model: {name} is described only on a hub; name an architecture of timm's, and a local file as weights"
        )
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:5]}*")[:3])
        raise UserError(f"params.yaml: model: timm has no classifier {name!r}" + (f"; near it are {near}" if near else ""))
    return name


def _with_side(create: Callable[..., nn.Module], image_px: int) -> nn.Module:
    """The network, made for the side of the input where its constructor has a param for it."""
    try:
        return create(img_size=image_px)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return create()
