"""The weights that a training starts from: read without unpickling, unwrapped as repositories store them, and recorded."""

import argparse
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from affectnet.errors import UserError, first_few
from affectnet.models.backbones import ModelParams, State, head_name, timm_name, with_side
from affectnet.models.torchvision_lazy import models
from affectnet.running.provenance import TIMM, Weights, named_weights, read_records

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training loops keep the state dict, beside the epoch and the optimiser."""

PREFIXES = ("module.", "model.", "backbone.")
"""What DataParallel, Lightning and networks around a trunk write before each name."""

COUNTER = "num_batches_tracked"
"""Of batch normalisation: torch 0.3 had none, nor has what other frameworks wrote. It starts at 0."""


@dataclass(frozen=True)
class Started:
    """What a network started from. weights: its record; unwrapped: the keys and prefixes taken off, in order."""

    weights: Weights
    unwrapped: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = "drawn weights" if self.weights.source == "none" else self.weights.name
        return f"{name}, unwrapped from {' '.join(self.unwrapped)}" if self.unwrapped else name


def start(network: nn.Module, params: ModelParams) -> Started:
    """Loads the start weights named by `params.weights` into the trunk; returns what it read. `none` leaves the drawn ones.

    `IMAGENET1K_V1` and its like are members of torchvision's enum for the architecture (downloaded once, hash-checked each time),
    `pretrained` is timm's; anything else is a local file of torch.save or safetensors: a state dict, which may lie below a key of
    WRAPPERS and have PREFIXES. Errors: UserError when they cannot be had or do not fit.
    """
    named = named_weights(params.architecture, params.weights)
    if named.source == "none":
        return Started(named)
    content, sha256 = _READERS[named.source](params)
    state, keys = _unwrapped(params.weights, content)
    head = head_name(network) + "."
    expected = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(head)}
    state, prefixes = _without_prefixes(state, expected)
    state = {**_counters(state, expected), **state}
    _refuse_unfit(params, state, expected)
    network.load_state_dict({name: state[name] for name in expected}, strict=False)
    return Started(replace(named, sha256=sha256), (*keys, *prefixes))


def check_record(path: Path, started: Started) -> None:
    """Errors: UserError when `fingerprint` recorded other start weights than those that were read."""
    recorded, read = read_records(path, Weights).get("start"), started.weights
    if recorded != (read if read.source == "file" else replace(read, sha256=None)):
        known = "nothing" if recorded is None else f"{recorded.name} of SHA-256 {recorded.sha256}"
        raise UserError(f"{path}: records {known}, training reads {read.name} of SHA-256 {read.sha256}; run `dvc repro`")


def _refuse_unfit(params: ModelParams, state: State, expected: State) -> None:
    wrong = [name for name, tensor in expected.items() if name not in state or state[name].shape != tensor.shape]
    if wrong:
        raise UserError(
            f"{params.weights}: does not fit {params.architecture} at width {params.width:g}: {len(wrong)} of {len(expected)} tensors are "
            f"missing or of another shape, first {wrong[0]}; the weights have {first_few(list(state))}"
        )
    broken = [name for name in expected if not state[name].float().isfinite().all()]
    if broken:
        raise UserError(f"{params.weights}: weights are not finite in {len(broken)} tensors, first {broken[0]}")


def _unwrapped(name: str, content: Any) -> tuple[State, tuple[str, ...]]:
    """The state dict within what a file holds, and the keys that led there. Errors: UserError when there is none."""
    keys: tuple[str, ...] = ()
    while isinstance(content, Mapping) and (key := next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)):
        content, keys = content[key], (*keys, key)
    if not isinstance(content, Mapping) or not all(isinstance(name, str) and _plain(tensor) for name, tensor in content.items()):
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
        state, prefixes = {name.removeprefix(prefix): tensor for name, tensor in state.items()}, (*prefixes, prefix)
    return state, prefixes


def _counters(state: State, expected: State) -> State:
    """The counters of the batch normalisations whose means the state has."""
    return {name: tensor for name, tensor in expected.items() if name.endswith(COUNTER) and name.replace(COUNTER, "running_mean") in state}


def _plain(value: object) -> bool:
    """Whether it is a tensor of real numbers, all of them there: no sparse, quantised, complex or merely described one."""
    if not isinstance(value, torch.Tensor):
        return False
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_complex() and not value.is_quantized


def _torchvision(params: ModelParams) -> tuple[Any, str]:
    """A member of torchvision's enum and its file's SHA-256, held against the published one, also of a file downloaded long ago."""
    enum = models.get_model_weights(params.architecture)
    if params.weights not in enum.__members__:
        raise UserError(f"{params.weights}: {params.architecture} has no such weights; models.<name>.weights takes {_known(params)}")
    url = enum[params.weights].url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    match = re.search(r"-([0-9a-f]{8,})\.", path.name)
    published = match[1] if match else ""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=published, progress=False)
        content = path.read_bytes()
    except (OSError, RuntimeError) as error:
        raise _no_download(params.weights, error) from None
    sha256 = hashlib.sha256(content).hexdigest()
    if not sha256.startswith(published):
        raise UserError(f"{path}: SHA-256 begins {sha256[:8]}, torchvision's {published}; remove the file and run again")
    return _loaded(path, content), sha256


def _timm(params: ModelParams) -> tuple[Any, str]:
    """timm's weights, fitted to the side of the input, and SHA-256 of their names and bytes: timm does not say which file it took."""
    import timm  # noqa: PLC0415 (optional)

    try:
        state = with_side(partial(timm.create_model, timm_name(params.architecture), pretrained=True), params.image_px).state_dict()
    except (OSError, RuntimeError) as error:
        raise _no_download(f"{params.architecture} pretrained", error) from None
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return state, digest.hexdigest()


def _no_download(name: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(
        f"{name}: could not be downloaded ({reason}); name a local .pth or .safetensors file in models.<name>.weights, or none"
    )


def _file(params: ModelParams) -> tuple[Any, str]:
    """What a local file holds, and its SHA-256."""
    path = Path(params.weights)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: not there; models.<name>.weights takes {_known(params)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return _loaded(path, content), hashlib.sha256(content).hexdigest()


def _known(params: ModelParams) -> str:
    timms = params.architecture.startswith(TIMM)
    names = ["pretrained"] if timms else models.get_model_weights(params.architecture).__members__
    return f"none, {', '.join(names)} or a local file"


def _loaded(path: Path, content: bytes) -> Any:
    """What the bytes hold: tensors, plain values and argparse's Namespace, which Lightning keeps beside them; nothing else is unpickled."""
    if _is_torchscript(content):
        raise UserError(f"{path}: a TorchScript archive, which is a program; save its state_dict(): torch.save(network.state_dict(), …)")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(content)
        with safe_globals([argparse.Namespace]):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (SafetensorError, EOFError, ValueError) as error:
        raise UserError(f"{path}: no readable weights: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
    except Exception as error:  # torch wraps pickle's many errors in whatever comes: all of them mean that the file is refused
        raise UserError(f"{path}: {_refusal(content, error)}") from None


def _is_torchscript(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _refusal(content: bytes, error: Exception) -> str:
    """Why torch refuses the bytes; its own words advise what would run the code in them."""
    try:
        objects = first_few(sorted(get_unsafe_globals_in_checkpoint(io.BytesIO(content))))
    except Exception:  # no archive as torch.save writes it now
        return f"no readable weights ({type(error).__name__}); save the network's state_dict() by torch.save or as safetensors"
    return f"holds more than tensors, {objects}, and is not unpickled; save its state_dict(): torch.save(network.state_dict(), …)"


_READERS: Mapping[str, Callable[[ModelParams], tuple[Any, str]]] = {"torchvision": _torchvision, "timm": _timm, "file": _file}
