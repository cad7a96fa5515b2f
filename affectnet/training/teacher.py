"""The soft targets of a training: what teachers answer for its faces, or the soft labels of the data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from affectnet.errors import UserError, first_few
from affectnet.expressions import EXPRESSIONS
from affectnet.files.sha256 import file_sha256
from affectnet.metrics.calibration import Values, fit_temperature, probabilities
from affectnet.metrics.label_shares import label_share_factors, with_factors
from affectnet.models.checkpoint import load_model
from affectnet.models.dataset import FaceDataset
from affectnet.models.forward import predict
from affectnet.models.metadata import ModelMetadata, refuse_other_crops
from affectnet.running.provenance import Weights, named_teachers
from affectnet.tables.face_shards import read_policy
from affectnet.training.distributed import Group
from affectnet.training.losses.expression_loss import Classes
from affectnet.training.recipe import TrainerParams
from affectnet.training.targets import has_soft_label

REGION = ("margin", "square", "align", "padding")
"""Fields of a crop policy that decide which part of a photograph is seen: a teacher's must be those of the faces. Its pixels may differ."""

LEAST = 1e-30
"""Smaller probabilities and factors count as this one, whose logarithm is finite."""

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

    They are those of a network that was trained on the labels as they are, whether the teacher was trained against their skew or not:
    calibrated on our validation split, brought to the shares of the training labels, and softened by `train.teacher_temperature`. The
    logits are averaged over the views of `train.teacher_averaging`.
    Errors: UserError when the file cannot be read, lacks an expression that is learned, or saw faces of another crop.
    """
    network, metadata = load_model(file)
    refuse_other_crops(file, metadata, faces, read_policy(faces, "train"), REGION)
    train, validation = splits_at(metadata.image_px)
    columns = _columns(file, metadata, _names(train, classes))
    network = network.to(group.device)
    predicted = partial(
        predict, network, device=group.device, classes=len(metadata.labels), mean=metadata.mean, std=metadata.std,
        averaging=params.teacher_averaging,
    )  # fmt: skip

    def logits_of(split: FaceDataset) -> Values:
        outputs = predicted(split.images[group.own_rows(len(split))]).require_finite(file)
        return group.gather(torch.from_numpy(outputs.logits), len(split))[:, columns].double().numpy()

    logits, (known, labels) = logits_of(train), _known(train, classes)
    factors = label_share_factors(labels, probabilities(logits[known], 1.0))
    temperature = _temperature(logits_of(validation) + np.log(np.maximum(factors, LEAST)), validation, classes)
    calibrated = probabilities(logits, temperature)
    calibrated = with_factors(calibrated, label_share_factors(labels, calibrated[known]))
    return torch.from_numpy(probabilities(np.log(np.maximum(calibrated, LEAST)), params.teacher_temperature)).float()


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


def _known(faces: FaceDataset, classes: Classes) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(n,) whether a face's expression is learned, and the columns of those."""
    one_of = (faces.expression[:, None] == classes.codes).numpy()
    known = np.asarray(one_of.any(1))
    return known, one_of[known].argmax(1).astype(np.int64)


def _temperature(logits: Values, validation: FaceDataset, classes: Classes) -> float:
    """Fitted on the validation faces of expressions that are learned; 1 if there are none."""
    known, labels = _known(validation, classes)
    return fit_temperature(logits[known], labels) if known.any() else 1.0
