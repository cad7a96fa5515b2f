"""The weights that a training starts from: unwrapped as repositories store them, and recorded."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from affectnet.errors import UserError, first_few
from affectnet.models.backbones.registry import ModelParams, backbone_of
from affectnet.models.network import State
from affectnet.models.weight_files import load_content
from affectnet.running.provenance import Weights, named_weights

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training loops store the state dict, next to the epoch and the optimiser."""

PREFIXES = ("module.", "model.", "backbone.")
"""What DataParallel, Lightning and networks around a trunk write before each name."""

COUNTER = "num_batches_tracked"
"""Of batch normalisation. torch before 0.4 and other frameworks write none; it starts at 0."""


@dataclass(frozen=True)
class Started:
    """What a network started from. weights: its record; unwrapped: the keys and prefixes taken off, in order."""

    weights: Weights
    unwrapped: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = "drawn weights" if self.weights.source == "none" else self.weights.name
        return f"{name}, unwrapped from {' '.join(self.unwrapped)}" if self.unwrapped else name


def load_start_weights(network: nn.Module, params: ModelParams) -> Started:
    """Loads the start weights named by `params.weights` into the trunk; returns what it read. `none` leaves the drawn ones.

    A name is one of the weights that the family of the architecture publishes (`IMAGENET1K_V1` of torchvision, `pretrained` of timm);
    a path is a local file of torch.save or safetensors: a state dict, which may lie below a key of WRAPPERS and have PREFIXES.
    Errors: UserError when the weights cannot be read or downloaded, or do not fit.
    """
    named = named_weights(params.architecture, params.weights)
    if named.source == "none":
        return Started(named)
    content, sha256 = _file(params) if named.source == "file" else _published(params)
    state, keys = _unwrapped(params.weights, content)
    head = backbone_of(params.architecture).head(network) + "."
    expected = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(head)}
    state, prefixes = _without_prefixes(state, expected)
    state = {**_counters(state, expected), **state}
    _refuse_unfit(params, state, expected)
    network.load_state_dict({name: state[name] for name in expected}, strict=False)
    return Started(replace(named, sha256=sha256), (*keys, *prefixes))


def _refuse_unfit(params: ModelParams, state: State, expected: State) -> None:
    wrong = [name for name, tensor in expected.items() if name not in state or state[name].shape != tensor.shape]
    if wrong:
        settings = ", ".join(f"{name} {value}" for name, value in params.network.items() if name != "dropout")
        raise UserError(
            f"{params.weights}: does not fit {settings}: {len(wrong)} of {len(expected)} tensors are "
            f"missing or of another shape, first {wrong[0]}; the weights have {first_few(list(state))}"
        )
    broken = [name for name in expected if not state[name].float().isfinite().all()]
    if broken:
        raise UserError(f"{params.weights}: weights contain NaN or inf in {len(broken)} tensors, first {broken[0]}")


def _unwrapped(name: str, content: Any) -> tuple[State, tuple[str, ...]]:
    """The state dict within what a file holds, and the keys that led there. Errors: UserError when there is none."""
    keys: tuple[str, ...] = ()
    while isinstance(content, Mapping) and (key := next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)):
        content, keys = content[key], (*keys, key)
    if not isinstance(content, Mapping) or not all(isinstance(name, str) and _is_plain(tensor) for name, tensor in content.items()):
        raise UserError(
            f"{name}: holds no state dict (a mapping from names to tensors of real numbers), nor one below {', '.join(WRAPPERS)}"
        )
    return content, keys


def _without_prefixes(state: State, expected: State) -> tuple[State, tuple[str, ...]]:
    """The state with the names of `expected`, and the prefixes taken off: those that all names have."""
    prefixes: tuple[str, ...] = ()
    while state and not expected.keys() & state.keys():
        prefix = next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        prefixes = (*prefixes, prefix)
    return state, prefixes


def _counters(state: State, expected: State) -> State:
    """The counters of the batch normalisations whose means the state has."""
    return {name: tensor for name, tensor in expected.items() if name.endswith(COUNTER) and name.replace(COUNTER, "running_mean") in state}


def _is_plain(value: object) -> bool:
    """Whether it is a dense tensor of real numbers on the CPU: not sparse, quantised, complex or on the meta device."""
    if not isinstance(value, torch.Tensor):
        return False
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_complex() and not value.is_quantized


def _published(params: ModelParams) -> tuple[Any, str]:
    """What the family of the architecture publishes under this name, and its SHA-256."""
    backbone = backbone_of(params.architecture)
    if params.weights not in backbone.published_names(params):
        raise UserError(f"{params.weights}: {params.architecture} has no such weights; models.<name>.weights takes {_choices(params)}")
    return backbone.published_weights(params)


def _file(params: ModelParams) -> tuple[Any, str]:
    """What a local file holds, and its SHA-256."""
    path = Path(params.weights)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; models.<name>.weights takes {_choices(params)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return load_content(path, content), hashlib.sha256(content).hexdigest()


def _choices(params: ModelParams) -> str:
    names = ["none", *backbone_of(params.architecture).published_names(params)]
    return f"{', '.join(names)} or a local file"
