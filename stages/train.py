"""Trains the network on the training split and keeps the epoch that is best on our own validation split.

On the demo (vgg16_small, 64 px, 30 epochs) about two minutes on two cores. The test split is never opened here.
"""

import copy
import math
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
import torchvision
from dvclive.live import Live
from pydantic import Field
from torch import nn

from affectnet.atomic import write_json
from affectnet.dataset import Faces, fingerprint, load_faces
from affectnet.device import choose
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.faces import read_policy, shard_paths
from affectnet.inference import logits
from affectnet.launch import launch
from affectnet.losses import Loss, LossParams, build_loss
from affectnet.modelfile import Card, save_model
from affectnet.network import ModelParams, build, head_name, start, trunk_parameters
from affectnet.optimizers import OptimizerParams, ScheduleParams, build_optimizer, learning_rate_factor
from affectnet.params import Runtime, Section
from affectnet.plan import CLASS_WEIGHTS, PLAN
from affectnet.preprocessing import MEAN, STD, Augment, Augmentation, normalised
from affectnet.progress import progress
from affectnet.resume import TrainingState, resume_key, training_state
from affectnet.scores import confusion_matrix, scores


class TrainParams(Section):
    """Section `train`, and the selected model, optimiser, loss and task."""

    task: Literal["expression"]
    model: ModelParams
    optimizer: OptimizerParams
    loss: LossParams
    seed: int = Field(ge=0)
    epochs: int = Field(ge=1)
    batch: int = Field(ge=2)
    patience: int = Field(ge=1)
    augmentation: Augmentation
    precision: Literal["float32", "bfloat16"]
    schedule: ScheduleParams


@dataclass
class Progress:
    """How far a training has come: epochs done, their metrics, and the best epoch's weights and score."""

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -1.0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Targets:
    """The classes that the network learns: codes in the order of its outputs, and their class weights."""

    codes: torch.Tensor
    weights: torch.Tensor

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(EXPRESSIONS[code] for code in self.codes.tolist())

    def index(self, expression: torch.Tensor) -> torch.Tensor:
        """Codes → positions among the outputs; −100, which the loss ignores, for an expression that is not learned."""
        lookup = torch.full((len(EXPRESSIONS),), -100)
        lookup[self.codes] = torch.arange(len(self.codes))
        return lookup[expression]


def learned(class_weights: pa.Table) -> Targets:
    """The expressions that the plan shows at least once. Errors: UserError when there are fewer than two."""
    shown = np.flatnonzero(class_weights["planned"].to_numpy() > 0)
    if len(shown) < 2:
        raise UserError(f"data/class_weights.parquet: the plan shows {len(shown)} expression, training needs two or more")
    return Targets(torch.from_numpy(shown), torch.from_numpy(class_weights["weight"].to_numpy()[shown].astype(np.float32)))


def steps_of_epoch(rows: np.ndarray, batch: int, seed: int, epoch: int) -> list[torch.Tensor]:
    """The plan's rows in this epoch's own random order, in batches that differ by one at most, so that none is tiny."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return [torch.from_numpy(part) for part in np.array_split(order, math.ceil(len(order) / batch))]


class Trainer:
    """One training: the network, its optimiser, and an epoch of each kind."""

    def __init__(self, params: TrainParams, device: torch.device, targets: Targets, rows: np.ndarray) -> None:
        self.params, self.device, self.targets, self.rows = params, device, targets, rows
        torch.manual_seed(params.seed)
        network = build(params.model, len(targets.codes))
        start(network, params.model)
        self.network: nn.Module = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(params.optimizer, self.network.parameters(), device)
        self.loss: Loss = build_loss(params.loss, targets.weights.to(device))

    def autocast(self) -> AbstractContextManager[Any]:
        half = self.params.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()

    def train_epoch(self, faces: Faces, epoch: int) -> float:
        """Mean loss of the epoch. All randomness comes from (seed, epoch), so that a resumed training draws the same."""
        params = self.params
        torch.manual_seed(int(np.random.SeedSequence([params.seed, epoch]).generate_state(1)[0]))
        augment = Augment(params.augmentation, torch.Generator().manual_seed(params.seed * 1_000_003 + epoch))
        self._freeze(epoch < params.model.freeze_epochs)
        steps = steps_of_epoch(self.rows, params.batch, params.seed, epoch)
        losses = torch.empty(len(steps), device=self.device)
        index = self.targets.index(faces.expression)
        for step, batch in enumerate(progress(steps, f"epoch {epoch + 1}", unit="step")):
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate(epoch + step / len(steps))
            images = augment(normalised(faces.images[batch].to(self.device, non_blocking=True)))
            with self.autocast():
                loss = self.loss(self.network(images), index[batch].to(self.device, non_blocking=True))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses[step] = loss.detach()
        self._refuse_nan(losses, epoch)
        sizes = torch.tensor([len(batch) for batch in steps], dtype=torch.float32, device=self.device)
        return float((losses * sizes).sum() / sizes.sum())

    def validate(self, faces: Faces) -> dict[str, float]:
        """Loss, accuracy and macro-F1 on our validation split, over the expressions learned or present."""
        outputs = logits(self.network, faces.images, self.device, MEAN, STD)
        index = self.targets.index(faces.expression)
        loss = float(self.loss(outputs.to(self.device), index.to(self.device)))
        predicted = self.targets.codes[outputs.argmax(1)].numpy()
        confusion = confusion_matrix(faces.expression.numpy(), predicted, len(EXPRESSIONS))
        seen = np.union1d(self.targets.codes.numpy(), faces.expression.numpy())
        found = scores(confusion[np.ix_(seen, seen)])
        return {"validation/loss": loss, "validation/accuracy": float(found.accuracy), "validation/macro_f1": float(found.macro_f1)}

    def _freeze(self, frozen: bool) -> None:
        """Head only, the trunk's batch statistics included, or all layers."""
        self.network.train(not frozen)
        self.network.get_submodule(head_name(self.network)).train()
        for parameter in trunk_parameters(self.network):
            parameter.requires_grad_(not frozen)

    def _learning_rate(self, epoch: float) -> float:
        return self.params.optimizer.lr * learning_rate_factor(self.params.schedule, epoch, self.params.epochs)

    def _refuse_nan(self, losses: torch.Tensor, epoch: int) -> None:
        broken = torch.nonzero(~torch.isfinite(losses)).flatten().tolist()
        if broken:
            rate = self._learning_rate(epoch + broken[0] / len(losses))
            raise UserError(
                f"stages.train: the loss is no number at epoch {epoch + 1}, step {broken[0] + 1}, learning rate {rate:.3g}; "
                "lower optimizers.<name>.lr"
            )


def fit(trainer: Trainer, train: Faces, validation: Faces, state: TrainingState, log: Callable[[dict[str, float]], None]) -> Progress:
    """Trains until the last epoch, or until `patience` epochs in a row were no better; the first of equal epochs is the best."""
    reached = _resumed(trainer, state.load())
    for metrics in reached.history:
        log(metrics)
    while reached.epoch < trainer.params.epochs and reached.epoch - reached.best_epoch < trainer.params.patience:
        metrics = {"train/loss": trainer.train_epoch(train, reached.epoch), **trainer.validate(validation)}
        metrics["learning_rate"] = trainer.optimizer.param_groups[0]["lr"]
        reached.epoch += 1
        reached.history.append(metrics)
        if metrics["validation/macro_f1"] > reached.best_score:
            reached.best_epoch, reached.best_score = reached.epoch, metrics["validation/macro_f1"]
            reached.best_weights = copy.deepcopy(trainer.network.state_dict())
        state.save({"network": trainer.network.state_dict(), "optimizer": trainer.optimizer.state_dict(), "progress": asdict(reached)})
        log(metrics)
    trainer.network.load_state_dict(reached.best_weights)
    return reached


def _resumed(trainer: Trainer, saved: dict[str, Any] | None) -> Progress:
    if saved is None:
        return Progress()
    trainer.network.load_state_dict(saved["network"])
    trainer.optimizer.load_state_dict(saved["optimizer"])
    return Progress(**saved["progress"])


def run(params: TrainParams, runtime: Runtime, faces: Path, plan: Path, class_weights: Path, *, model: Path, metrics: Path) -> str:
    """Trains and writes the model file and DVCLive's folder; returns the summary line."""
    device = choose(runtime.device)
    torch.use_deterministic_algorithms(device.type == "cpu")
    targets = learned(CLASS_WEIGHTS.read(class_weights))
    planned = PLAN.read(plan)
    rows = np.repeat(planned["row"].to_numpy(), planned["repeats"].to_numpy()).astype(np.int64)
    train, validation = (load_faces(faces, split, params.model.image_px, runtime.workers) for split in ("train", "validation"))
    shards = [*shard_paths(faces, "train"), *shard_paths(faces, "validation")]
    key = resume_key({**params.model_dump(), "device": device.type}, [*shards, plan, class_weights])
    with (
        training_state(key) as state,
        Live(str(metrics), dvcyaml=None, save_dvc_exp=False, report=None) as live,
    ):

        def log(values: dict[str, float]) -> None:
            for name, value in values.items():
                live.log_metric(name, value)
            live.next_step()

        trainer = Trainer(params, device, targets, rows)
        reached = fit(trainer, train, validation, state, log)
        card = _card(params, targets, faces, reached)
        save_model(model, trainer.network, card)
        write_json(metrics / "environment.json", {**card.versions, "device": device.type, "threads": torch.get_num_threads()})
    best = reached.history[reached.best_epoch - 1]
    return (
        f"train: {len(rows):,} faces an epoch, {reached.epoch} epochs on {device.type}; best is epoch {reached.best_epoch}, "
        f"validation macro-F1 {best['validation/macro_f1']:.3f}, accuracy {best['validation/accuracy']:.3f} on {len(validation):,} faces"
    )


def _card(params: TrainParams, targets: Targets, faces: Path, reached: Progress) -> Card:
    return Card(
        model={**params.model.model_dump(), "weights": "none", "freeze_epochs": 0},
        labels=targets.labels,
        image_px=params.model.image_px,
        mean=MEAN,
        std=STD,
        crop=read_policy(faces),
        data=fingerprint(shard_paths(faces, "train")),
        training={
            "params": params.model_dump(),
            "epoch": reached.best_epoch,
            "epochs": reached.epoch,
            **reached.history[reached.best_epoch - 1],
        },
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
    )


if __name__ == "__main__":
    launch(run)
