"""The parts of a network: its last linear layer, its parameters layer by layer."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from affectnet.errors import UserError


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the layer that gives the logits. Errors: UserError when the last layer is not linear."""
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    with_weights = [(name, module) for name, module in leaves if any(True for _ in module.parameters())]
    name, layer = with_weights[-1] if with_weights else ("", None)
    if not isinstance(layer, nn.Linear):
        raise UserError(f"params.yaml: model: the last layer of {type(network).__name__} is not linear; choose another architecture")
    return name, layer


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within the block the network is in evaluation mode; after it, each of its modules is in the mode that it was in."""
    modes = [module.training for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in zip(network.modules(), modes, strict=True):
            module.training = mode


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Puts the module in the place of the one of this dotted name."""
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)


def layers_by_name(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters by layer, from input to head, each once, for networks whose libraries number their blocks.

    A layer is what shares the name up to its first number (`features.7`, `layer2`, `encoder.layers.encoder_layer_3`); a number that
    has only biases and norms goes with the weights before it. Whatever stands before the first number, as a transformer's patches, class
    token and positions, is one layer.
    """
    by_block: dict[str, list[nn.Parameter]] = {}
    numbered = False
    for name, parameter in network.named_parameters():
        match = re.match(r".*?\d+(?=\.|$)", name)
        numbered = numbered or match is not None
        block = match.group() if match else (name.rpartition(".")[0] or name) if numbered else "input"
        by_block.setdefault(block, []).append(parameter)
    layers: list[list[nn.Parameter]] = []
    for parameters in by_block.values():
        if layers and all(parameter.dim() < 2 for parameter in parameters):
            layers[-1] += parameters
        else:
            layers.append(parameters)
    return layers


def trunk_parameters(network: nn.Module, head: str) -> list[nn.Parameter]:
    """Parameters outside the head of this name: those that stay fixed while only the head learns."""
    return [parameter for name, parameter in network.named_parameters() if not name.startswith(f"{head}.")]
