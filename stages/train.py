"""Trains the network on the training split and keeps the epoch that is best on our own validation split.

On the demo (vgg16_small, 64 px, 14 epochs) a minute or two on two cores. The test split is never opened here.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from affectnet.errors import UserError, many
from affectnet.files.atomic import write_json
from affectnet.images.box_map import read_box_maps
from affectnet.models.checkpoint import save_model
from affectnet.models.dataset import FaceDataset, load_faces
from affectnet.models.device import configure_torch, has_bfloat16, select_device, select_precision
from affectnet.models.transforms import all_grey
from affectnet.params import Runtime
from affectnet.running.progress_file import append_progress
from affectnet.running.provenance import refuse_changed
from affectnet.running.run_stage import launch
from affectnet.tables.face_shards import shard_paths
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, planned_rows
from affectnet.training.distributed import Group, is_launched, process_group
from affectnet.training.fit import collapse_summary, collapse_warning, collapsed, fit, model_metadata, selection_score
from affectnet.training.launcher import launch_processes
from affectnet.training.recipe import TrainerParams
from affectnet.training.resume import TrainingState, read_only_state, resume_key, training_state
from affectnet.training.teacher import soft_targets
from affectnet.training.trainer import Metrics, Trainer, learned_classes

MOST_SKEW = 2
"""Of the plan, the most frequent expression by the rarest, above which a loss that needs balance is named."""


class TrainParams(TrainerParams):
    """Section `train`, and the selected model, optimiser, loss and task."""

    patience: int = Field(ge=1)
    stop_after: int = Field(ge=0)
    stored_precision: Literal["float32", "float16"]


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
    from dvclive.live import Live  # noqa: PLC0415 (of the stage; its params and its epochs need no DVC)

    with Live(str(metrics), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def log(values: Metrics) -> None:
            for name, value in values.items():
                live.log_metric(name, value)
            live.next_step()
            if collapsed(values):
                print(collapse_warning(live.step), file=sys.stderr)
            append_progress({**values, "score": selection_score(values)})

        yield log


def run(
    params: TrainParams,
    runtime: Runtime,
    faces: Path,
    plan: Path,
    class_weights: Path,
    box_maps: Path,
    weights: Path,
    *,
    model: Path,
    metrics: Path,
) -> str:
    """Trains and writes the model file and DVCLive's folder; returns the summary line.

    With `runtime.processes` above 1 it runs itself in as many processes.
    """
    device = select_device(runtime.device)
    if runtime.processes > 1 and not is_launched():
        return launch_processes("stages.train", runtime.processes, device)
    with process_group(device) as group:
        try:
            return _train(group, params, runtime.workers, faces, plan, class_weights, box_maps, weights, model, metrics)
        except torch.OutOfMemoryError:
            raise UserError("train.batch: the GPU's memory is full; lower it, or raise train.accumulate") from None


def _train(
    group: Group,
    params: TrainParams,
    workers: int,
    faces: Path,
    plan: Path,
    class_weights: Path,
    box_maps: Path,
    weights: Path,
    model: Path,
    metrics: Path,
) -> str:
    device = group.device
    configure_torch(device)
    classes = learned_classes(CLASS_WEIGHTS.read(class_weights), params.task)
    rows = planned_rows(plan)

    @cache
    def splits_at(image_px: int) -> tuple[FaceDataset, FaceDataset]:
        with group.first_process_first():
            return load_faces(faces, "train", image_px, workers), load_faces(faces, "validation", image_px, workers)

    train, validation = splits_at(params.model.image_px)
    shards = [*shard_paths(faces, "train"), *shard_paths(faces, "validation")]
    # The key leaves out stop_after, so that a training that was stopped early continues from there.
    processes = {"processes": group.count} if group.count > 1 else {}
    files = [*shards, plan, class_weights, weights]
    resolved: dict[str, Any] = {"device": device.type, "precision": select_precision(params.precision, device), **processes}
    _log_emulation(resolved["precision"], device)
    key = resume_key({**params.model_dump(exclude={"stop_after", "stored_precision"}), **resolved}, files)
    if group.first:
        _log_recipe(params)
    _refuse_own_teacher(params, model)
    soft = soft_targets(params, classes, faces, splits_at, group)
    teachers = soft.teachers if soft else {}
    with _state(group, key) as state, _log(group, metrics) as log:
        trainer = Trainer(params, group, classes, rows, train, validation, soft.shares if soft else None)
        if group.first:
            _log_skew(params, trainer.drawn_mass(0))
        refuse_changed(weights, {"start": trainer.started_from.weights, **teachers})
        reached = fit(trainer, params.patience, min(params.epochs, params.stop_after or params.epochs), state, log)
        grey = all_grey(train.images) and all_grey(validation.images)
        metadata = model_metadata(trainer, params, reached, faces, grey, read_box_maps(box_maps), teachers)
        if group.first:
            _log_unused_weights(params, reached.epoch)
            save_model(model, trainer.evaluated, metadata, params.stored_precision)
            write_json(metrics / "environment.json", {**metadata.versions, **resolved, "threads": torch.get_num_threads()})
            check_curves(metrics, reached.history)
    best = reached.history[reached.best_epoch - 1]
    shown = ", ".join(f"{name.split('/')[1]} {value:.3f}" for name, value in best.items() if name.startswith("validation/"))
    return (
        f"train: {len(rows):,} faces per epoch, {many(reached.epoch, 'epoch')} on {device.type} from {trainer.started_from}; best is epoch "
        f"{reached.best_epoch}, on {len(validation):,} validation faces {shown}{params.scaled_rate}"
        f"{soft.summary(torch.from_numpy(rows)) if soft else ''}{collapse_summary(reached.history)}"
    )


def _refuse_own_teacher(params: TrainParams, model: Path) -> None:
    """Errors: UserError when a teacher is the file that training writes: DVC removes it before the stage runs."""
    if any(Path(file).absolute() == model.absolute() for file in params.teacher):
        raise UserError(
            f"train.teacher: {model}: is the file that train writes, and DVC removes it first; fetch it by `dvc checkout {model}`, copy it "
            "elsewhere, and name the copy"
        )


def _log_recipe(params: TrainParams) -> None:
    """One line per param whose effect may surprise."""
    frozen = params.model.freeze_epochs
    if params.scaled_rate:
        print(f"train: {params.epochs} epochs{params.scaled_rate}", file=sys.stderr)
    if frozen >= params.epochs:
        print(f"train: only the head learns, for models.<name>.freeze_epochs is {frozen}", file=sys.stderr)
    if frozen and params.model.weights == "none":
        epochs = many(min(frozen, params.epochs), "epoch")
        print(f"train: random weights stay fixed for {epochs}; set models.<name>.freeze_epochs to 0, or weights", file=sys.stderr)


def _log_emulation(precision: str, device: torch.device) -> None:
    if precision == "bfloat16" and not has_bfloat16(device):
        print(
            f"train.precision: bfloat16, for which this {device.type} has no instructions: it is emulated, and took 12 times as long as "
            "float32 on a processor with AVX2; choose auto or float32",
            file=sys.stderr,
        )


def _log_skew(params: TrainParams, mass: torch.Tensor) -> None:
    """mass: (k,) shares of the expressions in the targets of the first epoch."""
    if len(mass) and params.loss.needs_balance and mass.max() > MOST_SKEW * mass.min():
        hard = "" if params.targets == "hard" else ", and train.targets=hard, for soft targets keep the skew of the data"
        print(
            f"train.sampler: {params.sampler}: the targets hold {float(mass.max() / mass.min()):.0f} times as much of one expression as of "
            f"another, for which loss {params.loss.function} does not correct enough; choose balanced{hard}",
            file=sys.stderr,
        )


def _log_unused_weights(params: TrainParams, epochs: int) -> None:
    """epochs: how many the training had, which may be fewer than `params.epochs`."""
    first = params.loss.first_weighted_epoch(params.epochs)
    if params.loss.takes_class_weights and first >= epochs:
        print(
            f"train: loss {params.loss.function}: the class weights count from epoch {first + 1} on, and training ended after "
            f"{many(epochs, 'epoch')}, so they had no part in it",
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


if __name__ == "__main__":
    launch(run)
