"""Trains the network on the training split and keeps the epoch that is best on our own validation split.

On the demo (vgg16_small, 64 px, 30 epochs) about two minutes on two cores. The test split is never opened here.
"""

import copy
import math
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from dvclive.live import Live
from pydantic import ConfigDict, Field, TypeAdapter

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.expressions import EXPRESSIONS
from affectnet.files.atomic import write_json
from affectnet.models import torchvision_lazy
from affectnet.models.checkpoint import ModelMetadata, save_model
from affectnet.models.dataset import load_faces, shards_sha256
from affectnet.models.device import configure_torch, has_bfloat16, select_device, select_precision
from affectnet.models.start_weights import check_record
from affectnet.models.transforms import without_colour
from affectnet.params import Runtime
from affectnet.running.progress_file import append_progress
from affectnet.running.run_stage import launch
from affectnet.tables.face_shards import read_policy, shard_paths
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, PLAN
from affectnet.training.collapse import collapsed, said_of_all, said_of_epoch
from affectnet.training.distributed import Group, process_group, started
from affectnet.training.launcher import start
from affectnet.training.recipe import TrainerParams
from affectnet.training.resume import TrainingState, finite, followed_state, resume_key, training_state
from affectnet.training.trainer import Metrics, Trainer, learned


class TrainParams(TrainerParams):
    """Section `train`, and the selected model, optimiser, loss and task."""

    patience: int = Field(ge=1)
    stop_after: int = Field(ge=0)
    stored_precision: Literal["float32", "float16"]


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
    """What the best epoch is chosen by: macro-F1, the mean CCC of valence and arousal, or the mean of both for both tasks."""
    expression = [metrics["validation/macro_f1"]] if "validation/macro_f1" in metrics else []
    affect = [(metrics["validation/valence_ccc"] + metrics["validation/arousal_ccc"]) / 2] if "validation/valence_ccc" in metrics else []
    return float(np.mean(expression + affect))


def fit(trainer: Trainer, patience: int, last: int, state: TrainingState, log: Callable[[Metrics], None]) -> Progress:
    """Trains up to epoch `last`, or until `patience` epochs in a row were no better; the first of equal epochs is the best."""
    reached = _resumed(trainer, state, last)
    for metrics in reached.history:
        log(metrics)
    while reached.epoch < last and reached.epoch - reached.best_epoch < patience:
        metrics = {"train/loss": trainer.train_epoch(reached.epoch), "learning_rate": trainer.learning_rate(), **trainer.loss_weights()}
        found, recall = trainer.validate()
        _refuse_nan(found, reached.epoch + 1, metrics["learning_rate"])
        metrics |= found
        trainer.loss.after_epoch(recall)
        reached.epoch += 1
        reached.history.append(metrics)
        if (score := selection_score(metrics)) > reached.best_score:
            reached.best_epoch, reached.best_score = reached.epoch, score
            reached.best_weights = {name: tensor.to("cpu", copy=True) for name, tensor in trainer.scored.state_dict().items()}
        log(metrics)  # before the state, so that no state holds an epoch that was not told
        state.save({**trainer.state(), "progress": vars(reached)})
    trainer.scored.load_state_dict(reached.best_weights)
    return reached


def _refuse_nan(found: Metrics, epoch: int, rate: float) -> None:
    if not math.isfinite(found["validation/loss"]):
        raise UserError(
            f"stages.train: the loss on validation is no number after epoch {epoch}, learning rate {rate:.3g}; lower optimizers.<name>.lr"
        )


def _resumed(trainer: Trainer, state: TrainingState, last: int) -> Progress:
    """The progress of the saved state, which the trainer takes up, and which is logged.

    None, and the trainer as it was, when the state is invalid, or of an epoch beyond the last (`stop_after` is no part of its key).
    """
    saved = state.load()
    if saved is None:
        return Progress()
    untrained = copy.deepcopy(trainer.state())
    try:
        reached = _PROGRESS.validate_python(saved["progress"])
        told = finite(saved) and 1 <= reached.best_epoch <= reached.epoch == len(reached.history)
        if not told or selection_score(reached.history[reached.best_epoch - 1]) != reached.best_score:
            raise ValueError("not what a training leaves")
        if reached.epoch > last:
            raise ValueError(f"of epoch {reached.epoch}, this training ends after epoch {last}")
        trainer.scored.load_state_dict(reached.best_weights)  # to see whether they fit
        trainer.resume(saved)
    except torch.OutOfMemoryError:  # on a smaller batch the state is as good as ever
        raise
    except Exception as error:  # as of an unreadable file: training from the start is right and merely slower
        reraise_machine_fault(error, state.path)
        state.refuse(error)
        trainer.resume(untrained)
        return Progress()
    state.taken_up(reached.epoch)
    return reached


@contextmanager
def _state(group: Group, key: str) -> Iterator[TrainingState]:
    """The state under the key: locked and written by the first process, read by the others once it is locked."""
    if group.first:
        with training_state(key) as state:
            group.barrier()
            yield state
    else:
        group.barrier()
        yield followed_state(key)


@contextmanager
def _log(group: Group, metrics: Path) -> Iterator[Callable[[Metrics], None]]:
    """Writes an epoch's metrics into DVCLive's folder, and tells them; silent in all processes but the first."""
    if not group.first:
        yield lambda _: None
        return
    with Live(str(metrics), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def log(values: Metrics) -> None:
            for name, value in values.items():
                live.log_metric(name, value)
            live.next_step()
            if collapsed(values):
                print(said_of_epoch(live.step), file=sys.stderr)
            append_progress({**values, "score": selection_score(values)})

        yield log


def run(
    params: TrainParams, runtime: Runtime, faces: Path, plan: Path, class_weights: Path, weights: Path, *, model: Path, metrics: Path
) -> str:
    """Trains and writes the model file and DVCLive's folder; returns the summary line.

    With more than one of `runtime.processes` it starts this file in as many, and waits for them.
    """
    device = select_device(runtime.device)
    if runtime.processes > 1 and not started():
        return start("stages.train", runtime.processes, device)
    with process_group(device) as group:
        try:
            return _train(group, params, runtime.workers, faces, plan, class_weights, weights, model, metrics)
        except torch.OutOfMemoryError:
            raise UserError("train.batch: the GPU's memory is full; lower it, or raise train.accumulate") from None


def _train(
    group: Group, params: TrainParams, workers: int, faces: Path, plan: Path, class_weights: Path, weights: Path, model: Path, metrics: Path
) -> str:
    device = group.device
    configure_torch(device)
    classes = learned(CLASS_WEIGHTS.read(class_weights), params.task)
    planned = PLAN.read(plan)
    rows = np.repeat(planned["row"].to_numpy(), planned["repeats"].to_numpy()).astype(np.int64)
    with group.first_alone():
        train, validation = (load_faces(faces, split, params.model.image_px, workers) for split in ("train", "validation"))
    shards = [*shard_paths(faces, "train"), *shard_paths(faces, "validation")]
    # Where a training ends early says nothing about its epochs, so that one stopped after 4 goes on from there.
    spread = {"processes": group.count} if group.count > 1 else {}
    files = [*shards, plan, class_weights, weights]
    resolved: dict[str, Any] = {"device": device.type, "precision": select_precision(params.precision, device), **spread}
    _log_emulation(resolved["precision"], device)
    key = resume_key({**params.model_dump(exclude={"stop_after", "stored_precision"}), **resolved}, files)
    if group.first and params.scaled_rate:
        print(f"train: {params.epochs} epochs{params.scaled_rate}", file=sys.stderr)
    with _state(group, key) as state, _log(group, metrics) as log:
        trainer = Trainer(params, group, classes, rows, train, validation)
        check_record(weights, trainer.started)
        reached = fit(trainer, params.patience, min(params.epochs, params.stop_after or params.epochs), state, log)
        grey = all(without_colour(of_one.images) for of_one in (train, validation))
        metadata = _metadata(params, trainer, faces, reached, grey)
        if group.first:
            save_model(model, trainer.scored, metadata, params.stored_precision)
            environment = {**metadata.versions, **resolved, "threads": torch.get_num_threads()}
            write_json(metrics / "environment.json", environment)
            check_curves(metrics, reached.history)
    best = reached.history[reached.best_epoch - 1]
    found = ", ".join(f"{name.split('/')[1]} {value:.3f}" for name, value in best.items() if name.startswith("validation/"))
    return (
        f"train: {len(rows):,} faces an epoch, {reached.epoch} epochs on {device.type} from {trainer.started}; best is epoch "
        f"{reached.best_epoch}, on {len(validation):,} validation faces {found}{params.scaled_rate}{said_of_all(reached.history)}"
    )


def _log_emulation(precision: str, device: torch.device) -> None:
    if precision == "bfloat16" and not has_bfloat16(device):
        print(
            f"train.precision: bfloat16, for which this {device.type} has no instructions: emulated, it took 12 times as long as "
            "float32 on a processor with AVX2; choose auto or float32",
            file=sys.stderr,
        )


def check_curves(folder: Path, history: list[Metrics]) -> None:
    """Errors: UserError when DVCLive's folder, the one output that is written over hours, does not hold what was logged."""
    for name in sorted(set().union(*history)):
        path = folder / "plots" / "metrics" / f"{name}.tsv"
        logged = [epoch[name] for epoch in history if name in epoch]
        found = [line.split("\t")[-1] for line in path.read_text(encoding="utf-8").splitlines()[1:]] if path.exists() else []
        if not np.array_equal(np.asarray(found, float), np.asarray(logged, float), equal_nan=True):
            raise UserError(
                f"{path}: not what was logged; `dvc checkout -f`, or `dvc exp run` without --temp, replaced it while this ran; "
                "run `dvc repro` again: it takes up the training where it ended"
            )


def _metadata(params: TrainParams, trainer: Trainer, faces: Path, reached: Progress, grey: bool) -> ModelMetadata:
    return ModelMetadata(
        model=params.model.network,
        labels=tuple(EXPRESSIONS[code] for code in trainer.classes.codes.tolist()),
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
            "started_from": asdict(trainer.started),
            "epoch": reached.best_epoch,
            "epochs": reached.epoch,
            "score": reached.best_score,
            **reached.history[reached.best_epoch - 1],
        },
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision_lazy.__version__,
            "numpy": np.__version__,
        },
    )


if __name__ == "__main__":
    launch(run)
