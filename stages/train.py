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
from affectnet.models.transforms import all_grey
from affectnet.params import Runtime
from affectnet.running.progress_file import append_progress
from affectnet.running.run_stage import launch
from affectnet.tables.face_shards import read_policy, shard_paths
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, PLAN
from affectnet.training.collapse import collapsed, epoch_warning, summary
from affectnet.training.distributed import Group, is_launched, process_group
from affectnet.training.launcher import launch_processes
from affectnet.training.recipe import TrainerParams
from affectnet.training.resume import TrainingState, finite, read_only_state, resume_key, training_state
from affectnet.training.trainer import Metrics, Trainer, learned_classes


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


@contextmanager
def _state(group: Group, key: str) -> Iterator[TrainingState]:
    """The state under the key: locked and written by the first process, read by the others once it is locked."""
    if group.first:
        with training_state(key) as state:
            group.barrier()
            yield state
    else:
        group.barrier()
        yield read_only_state(key)


@contextmanager
def _log(group: Group, metrics: Path) -> Iterator[Callable[[Metrics], None]]:
    """Writes the metrics of an epoch to DVCLive's folder and the progress file; does nothing in all processes but the first."""
    if not group.first:
        yield lambda _: None
        return
    with Live(str(metrics), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def log(values: Metrics) -> None:
            for name, value in values.items():
                live.log_metric(name, value)
            live.next_step()
            if collapsed(values):
                print(epoch_warning(live.step), file=sys.stderr)
            append_progress({**values, "score": selection_score(values)})

        yield log


def run(
    params: TrainParams, runtime: Runtime, faces: Path, plan: Path, class_weights: Path, weights: Path, *, model: Path, metrics: Path
) -> str:
    """Trains and writes the model file and DVCLive's folder; returns the summary line.

    With `runtime.processes` above 1 it runs itself in as many processes.
    """
    device = select_device(runtime.device)
    if runtime.processes > 1 and not is_launched():
        return launch_processes("stages.train", runtime.processes, device)
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
    classes = learned_classes(CLASS_WEIGHTS.read(class_weights), params.task)
    planned = PLAN.read(plan)
    rows = np.repeat(planned["row"].to_numpy(), planned["repeats"].to_numpy()).astype(np.int64)
    with group.first_process_first():
        train, validation = (load_faces(faces, split, params.model.image_px, workers) for split in ("train", "validation"))
    shards = [*shard_paths(faces, "train"), *shard_paths(faces, "validation")]
    # The key leaves out stop_after, so that a training that was stopped early continues from there.
    processes = {"processes": group.count} if group.count > 1 else {}
    files = [*shards, plan, class_weights, weights]
    resolved: dict[str, Any] = {"device": device.type, "precision": select_precision(params.precision, device), **processes}
    _log_emulation(resolved["precision"], device)
    key = resume_key({**params.model_dump(exclude={"stop_after", "stored_precision"}), **resolved}, files)
    if group.first and params.scaled_rate:
        print(f"train: {params.epochs} epochs{params.scaled_rate}", file=sys.stderr)
    with _state(group, key) as state, _log(group, metrics) as log:
        trainer = Trainer(params, group, classes, rows, train, validation)
        check_record(weights, trainer.started_from)
        reached = fit(trainer, params.patience, min(params.epochs, params.stop_after or params.epochs), state, log)
        grey = all_grey(train.images) and all_grey(validation.images)
        metadata = _metadata(params, trainer, faces, reached, grey)
        if group.first:
            save_model(model, trainer.evaluated, metadata, params.stored_precision)
            environment = {**metadata.versions, **resolved, "threads": torch.get_num_threads()}
            write_json(metrics / "environment.json", environment)
            check_curves(metrics, reached.history)
    best = reached.history[reached.best_epoch - 1]
    shown = ", ".join(f"{name.split('/')[1]} {value:.3f}" for name, value in best.items() if name.startswith("validation/"))
    return (
        f"train: {len(rows):,} faces per epoch, {reached.epoch} epochs on {device.type} from {trainer.started_from}; best is epoch "
        f"{reached.best_epoch}, on {len(validation):,} validation faces {shown}{params.scaled_rate}{summary(reached.history)}"
    )


def _log_emulation(precision: str, device: torch.device) -> None:
    if precision == "bfloat16" and not has_bfloat16(device):
        print(
            f"train.precision: bfloat16, for which this {device.type} has no instructions: it is emulated, and took 12 times as long as "
            "float32 on a processor with AVX2; choose auto or float32",
            file=sys.stderr,
        )


def check_curves(folder: Path, history: list[Metrics]) -> None:
    """Errors: UserError when DVCLive's folder, the only output that is written over hours, does not hold what was logged."""
    for name in sorted(set().union(*history)):
        path = folder / "plots" / "metrics" / f"{name}.tsv"
        logged = [epoch[name] for epoch in history if name in epoch]
        lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
        written = [line.split("\t")[-1] for line in lines]
        if not np.array_equal(np.asarray(written, float), np.asarray(logged, float), equal_nan=True):
            raise UserError(
                f"{path}: not what was logged; `dvc checkout -f`, or `dvc exp run` without --temp, replaced it while this ran; "
                "run `dvc repro` again: it resumes the training where it ended"
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
            "started_from": asdict(trainer.started_from),
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
