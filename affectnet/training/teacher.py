"""The soft targets of a training: what teachers answer for its faces, or the soft labels of the data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from affectnet.errors import UserError, first_few
from affectnet.expressions import EXPRESSIONS
from affectnet.files.sha256 import file_sha256
from affectnet.metrics.calibration import fit_temperature, probabilities
from affectnet.models.checkpoint import load_model
from affectnet.models.dataset import FaceDataset
from affectnet.models.forward import predict
from affectnet.models.metadata import ModelMetadata, first_problem, refuse_other_crops
from affectnet.running.provenance import Weights, named_teachers
from affectnet.tables.face_shards import read_policy
from affectnet.training.distributed import Group
from affectnet.training.losses.expression_loss import LOSSES, Classes, ExpressionLoss, build_loss
from affectnet.training.recipe import TrainerParams
from affectnet.training.targets import has_soft_label

REGION = ("margin", "square", "align", "padding")
"""Fields of a crop policy that decide which part of a photograph is seen: a teacher's must be those of the faces. Its pixels may differ."""

Load = Callable[[int], tuple[FaceDataset, FaceDataset]]
"""The training and validation faces at a side in px."""


@dataclass(frozen=True)
class SoftTargets:
    """shares: (n, k) soft label of each training face, NaN or 0 where it has none; teachers: the files it comes from, if any, by name."""

    shares: torch.Tensor
    teachers: dict[str, Weights] = field(default_factory=dict)

    def summary(self, rows: torch.Tensor) -> str:
        """The part of the summary line about the targets of the planned rows, each face counted once."""
        labelled = has_soft_label(self.shares[torch.unique(rows)])
        soft, hard = int(labelled.sum()), int((~labelled).sum())
        origin = f"of {len(self.teachers)} teacher{'s' if len(self.teachers) > 1 else ''}" if self.teachers else "of the data"
        return f"; soft targets {origin} for {soft:,} faces, {hard:,} without one learn their label"


def soft_targets(params: TrainerParams, classes: Classes, faces: Path, splits_at: Load, group: Group) -> SoftTargets | None:
    """None for hard targets. faces: the folder of shards.

    Errors: UserError when there is no teacher and no training face has a soft label, and those of `teacher_shares`.
    """
    if params.targets == "hard":
        return None
    if params.teacher:
        return _of_teachers(params, classes, faces, splits_at, group)
    train = splits_at(params.model.image_px)[0]
    if train.soft_label is None:
        shares = torch.empty(0, len(classes))
    else:
        shares = train.soft_label[:, [EXPRESSIONS.index(name) for name in _names(train, classes)]]
    if not has_soft_label(shares).any():
        raise UserError(
            f"train.targets: {params.targets}, but no training face has a soft label of an expression that is learned; choose hard, or "
            "name a model file in train.teacher"
        )
    return SoftTargets(shares)


def _of_teachers(params: TrainerParams, classes: Classes, faces: Path, splits_at: Load, group: Group) -> SoftTargets:
    """The mean of the teachers' probabilities."""
    teachers = named_teachers(params.teacher)
    read = {name: replace(weights, sha256=_sha256(Path(weights.name))) for name, weights in teachers.items()}
    shares = [teacher_shares(Path(file), params, classes, faces, splits_at, group) for file in params.teacher]
    return SoftTargets(torch.stack(shares).mean(0), read)


def teacher_shares(file: Path, params: TrainerParams, classes: Classes, faces: Path, splits_at: Load, group: Group) -> torch.Tensor:
    """(n, k) probabilities of a model file for the training faces.

    They are softmax(z' / (T · train.teacher_temperature)). z' are the logits, averaged over the views of `train.teacher_averaging`, as the
    teacher's own loss saw them in training: one that corrects for the skew makes the logits those of equally frequent expressions, and
    the labels have the skew. T is fitted on our validation split, so that the probabilities are as sharp as they are right.
    Errors: UserError when the file cannot be read, lacks an expression that is learned, or saw faces of another crop.
    """
    network, metadata = load_model(file)
    refuse_other_crops(file, metadata, faces, read_policy(faces, "train"), REGION)
    train, validation = splits_at(metadata.image_px)
    columns = _columns(file, metadata, _names(train, classes))
    loss = _own_loss(file, metadata, classes)
    network = network.to(group.device)
    predicted = partial(
        predict, network, device=group.device, classes=len(metadata.labels), mean=metadata.mean, std=metadata.std,
        averaging=params.teacher_averaging,
    )  # fmt: skip

    def logits_of(split: FaceDataset) -> torch.Tensor:
        outputs = predicted(split.images[group.own_rows(len(split))]).require_finite(file)
        logits = group.gather(torch.from_numpy(outputs.logits), len(split))[:, columns]
        return loss.adjusted(logits, torch.zeros_like(logits))

    temperature = params.teacher_temperature * _temperature(logits_of(validation), validation, classes)
    return torch.from_numpy(probabilities(logits_of(train).numpy(), temperature)).float()


def _sha256(file: Path) -> str:
    try:
        return file_sha256(file).hex()
    except FileNotFoundError:
        raise UserError(f"train.teacher: {file}: missing; name a model file, such as a copy of models/model.safetensors") from None
    except (OSError, ValueError) as error:
        raise UserError(f"train.teacher: {file}: cannot be read: {error}") from None


def _names(faces: FaceDataset, classes: Classes) -> list[str]:
    """Of the expressions that are learned."""
    return [faces.labels[code] for code in classes.codes.tolist()]


def _columns(file: Path, metadata: ModelMetadata, learned: Sequence[str]) -> list[int]:
    """The teacher's columns of the expressions that are learned."""
    if unknown := [name for name in learned if name not in metadata.labels]:
        raise UserError(
            f"train.teacher: {file}: has no output for {first_few(unknown)}, which training learns; choose another model file, or leave "
            "the expression out of clean.expressions"
        )
    return [metadata.labels.index(name) for name in learned]


def _own_loss(file: Path, metadata: ModelMetadata, classes: Classes) -> ExpressionLoss:
    """The loss that the teacher was trained with, of this training's expressions; plain for a file that does not say."""
    entry = metadata.training.get("params", {}).get("loss", {"function": "plain"})
    try:
        name = entry["function"]
        return build_loss(TypeAdapter(LOSSES.params_of(name)).validate_python(entry), classes)
    except (KeyError, TypeError):
        raise UserError(
            f"train.teacher: {file}: was trained with a loss that this version does not have; choose another model file"
        ) from None
    except ValidationError as error:
        raise UserError(f"train.teacher: {file}: invalid model metadata: {first_problem(error, 'training.params.loss')}") from None


def _temperature(logits: torch.Tensor, validation: FaceDataset, classes: Classes) -> float:
    """Fitted on the validation faces of expressions that are learned; 1 if there are none."""
    one_of = validation.expression[:, None] == classes.codes
    known = one_of.any(1)
    if not known.any():
        return 1.0
    return fit_temperature(logits[known].numpy(), one_of[known].int().argmax(1).numpy())
