"""What a model file says of itself: one JSON string, the same in a safetensors and in an ONNX file. Needs no torch."""

import hashlib
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from affectnet.errors import UserError, first_line, one_line
from affectnet.expressions import invalid_labels
from affectnet.images.box_map import BoxMap
from affectnet.images.crop_policy import CropPolicy
from affectnet.models.migrations import FORMAT, migrated

METADATA_KEY = "affectnet"
"""One key only: with several, their order in the file, and so its bytes, changes from process to process (measured, safetensors 0.8)."""

CHECKSUM = "checksum"
"""Of all other fields of the JSON: a damaged byte can leave it valid, with another label. Older files have none."""

WEIGHTS_KEY = "weights"
"""In an ONNX file: how many weights the network has."""

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
    training shards; training: params, and scores on the validation split; versions: of the libraries; format: see migrations.py;
    about: what users should know, by label, such as the data set, scores on its test split, licence and limits; box_maps: by name of a
    detector, the map from its boxes to the annotated ones; the boxes of another detector are used as they are.
    A field that is added later has a default that means "as before", so that older files stay readable.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: dict[str, Any]
    labels: tuple[str, ...]
    affect: bool
    temperature: Annotated[float, Field(ge=0.01, le=100)]
    image_px: Annotated[int, Field(ge=1, le=1024)]
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    grey: bool
    crop: dict[str, Any]
    data: str
    training: Annotated[dict[str, Any], AfterValidator(_with_scores)]
    versions: dict[str, str]
    format: int = FORMAT
    about: dict[str, str] = field(default_factory=dict)
    box_maps: dict[str, BoxMap] = field(default_factory=dict)

    def codes(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """(k,) positions of the model's labels among these, −1 for one that is not there."""
        known = {label: code for code, label in enumerate(labels)}
        return np.array([known.get(label, -1) for label in self.labels], np.int64)

    @property
    def outputs(self) -> int:
        """Width of the network's output."""
        return len(self.labels) + 2 * self.affect


_METADATA = TypeAdapter(ModelMetadata)


def metadata_text(metadata: ModelMetadata) -> str:
    """The JSON string of a model file; the same metadata give the same string."""
    fields = asdict(metadata)
    return json.dumps({**fields, CHECKSUM: _checksum(fields)}, sort_keys=True)


def _checksum(fields: dict[str, Any]) -> str:
    """SHA-256 as hex, the same for the fields and for what their JSON is read as."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _unchanged(content: Any) -> Any:
    """The content without its checksum. Errors: ValueError when it is that of another content."""
    if not isinstance(content, dict) or CHECKSUM not in content:
        return content
    fields = {name: value for name, value in content.items() if name != CHECKSUM}
    if content[CHECKSUM] != _checksum(fields):
        raise ValueError("damaged or edited: its checksum is that of other metadata")
    return fields


def read_metadata(path: Path, text: str | None) -> ModelMetadata:
    """The metadata in the current format, its crop policy complete."""
    if text is None:
        raise UserError(f"{path}: not a model of this pipeline (no {METADATA_KEY!r} in its metadata)")
    try:
        metadata = _METADATA.validate_json(json.dumps(migrated(_unchanged(json.loads(text)))))
        crop = CropPolicy.model_validate(metadata.crop)
    except ValidationError as error:
        section = "crop" if error.title == CropPolicy.__name__ else ""
        raise UserError(f"{path}: invalid model metadata: {first_problem(error, section)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: invalid model metadata: {first_line(error)}") from None
    if problem := invalid_labels(metadata.labels) if metadata.labels else None:
        raise UserError(f"{path}: invalid model metadata: labels: {problem}")
    if not metadata.outputs:
        raise UserError(f"{path}: invalid model metadata: neither labels nor valence and arousal")
    return replace(metadata, crop=crop.model_dump())


def refuse_other_crops(
    model: Path | str, metadata: ModelMetadata, faces: Path, policy: dict[str, Any], fields: Collection[str] = CropPolicy.model_fields
) -> None:
    """Errors: UserError when the policy that cut the faces of the folder is not that of the model's training faces.

    policy: as shards hold it; those of an earlier version lack later fields. fields: those that must be equal.
    """
    complete = CropPolicy.model_validate(policy).model_dump()
    differing = sorted(name for name in fields if complete[name] != metadata.crop[name])
    if differing:
        raise UserError(
            f"{faces}: cropped with another policy than the training faces of {model} ({', '.join(differing)} differ); run `dvc repro`, "
            "or give a model of these crops"
        )


def first_problem(error: ValidationError, section: str) -> str:
    """The first problem, unknown fields before the rest: `labels.0: what is wrong`."""
    problems = error.errors(include_url=False)
    problem = min(problems, key=lambda problem: problem["type"] not in UNKNOWN)
    name = ".".join(map(str, filter(None, [section, *problem["loc"]])))
    reason = "unknown field, written by a later version; update this project" if problem["type"] in UNKNOWN else problem["msg"]
    return one_line(": ".join(filter(None, [name, reason])))
