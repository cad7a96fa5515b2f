"""Out-of-fold probabilities: each training face is predicted by a network that was trained on the other folds."""

import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from sklearn.model_selection import StratifiedGroupKFold

from affectnet.errors import UserError
from affectnet.files.atomic import replacing
from affectnet.metrics.calibration import probabilities
from affectnet.models.dataset import FaceDataset
from affectnet.models.forward import predict
from affectnet.training.distributed import Group
from affectnet.training.fit import fit
from affectnet.training.losses.expression_loss import Classes
from affectnet.training.recipe import TrainerParams
from affectnet.training.resume import TrainingState
from affectnet.training.trainer import Trainer

PIECE = 4096
"""Faces that are predicted at a time: the images are mapped from the disk."""

Codes = NDArray[np.int64]
Probabilities = NDArray[np.float32]


class FoldParams(TrainerParams):
    """Section `train`, and the selected model, optimiser, loss and task, as for one training; what only its stage reads is left out."""

    model_config = ConfigDict(extra="ignore")

    patience: int


@dataclass(frozen=True)
class TrainingFaces:
    """What the trainings of all folds share. rows: of the plan, repeats included; faces, validation: the two splits."""

    classes: Classes
    rows: Codes
    faces: FaceDataset
    validation: FaceDataset


def cut_folds(labels: Codes, groups: Codes, names: Sequence[str], folds: int, seed: int) -> Codes:
    """(n,) fold of each face, from 0: near duplicates (groups, (n,)) in one fold, and the labels spread evenly over the folds.

    names: of the codes in `labels`, (n,).

    Errors: UserError when there are too few groups or faces for the folds, or when a label has one group: no other fold would teach it.
    """
    count, most = len(np.unique(groups)), int(np.bincount(labels).max(initial=0))
    if min(count, most) < folds:
        raise UserError(
            f"audit.folds: {folds} folds of {len(labels):,} training faces, {count:,} groups of near duplicates, at most {most:,} faces "
            f"of one expression; choose {min(count, most)} at most"
        )
    single = [names[code] for code in np.unique(labels) if len(np.unique(groups[labels == code])) == 1]
    if single:
        raise UserError(
            f"data/annotations.parquet: the training split has one photograph of {', '.join(single)}, which no other fold could teach; "
            "add photographs, or leave the expression out of clean.expressions"
        )
    fold = np.empty(len(labels), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # its faces are in as many folds as it has groups
        for number, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
            fold[rows] = number
    return fold


def out_of_fold(
    params: FoldParams,
    group: Group,
    shared: TrainingFaces,
    fold: Codes,
    kept: Callable[[int], Path],
    state: Callable[[int], AbstractContextManager[TrainingState]],
) -> Probabilities:
    """(n, k) probabilities of the n training faces by code, 0 for an expression that is not learned.

    fold: (n,) of each face; kept: the file with the probabilities of a finished fold, with which an interrupted audit continues;
    state: that of a fold's training.
    """
    labels = len(shared.faces.labels)
    result = np.zeros((len(fold), labels), np.float32)
    folds = np.unique(fold).tolist()
    for number in folds:
        held_out = np.flatnonzero(fold == number)
        shown = f"audit: fold {folds.index(number) + 1} of {len(folds)}"
        if (predicted := _read(kept(number), (len(held_out), labels))) is not None:
            print(f"{shown}: as computed before", file=sys.stderr)
        else:
            with state(number) as training:
                predicted = _train_fold(params, group, shared, np.flatnonzero(fold != number), held_out, training)
            with replacing(kept(number)) as temporary, temporary.open("wb") as file:
                np.save(file, predicted)
            right = (predicted.argmax(1) == shared.faces.expression.numpy()[held_out]).mean()
            print(f"{shown}: {right:.3f} of its {len(held_out):,} labels are predicted", file=sys.stderr)
        result[held_out] = predicted
    return result


def _train_fold(
    params: FoldParams, group: Group, shared: TrainingFaces, trained: Codes, held_out: Codes, state: TrainingState
) -> Probabilities:
    """(m, k) probabilities of the held-out faces by a network trained on the others; the epoch is chosen on our validation split."""
    rows = shared.rows[np.isin(shared.rows, trained)]
    trainer = Trainer(params, group, shared.classes, rows, shared.faces, shared.validation)
    fit(trainer, params.patience, params.epochs, state, lambda _: None)
    temperature = trainer.temperature()
    logits = [
        predict(trainer.evaluated, shared.faces.images[part], group.device, len(shared.classes), trainer.mean, trainer.std).logits
        for part in torch.split(torch.from_numpy(held_out), PIECE)
    ]
    result = np.zeros((len(held_out), len(shared.faces.labels)), np.float32)
    result[:, shared.classes.codes.numpy()] = probabilities(np.concatenate(logits), temperature)
    return result


def _read(path: Path, shape: tuple[int, int]) -> Probabilities | None:
    """The probabilities of a finished fold; None when there are none, or the file is damaged."""
    try:
        values = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == shape and np.isfinite(values).all() else None
