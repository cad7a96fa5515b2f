"""The model file: one safetensors file with the weights and, as one JSON string, everything needed to use them."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from affectnet.errors import UserError, first_few
from affectnet.files.atomic import replacing
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.metadata import METADATA_KEY, ModelMetadata, first_problem, metadata_text, read_metadata
from affectnet.models.network import State, assemble
from affectnet.models.transforms import Grey


def save_model(path: Path, network: nn.Module, metadata: ModelMetadata, precision: Literal["float32", "float16"] = "float32") -> None:
    """Writes the file whole or not at all; the same weights and metadata give the same bytes.

    precision: of the parameters. The statistics of batch normalisation stay float32: their range is too wide for float16. Errors:
    UserError when a weight is NaN or inf, or a parameter is too large for the precision.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.state_dict().items())}
    if broken := _not_finite(weights):
        raise UserError(f"training diverged: weights contain NaN or inf in tensors, {first_few(broken)}; choose a lower learning rate")
    weights |= {name: weights[name].to(getattr(torch, precision)) for name, _ in network.named_parameters()}
    if broken := _not_finite(weights):
        raise UserError(f"train.stored_precision: {precision} cannot hold the weights of tensors, {first_few(broken)}; choose float32")
    content = save(weights, metadata={METADATA_KEY: metadata_text(metadata)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def load_model(path: Path) -> tuple[nn.Module, ModelMetadata]:
    """The network in evaluation mode on the CPU, behind `Grey` where its metadata says so, and its metadata in the current format.

    Every command opens model files here. Nothing is unpickled. Errors: UserError when the file is missing, is not ours, is of a later
    version, has unknown labels or an invalid crop policy, or its weights do not fit its network or contain NaN or inf.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `dvc repro`") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from None
    metadata = read_metadata(path, header.get(METADATA_KEY))
    params = _network_params(path, metadata)
    network = _network(path, params, metadata.outputs, weights).eval()
    metadata = replace(metadata, model=params.network)
    return (nn.Sequential(Grey(metadata.mean, metadata.std), network).eval() if metadata.grey else network), metadata


def _not_finite(weights: State) -> list[str]:
    return [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]


def _network_params(path: Path, metadata: ModelMetadata) -> ModelParams:
    """The settings of the network; those of its training have their defaults."""
    try:
        params = ModelParams.model_validate({"epochs": 1, **metadata.model})
    except ValidationError as error:
        raise UserError(f"{path}: invalid model metadata: {first_problem(error, 'model')}") from None
    if params.image_px != metadata.image_px:
        raise UserError(f"{path}: takes images of {metadata.image_px} px, its network is for {params.image_px} px")
    return params


def _network(path: Path, params: ModelParams, outputs: int, weights: State) -> nn.Module:
    try:
        empty = _without_memory(params, outputs)
    except UserError as error:
        raise UserError(f"{path}: {str(error).removeprefix('params.yaml: model: ')}") from None
    expected, stored = _forms(empty.state_dict()), _forms(weights)
    parameters = {name for name, _ in empty.named_parameters()}
    allowed = {name: {(kind, shape), (torch.float16 if name in parameters else kind, shape)} for name, (kind, shape) in expected.items()}
    differing = sorted(name for name in {*expected, *stored} if stored.get(name) not in allowed.get(name, ()))
    if differing:
        raise UserError(f"{path}: weights do not fit {params.architecture} in tensors, {first_few(differing)}")
    if broken := _not_finite(weights):
        raise UserError(f"{path}: weights contain NaN or inf in tensors, {first_few(broken)}")
    network = assemble(params, outputs)
    network.load_state_dict(weights)  # float16 becomes float32
    return network


def _without_memory(params: ModelParams, outputs: int) -> nn.Module:
    """The network on the meta device, without weights: a hostile file cannot make us allocate a huge network before it is refused."""
    try:
        with torch.device("meta"):
            return assemble(params, outputs)
    except NotImplementedError:  # RegNet reads numbers from tensors while it is built
        return assemble(params, outputs)


def _forms(weights: State) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()}
