"""The model file: one safetensors file with the weights and, as one JSON string, everything needed to use them."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import torch
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.overrides import TorchFunctionMode

from affectnet.errors import UserError, first_few, one_line
from affectnet.expressions import EXPRESSIONS
from affectnet.files.atomic import replacing
from affectnet.images.crop_policy import CropPolicy
from affectnet.models.backbones import NetworkParams, State, assemble
from affectnet.models.transforms import Grey

FORMAT: Final = 3
METADATA_KEY = "affectnet"
"""One key only: with several, their order in the file, and so its bytes, changes from process to process (measured, safetensors 0.8)."""


def _with_scores(training: dict[str, Any]) -> dict[str, Any]:
    """The training as it is. Errors: ValueError when what evaluate repeats of it is no finite number."""
    repeated = {"epoch", "score", *(name for name in training if name.startswith("validation/"))}
    for name in sorted(repeated):
        value = training.get(name)
        if not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise ValueError(f"{name} is no finite number")
    return training


UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
"""How pydantic calls a field that a class does not have."""

Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=1e-3, le=1)]


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file says of its weights.

    labels: expression names in the order of the outputs, which are the logits; affect: whether valence and arousal follow
    them; temperature: what the logits are divided by before softmax, fitted on our validation split; image_px, mean, std:
    input is RGB in 0–1, resized to image_px × image_px, minus mean, by std, per channel; grey: whether no training face had
    colour, so that colour, which the weights have never seen, is taken from each face before they see it; crop: the policy that cut the
    training crops; data: SHA-256 of the training shards; training: params and scores on the validation split; versions:
    library versions.
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
    format: Literal[3]

    @property
    def outputs(self) -> int:
        """Width of the network's output."""
        return len(self.labels) + 2 * self.affect


_METADATA = TypeAdapter(ModelMetadata)


def save_model(path: Path, network: nn.Module, metadata: ModelMetadata, precision: Literal["float32", "float16"] = "float32") -> None:
    """Writes the file whole or not at all; the same weights and metadata give the same bytes.

    precision: of the parameters; the statistics of batch normalisation, which spread too far, stay as they are. Errors: UserError when
    a weight is no finite number, or a parameter is too large for the precision.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.state_dict().items())}
    if broken := _not_finite(weights):
        raise UserError(f"training went astray: no finite numbers in tensors, {first_few(broken)}; choose a lower learning rate")
    weights |= {name: weights[name].to(getattr(torch, precision)) for name, _ in network.named_parameters()}
    if broken := _not_finite(weights):
        raise UserError(f"train.stored_precision: {precision} cannot hold the weights of tensors, {first_few(broken)}; choose float32")
    content = save(weights, metadata={METADATA_KEY: json.dumps(asdict(metadata), sort_keys=True)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _not_finite(weights: State) -> list[str]:
    return [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]


def load_model(path: Path) -> tuple[nn.Module, ModelMetadata]:
    """The network in evaluation mode on the CPU, behind `Grey` where its metadata says so, and its metadata.

    The one door of all commands. Nothing is unpickled. Errors: UserError when the file is missing, not ours, of a later version, of
    foreign labels or no crop policy, or its weights do not fit its description or are not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dvc repro`") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from None
    metadata = _metadata(path, header.get(METADATA_KEY))
    network = _network(path, metadata, weights)
    return (nn.Sequential(Grey(metadata.mean, metadata.std), network) if metadata.grey else network).eval(), metadata


def _metadata(path: Path, text: str | None) -> ModelMetadata:
    if text is None:
        raise UserError(f"{path}: a safetensors file, but not a model of this pipeline (no {METADATA_KEY!r} in its metadata)")
    try:
        metadata = _METADATA.validate_json(text)
    except ValidationError as error:
        raise UserError(f"{path}: its metadata is no model card of format {FORMAT}: {_first(error)}") from None
    foreign = [label for label in metadata.labels if label not in EXPRESSIONS]
    if foreign or len(set(metadata.labels)) != len(metadata.labels) or not metadata.outputs:
        raise UserError(f"{path}: labels {metadata.labels} are not distinct names of {', '.join(EXPRESSIONS)}")
    try:
        CropPolicy.model_validate(metadata.crop)
    except ValidationError as error:
        raise UserError(f"{path}: its crop policy is none: {_first(error, 'crop')}") from None
    return metadata


def _first(error: ValidationError, section: str = "") -> str:
    """The first problem, that of the format before all others, unknown fields before the rest: `labels.0: what is wrong`."""
    problems = error.errors(include_url=False)
    ranked = sorted(problems, key=lambda problem: (problem["loc"] != ("format",), problem["type"] not in UNKNOWN))
    problem = ranked[0]
    later = problem["type"] in UNKNOWN or (problem["loc"] == ("format",) and _beyond(problem["input"]))
    said = "not known here, so that a later version wrote the file; update this project" if later else problem["msg"]
    place = ".".join(map(str, filter(None, [section, *problem["loc"]])))
    return one_line(": ".join(filter(None, [place, said])))


def _beyond(number: object) -> bool:
    return isinstance(number, int) and number > FORMAT


def _network(path: Path, metadata: ModelMetadata, weights: State) -> nn.Module:
    try:
        params = NetworkParams.model_validate(metadata.model)
        form = _without_memory(params, metadata.outputs)
    except ValidationError as error:
        raise UserError(f"{path}: its description of the network is none: {_first(error, 'model')}") from None
    except UserError as error:
        raise UserError(f"{path}: {str(error).removeprefix('params.yaml: model: ')}") from None
    if params.image_px != metadata.image_px:
        raise UserError(f"{path}: takes images of {metadata.image_px} px, its network is for {params.image_px} px")
    wanted, found = _forms(form.state_dict()), _forms(weights)
    parameters = {name for name, _ in form.named_parameters()}
    allowed = {name: {(kind, shape), (torch.float16 if name in parameters else kind, shape)} for name, (kind, shape) in wanted.items()}
    differing = sorted(name for name in {*wanted, *found} if found.get(name) not in allowed.get(name, ()))
    if differing:
        raise UserError(f"{path}: weights and description disagree in tensors, {first_few(differing)}")
    if broken := _not_finite(weights):
        raise UserError(f"{path}: weights are not finite in tensors, {first_few(broken)}")
    network = assemble(params, metadata.outputs)
    network.load_state_dict(weights)  # which makes float32 of float16
    return network


def _without_memory(params: NetworkParams, outputs: int) -> nn.Module:
    """The network without its weights: a small file that claims to be a giant shall not cost the giant's memory."""
    try:
        with torch.device("meta"), _Undrawn():
            return assemble(params, outputs)
    except NotImplementedError:  # RegNet looks at numbers while it is built
        return assemble(params, outputs)


class _Undrawn(TorchFunctionMode):
    """Draws no normal numbers: of weights without memory there are none, and torch would import its compiler, for seconds."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = kwargs or {}
        drawing = getattr(func, "__name__", "") == "normal_"  # a tensor's, or torch.nn.init's
        return (args or [given["tensor"]])[0] if drawing else func(*args, **given)


def _forms(weights: State) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()}
