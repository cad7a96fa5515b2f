"""The model file: one safetensors file with the weights and, as one JSON string, everything needed to use them."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.overrides import TorchFunctionMode

from affectnet.errors import UserError, first_few, first_line, one_line
from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.files.atomic import replacing
from affectnet.images.crop_policy import CropPolicy
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.migrations import FORMAT, migrated
from affectnet.models.network import State, assemble
from affectnet.models.transforms import Grey

METADATA_KEY = "affectnet"
"""One key only: with several, their order in the file, and so its bytes, changes from process to process (measured, safetensors 0.8)."""

UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
"""pydantic's types of error for a field that a class does not have."""

Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=1e-3, le=1)]


def _with_scores(training: dict[str, Any]) -> dict[str, Any]:
    """The training, unchanged. Errors: ValueError when an epoch or score that evaluate repeats is not a finite number."""
    repeated = {"epoch", "score", *(name for name in training if name.startswith("validation/"))}
    for name in sorted(repeated):
        value = training.get(name)
        if not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise ValueError(f"{name} is not a finite number")
    return training


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file says of its weights.

    model: architecture and settings of the network, as its family's class of `models` names them; labels: expression names in the
    order of the outputs, which are the logits; affect: whether valence and arousal follow them; temperature: what the logits are
    divided by before softmax, fitted on our validation split; image_px, mean, std: the input is RGB in 0–1, resized to
    image_px × image_px, minus mean, divided by std, per channel; grey: whether all training faces were grey, so that faces are
    converted to grey before the network, which never saw colour; crop: the policy that cut the training crops; data: SHA-256 of the
    training shards; training: params, and scores on the validation split; versions: of the libraries; format: see migrations.py.
    A field that is added later has a default that means "as before", so that older files stay readable.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: dict[str, Any]
    labels: tuple[str, ...]
    affect: bool
    temperature: Annotated[float, Field(ge=0.01, le=100)]
    image_px: int
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    grey: bool
    crop: dict[str, Any]
    data: str
    training: Annotated[dict[str, Any], AfterValidator(_with_scores)]
    versions: dict[str, str]
    format: int = FORMAT

    @property
    def codes(self) -> NDArray[np.int64]:
        """(k,) codes of the labels."""
        return np.array([CODES[label] for label in self.labels], np.int64)

    @property
    def outputs(self) -> int:
        """Width of the network's output."""
        return len(self.labels) + 2 * self.affect


_METADATA = TypeAdapter(ModelMetadata)


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
    content = save(weights, metadata={METADATA_KEY: json.dumps(asdict(metadata), sort_keys=True)})
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
    metadata = _metadata(path, header.get(METADATA_KEY))
    params = _network_params(path, metadata)
    network = _network(path, params, metadata.outputs, weights).eval()
    metadata = replace(metadata, model=params.network)
    return (nn.Sequential(Grey(metadata.mean, metadata.std), network).eval() if metadata.grey else network), metadata


def _not_finite(weights: State) -> list[str]:
    return [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]


def _metadata(path: Path, text: str | None) -> ModelMetadata:
    """The metadata in the current format, its crop policy complete."""
    if text is None:
        raise UserError(f"{path}: a safetensors file, but not a model of this pipeline (no {METADATA_KEY!r} in its metadata)")
    try:
        metadata = _METADATA.validate_json(json.dumps(migrated(json.loads(text))))
        crop = CropPolicy.model_validate(metadata.crop)
    except ValidationError as error:
        section = "crop" if error.title == CropPolicy.__name__ else ""
        raise UserError(f"{path}: invalid model metadata: {_first(error, section)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: invalid model metadata: {first_line(error)}") from None
    foreign = [label for label in metadata.labels if label not in EXPRESSIONS]
    if foreign or len(set(metadata.labels)) != len(metadata.labels) or not metadata.outputs:
        raise UserError(f"{path}: labels {metadata.labels} are not distinct names of {', '.join(EXPRESSIONS)}")
    return replace(metadata, crop=crop.model_dump())


def _first(error: ValidationError, section: str) -> str:
    """The first problem, unknown fields before the rest: `labels.0: what is wrong`."""
    problems = error.errors(include_url=False)
    problem = min(problems, key=lambda problem: problem["type"] not in UNKNOWN)
    name = ".".join(map(str, filter(None, [section, *problem["loc"]])))
    reason = "unknown field, written by a later version; update this project" if problem["type"] in UNKNOWN else problem["msg"]
    return one_line(": ".join(filter(None, [name, reason])))


def _network_params(path: Path, metadata: ModelMetadata) -> ModelParams:
    """The settings of the network; those of its training have their defaults."""
    try:
        params = ModelParams.model_validate({"epochs": 1, **metadata.model})
    except ValidationError as error:
        raise UserError(f"{path}: invalid model metadata: {_first(error, 'model')}") from None
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
        with torch.device("meta"), _NoNormalDraws():
            return assemble(params, outputs)
    except NotImplementedError:  # RegNet reads numbers from tensors while it is built
        return assemble(params, outputs)


class _NoNormalDraws(TorchFunctionMode):
    """Makes `normal_` do nothing: on the meta device there is nothing to fill, and torch would import its compiler, which takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        named = kwargs or {}
        if getattr(func, "__name__", "") == "normal_":  # a tensor's, or torch.nn.init's
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def _forms(weights: State) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()}
