"""Training, one epoch at a time: a plain loop, whose switches are all resolved before it starts."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from affectnet.errors import UserError
from affectnet.metrics.calibration import fit_temperature
from affectnet.metrics.classification import scores_of_codes
from affectnet.metrics.regression import DIMENSIONS, affect_scores
from affectnet.models.backbones.registry import backbone_of
from affectnet.models.dataset import FaceDataset
from affectnet.models.device import select_precision
from affectnet.models.forward import predict
from affectnet.models.layers import trunk_parameters
from affectnet.models.network import build
from affectnet.models.outputs import Outputs
from affectnet.models.start_weights import load_start_weights
from affectnet.models.transforms import normalised
from affectnet.running.progress import progress
from affectnet.training.augmentation.augment import Augment
from affectnet.training.distributed import Group
from affectnet.training.loader import Loader, MicroBatch
from affectnet.training.losses.expression_loss import Classes, EpochStart, ExpressionLoss, LossParams, TrainingView, build_loss
from affectnet.training.optimizers import build_optimizer, learning_rate_factor, refuse_other_optimizers, set_learning_rate
from affectnet.training.passes import backward
from affectnet.training.recipe import TrainerParams, seed_of
from affectnet.training.samplers import SAMPLERS, batches
from affectnet.training.targets import TargetMass, Targets, joined, refuse_without_affect, softened
from affectnet.training.tasks import TaskParams, build_objective

Metrics = dict[str, float]

ANSWERED = "answered_expressions"
"""Metric of an epoch: how many expressions the network predicts on our validation split."""


def learned_classes(class_weights: pa.Table, task: TaskParams) -> Classes:
    """The expressions that the plan shows at least once; none for valence and arousal only.

    Errors: UserError when there are fewer than two.
    """
    planned = class_weights["planned"].to_numpy()
    codes = np.flatnonzero(planned > 0) if task.expressions else np.empty(0, np.int64)
    if task.expressions and len(codes) < 2:
        raise UserError(f"data/class_weights.parquet: the plan shows {len(codes)} expression, training needs two or more")
    weights = class_weights["weight"].to_numpy()[codes].astype(np.float32)
    return Classes(torch.from_numpy(codes), torch.from_numpy(weights), torch.from_numpy(planned[codes].astype(np.int64)))


def targets_of(faces: FaceDataset, classes: Classes) -> Targets:
    """The hard targets of each face; a face whose expression is not learned does not count for the expressions."""
    one_hot = (faces.expression[:, None] == classes.codes).float()
    return Targets(one_hot, torch.stack([faces.valence, faces.arousal], 1))


def training_targets(params: TrainerParams, faces: FaceDataset, classes: Classes, soft: torch.Tensor | None) -> Targets:
    """The targets of each training face. soft: (n, k) soft labels, of which each target has the share `params.soft_share`."""
    targets = targets_of(faces, classes)
    expression = targets.expression if soft is None else softened(targets.expression, soft, params.soft_share)
    return Targets(expression, targets.affect, torch.arange(len(faces)) if params.loss.keeps_faces else None)


def with_mass(classes: Classes, mass: TargetMass) -> Classes:
    """The classes with the mass that each has in the targets of the plan, in place of its labels, and class weights in proportion.

    Soft targets give rare expressions more mass than labels do. A loss that corrected only for the labels would have the network answer the
    rarest for the faces of the others.
    """
    counts = classes.plan_counts.double()
    counted = counts.sum() * mass.drawn(counts / counts.sum())
    return replace(classes, weights=(classes.weights * counts / counted.clamp_min(1e-12)).float(), plan_counts=counted)


class Trainer:
    """One training: the network, its optimiser, and one epoch at a time. Every switch is resolved here, once.

    rows: of the plan, repeats included; soft: (n, k) soft labels of the training faces. `evaluated` is the network whose outputs are
    scored and whose weights are kept: the moving average where there is one.
    """

    def __init__(
        self,
        params: TrainerParams,
        group: Group,
        classes: Classes,
        rows: np.ndarray,
        faces: FaceDataset,
        validation: FaceDataset,
        soft: torch.Tensor | None = None,
    ) -> None:
        self.params, self.classes, self.rows = params, classes, rows
        self.names = tuple(faces.labels[code] for code in classes.codes.tolist())
        self.group, self.device = group, group.device
        self.labels = faces.expression.numpy()[rows]
        self.validation = validation
        self.precision = select_precision(params.precision, group.device)
        targets = training_targets(params, faces, classes, soft)
        self.mass = TargetMass.of(targets_of(faces, classes).expression, soft, params.soft_share)
        self.validation_targets = targets_of(validation, classes)
        if params.task.affect:
            refuse_without_affect(train=targets, validation=self.validation_targets)
        group.refuse_small_steps(len(rows), params.batch)
        torch.manual_seed(seed_of(params.seed, "weights"))
        network = build(params.model, len(classes) + len(DIMENSIONS) * params.task.affect)
        self.started_from = load_start_weights(network, params.model)
        backbone = backbone_of(params.model.architecture)
        self.head = backbone.head(network)
        self.mean, self.std = backbone.pixel_statistics(network)
        self.loader = Loader(faces.images, targets, Augment(params.augmentation, self.mean, self.std), group)
        self.network: nn.Module = group.synchronised(network).to(group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.wrapped, self.trainable = self.network, [False]
        unused = LossParams(function="plain")  # of a task without expressions
        counted = classes if soft is None else with_mass(classes, self.mass)
        self.loss = build_loss(params.loss, counted) if len(classes) else ExpressionLoss(unused, classes)
        self.objective = build_objective(params.task, self.loss).to(group.device)
        self.optimizer = build_optimizer(params.scaled_optimizer, self.network, self.objective.parameters(), backbone.layers(self.network))
        self.clip = partial(nn.utils.clip_grad_norm_, max_norm=params.clip_norm) if params.clip_norm else lambda _: None
        self.averaged = self._averaged() if params.ema else None
        self.evaluated: nn.Module = self.network if self.averaged is None else self.averaged.module
        self.loss.attach(self._view())
        self.sampler = SAMPLERS[params.sampler]()

    def train_epoch(self, epoch: int) -> float:
        """Mean loss of the epoch. All randomness comes from (seed, epoch), so that a resumed training draws the same."""
        steps, generator = self._start_epoch(epoch)
        divided = [torch.tensor_split(rows, self._micro_batches(len(rows))) for rows in steps]
        loaded = self.loader.load([rows for step in divided for rows in step], generator)
        losses = torch.empty(len(steps), device=self.device)
        for step, of_step in enumerate(progress(divided, f"epoch {epoch + 1}", unit="step")):
            set_learning_rate(self.optimizer, self._learning_rate(epoch + step / len(steps)))
            micro_batches = list(islice(loaded, len(of_step)))
            losses[step] = self.optimizer.step(partial(self._gradients, micro_batches))  # type: ignore[arg-type]
            if self.averaged is not None:
                self.averaged.update_parameters(self.network)
            self.loss.after_step([one.targets for one in micro_batches])
        if all(self.trainable):
            self.loader.move_to_device()
        self.group.average_statistics(self.network, self.evaluated)
        self._refuse_nan(losses, epoch)
        faces = torch.tensor([len(rows) for rows in steps], dtype=torch.float32, device=self.device)
        return float((losses * faces).sum() / faces.sum())

    def _micro_batches(self, faces: int) -> int:
        """Number of micro-batches of a step: batch normalisation needs two faces of each process in each of them."""
        return max(1, min(self.params.accumulate, faces // (2 * self.group.count)))

    def _gradients(self, micro_batches: list[MicroBatch]) -> torch.Tensor:
        """Leaves the gradient of the step's loss in the parameters, and returns that loss."""
        self.optimizer.zero_grad()
        exchange = partial(self.group.gradient_exchange, self.wrapped)
        loss = backward(micro_batches, self._outputs, partial(self._loss, micro_batches), self.network, exchange)
        self.clip(self.network.parameters())
        return loss

    def _outputs(self, micro_batch: MicroBatch) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            outputs = self.loss.outputs(self.wrapped, micro_batch.images)
        return outputs.float()

    def _loss(self, micro_batches: list[MicroBatch], outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The loss over all faces of the step, of all processes."""
        gathered = [self.group.gather_outputs(of_one, one.targets, one.faces) for of_one, one in zip(outputs, micro_batches, strict=True)]
        loss: torch.Tensor = self.objective(
            torch.cat([all_outputs for all_outputs, _ in gathered]), joined([targets for _, targets in gathered])
        )
        return loss

    def validate(self) -> tuple[Metrics, torch.Tensor]:
        """Loss and scores on our validation split, over the expressions that are learned or present, and the (k,) recalls, or NaN."""
        outputs = self.predict()
        columns = torch.from_numpy(np.concatenate([outputs.logits, outputs.affect], 1)).to(self.device)
        with torch.no_grad():
            metrics = {"validation/loss": float(self.objective(columns, self.validation_targets.to(self.device)))}
        recall = torch.empty(0)
        if len(self.classes):
            of_expressions, recall = self._expression_metrics(outputs.logits)
            metrics |= of_expressions
        for column, name in enumerate(DIMENSIONS if outputs.affect.shape[1] else ()):
            true, predicted = self.validation_targets.affect[:, column], outputs.affect[:, column]
            annotated = true.isfinite().numpy()
            metrics[f"validation/{name}_ccc"] = float(affect_scores(true.numpy()[annotated], predicted[annotated]).ccc)
        return metrics, recall

    def _expression_metrics(self, logits: NDArray[np.float32]) -> tuple[Metrics, torch.Tensor]:
        codes, true = self.classes.codes.numpy(), self.validation.expression.numpy()
        predicted = codes[logits.argmax(1)]
        scored, recall = scores_of_codes(true, predicted, codes)
        recall = np.where(np.isin(codes, true), recall, np.nan)
        metrics = {
            "validation/accuracy": float(scored.accuracy),
            "validation/macro_f1": float(scored.macro_f1),
            ANSWERED: float(len(np.unique(predicted))),
        }
        return metrics, torch.from_numpy(recall).float()

    def predict(self) -> Outputs:
        """The outputs for our validation split, of which each process predicts its rows."""
        faces = len(self.validation)
        images = self.validation.images[self.group.own_rows(faces)]
        outputs = predict(self.evaluated, images, self.device, len(self.classes), self.mean, self.std)
        logits, affect = (self.group.gather(torch.from_numpy(rows), faces).numpy() for rows in (outputs.logits, outputs.affect))
        return Outputs(logits, affect)

    def temperature(self) -> float:
        """Fitted on our validation split; 1 without expressions."""
        labelled = self.validation_targets.expression.sum(1) > 0
        if not len(self.classes) or not labelled.any():
            return 1.0
        codes = self.validation_targets.expression[labelled].argmax(1)
        return fit_temperature(self.predict().logits[labelled.numpy()], codes.numpy())

    def loss_weights(self) -> Metrics:
        """The weights of the expressions and of the tasks in force, by name."""
        by_class = {f"loss_weight/{name}": value for name, value in zip(self.names, self.loss.weight.tolist(), strict=True)}
        return {**by_class, **{f"task_weight/{name}": value for name, value in self.objective.task_weights().items()}}

    def state(self) -> dict[str, Any]:
        """The state of all that an epoch changes."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
        }
        return state if self.averaged is None else {**state, "averaged": self.averaged.state_dict()}

    def resume(self, state: dict[str, Any]) -> None:
        """Restores a `state`. Errors: those of torch for another network's state, and ValueError for another optimiser's."""
        self.network.load_state_dict(state["network"])
        refuse_other_optimizers(self.optimizer, state["optimizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    def drawn_mass(self, done: float) -> torch.Tensor:
        """(k,) shares of the expressions in the targets of an epoch, after the share `done` of the training."""
        counts = self.classes.plan_counts.numpy()
        return self.mass.drawn(torch.from_numpy(self.sampler.shares(counts / counts.sum(), done)))

    def _start_epoch(self, epoch: int) -> tuple[list[torch.Tensor], torch.Generator]:
        """The rows of each step, and the generator of the augmentation."""
        params = self.params
        torch.manual_seed(seed_of(params.seed, "dropout", epoch) + self.group.rank)
        self._freeze(epoch < params.model.freeze_epochs)
        done = epoch / max(params.epochs - 1, 1)
        self.loss.start_epoch(EpochStart(epoch, params.epochs, self.drawn_mass(done), seed_of(params.seed, "loss", epoch)))
        order = self.sampler.order(self.rows, self.labels, done, np.random.default_rng(seed_of(params.seed, "order", epoch)))
        return batches(order, params.batch), torch.Generator().manual_seed(seed_of(params.seed, "augmentation", epoch))

    def _averaged(self) -> AveragedModel:
        """The exponential moving average of weights and batch statistics, which is evaluated in place of the network."""
        decay = get_ema_multi_avg_fn(self.params.ema)  # type: ignore[no-untyped-call]
        return AveragedModel(self.network, multi_avg_fn=decay, use_buffers=True)

    def _view(self) -> TrainingView:
        def images(rows: torch.Tensor) -> torch.Tensor:
            return normalised(self.validation.images[rows].to(self.device), self.mean, self.std)

        faces = len(self.loader.images)
        return TrainingView(self.network, images, self.validation_targets.expression, self.group, self.params.accumulate, faces)

    def _freeze(self, frozen: bool) -> None:
        """Lets only the head learn, with the trunk's batch statistics fixed, or all layers."""
        self.network.train(not frozen)
        self.network.get_submodule(self.head).train()
        for parameter in trunk_parameters(self.network, self.head):
            parameter.requires_grad_(not frozen)
        trainable = [parameter.requires_grad for parameter in self.network.parameters()]
        if trainable != self.trainable:
            self.wrapped, self.trainable = self.group.wrap(self.network), trainable

    def learning_rate(self) -> float:
        """The rate of the last step, of the top layers."""
        return float(self.optimizer.param_groups[0]["lr"])

    def _learning_rate(self, epoch: float) -> float:
        return self.params.scaled_optimizer.lr * learning_rate_factor(self.params.schedule, epoch, self.params.epochs)

    def _refuse_nan(self, losses: torch.Tensor, epoch: int) -> None:
        not_finite = torch.nonzero(~torch.isfinite(losses)).flatten().tolist()
        if not_finite:
            first = not_finite[0]
            rate = self._learning_rate(epoch + first / len(losses))
            raise UserError(
                f"stages.train: the loss is NaN or infinite at epoch {epoch + 1}, step {first + 1}, learning rate {rate:.3g}; "
                "lower optimizers.<name>.lr"
            )
