"""A training from its first epoch to its last: which epoch is the best, when training ends, and how it resumes."""

import copy
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torchvision
from pydantic import ConfigDict, TypeAdapter

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.images.box_map import BoxMap
from affectnet.models.dataset import shards_sha256
from affectnet.models.metadata import ModelMetadata
from affectnet.running.provenance import Weights
from affectnet.tables.face_shards import read_dataset, read_policy, shard_paths
from affectnet.training.recipe import TrainerParams
from affectnet.training.resume import TrainingState, finite
from affectnet.training.trainer import ANSWERED, Metrics, Trainer

_COLLAPSE = "the network predicts one expression for all of validation"
_ADVICE = "lower optimizers.<name>.lr"


@dataclass
class Progress:
    """How far a training has come: epochs done, their metrics, and the best epoch's weights and score."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    epoch: int = 0
    history: list[Metrics] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -2.0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)


_PROGRESS = TypeAdapter(Progress)


def selection_score(metrics: Metrics) -> float:
    """The score that selects the best epoch: macro-F1, the mean CCC of valence and arousal, or for both tasks the mean of both."""
    of_tasks = []
    if "validation/macro_f1" in metrics:
        of_tasks.append(metrics["validation/macro_f1"])
    if "validation/valence_ccc" in metrics:
        of_tasks.append((metrics["validation/valence_ccc"] + metrics["validation/arousal_ccc"]) / 2)
    return float(np.mean(of_tasks))


def fit(trainer: Trainer, patience: int, last: int, state: TrainingState, log: Callable[[Metrics], None]) -> Progress:
    """Trains up to epoch `last`, or until `patience` epochs in a row were no better; the first of equal epochs is the best."""
    reached = _resumed(trainer, state, last)
    for metrics in reached.history:
        log(metrics)
    while reached.epoch < last and reached.epoch - reached.best_epoch < patience:
        metrics = {"train/loss": trainer.train_epoch(reached.epoch), "learning_rate": trainer.learning_rate(), **trainer.loss_weights()}
        validation, recall = trainer.validate()
        _refuse_nan(validation, reached.epoch + 1, metrics["learning_rate"])
        metrics |= validation
        trainer.loss.after_epoch(recall)
        reached.epoch += 1
        reached.history.append(metrics)
        score = selection_score(metrics)
        if score > reached.best_score:
            reached.best_epoch, reached.best_score = reached.epoch, score
            reached.best_weights = {name: tensor.to("cpu", copy=True) for name, tensor in trainer.evaluated.state_dict().items()}
        log(metrics)  # before the state, so that no state holds an epoch that was not logged
        state.save({**trainer.state(), "progress": vars(reached)})
    trainer.evaluated.load_state_dict(reached.best_weights)
    return reached


def model_metadata(
    trainer: Trainer,
    params: TrainerParams,
    reached: Progress,
    faces: Path,
    grey: bool,
    box_maps: dict[str, BoxMap],
    teachers: Mapping[str, Weights],
) -> ModelMetadata:
    """What the model file says of the best epoch's weights. faces: the folder of crops; grey: whether all of them are grey.

    box_maps: by name of a detector; teachers: the records of the model files whose answers were its targets.
    """
    return ModelMetadata(
        model=params.model.network,
        labels=trainer.names,
        affect=params.task.affect,
        temperature=trainer.temperature(),
        image_px=params.model.image_px,
        mean=trainer.mean,
        std=trainer.std,
        grey=grey,
        crop=read_policy(faces, "train"),
        data=shards_sha256(shard_paths(faces, "train")),
        training={
            "params": params.model_dump(),
            "precision": trainer.precision,
            "started_from": asdict(trainer.started_from),
            **({"teachers": [asdict(weights) for weights in teachers.values()]} if teachers else {}),
            "epoch": reached.best_epoch,
            "epochs": reached.epoch,
            "score": reached.best_score,
            **reached.history[reached.best_epoch - 1],
        },
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
        box_maps=box_maps,
        about={"data set": dataset} if (dataset := read_dataset(faces, "train")) else {},
    )


def collapsed(metrics: Metrics) -> bool:
    """Whether the network predicts only one expression; False where no expression is learned."""
    return metrics.get(ANSWERED) == 1


def collapse_warning(epoch: int) -> str:
    """The line that is logged after an epoch of a collapsed network."""
    return f"train: epoch {epoch}: {_COLLAPSE}; if it stays so, {_ADVICE}"


def collapse_summary(history: Sequence[Metrics]) -> str:
    """The part of the stage's summary line about collapse; empty when the network never collapsed."""
    epochs = [epoch for epoch, metrics in enumerate(history, 1) if collapsed(metrics)]
    if not epochs:
        return ""
    return f"; {_COLLAPSE} after {len(epochs)} of {len(history)} epochs, last after epoch {epochs[-1]}: {_ADVICE}"


def _refuse_nan(metrics: Metrics, epoch: int, rate: float) -> None:
    if not math.isfinite(metrics["validation/loss"]):
        raise UserError(
            f"stages.train: the loss on validation is NaN or infinite after epoch {epoch}, learning rate {rate:.3g}; "
            "lower optimizers.<name>.lr"
        )


def _resumed(trainer: Trainer, state: TrainingState, last: int) -> Progress:
    """The progress of the saved state, which is restored in the trainer and logged.

    A new Progress, and the trainer unchanged, when the state is invalid or of an epoch after the last (its key leaves out `stop_after`).
    """
    saved = state.load()
    if saved is None:
        return Progress()
    untrained = copy.deepcopy(trainer.state())
    try:
        reached = _PROGRESS.validate_python(saved["progress"])
        consistent = finite(saved) and 1 <= reached.best_epoch <= reached.epoch == len(reached.history)
        if not consistent or selection_score(reached.history[reached.best_epoch - 1]) != reached.best_score:
            raise ValueError("not a state that a training saves")
        if reached.epoch > last:
            raise ValueError(f"of epoch {reached.epoch}, this training ends after epoch {last}")
        trainer.evaluated.load_state_dict(reached.best_weights)  # raises when they do not fit
        trainer.resume(saved)
    except torch.OutOfMemoryError:  # the state is valid for a smaller batch
        raise
    except Exception as error:  # training from the first epoch gives the same result
        reraise_machine_fault(error, state.path)
        state.log_refused(error)
        trainer.resume(untrained)
        return Progress()
    state.log_resumed(reached.epoch)
    return reached
