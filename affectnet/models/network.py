"""The networks: an entry of `models` as a module of torch."""

from collections.abc import Mapping

import torch
from torch import nn

from affectnet.errors import UserError, first_line
from affectnet.models.backbones.registry import ModelParams, backbone_of

State = Mapping[str, torch.Tensor]


def build(params: ModelParams, outputs: int) -> nn.Module:
    """The network, its weights drawn from torch's global generator: (n, 3, image_px, image_px) float32 → (n, outputs).

    Errors: UserError when its family refuses the settings, or the network cannot take an image of that side, which is tried.
    """
    network = assemble(params, outputs)
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(1, 3, params.image_px, params.image_px))
    except Exception as error:  # each of hundreds of networks refuses a side with an error of its own
        raise UserError(f"params.yaml: model: {params.architecture} cannot take image_px {params.image_px}: {first_line(error)}") from None
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, outputs):
        raise UserError(f"params.yaml: model: {params.architecture} does not give {outputs} outputs per face; choose another architecture")
    return network.train()


def weight_count(network: nn.Module) -> int:
    """How many weights can be trained."""
    return sum(parameter.numel() for parameter in network.parameters())


def assemble(params: ModelParams, outputs: int) -> nn.Module:
    """The network of `build` without the trial, for a file whose network was trained. Errors: UserError but for the side of the image."""
    return backbone_of(params.architecture).build(params, outputs)
