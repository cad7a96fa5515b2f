"""The recipe of a training: its params, the checks and values that depend on several of them, and its seeds."""

from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from affectnet.models.backbones.registry import ModelParams
from affectnet.models.outputs import Averaging
from affectnet.params import Section
from affectnet.running.provenance import Files
from affectnet.training.augmentation.augment import AllTransforms, Augment, AugmentationParams
from affectnet.training.losses.expression_loss import LOSSES, LossParams
from affectnet.training.optimizers import OPTIMIZERS, OptimizerParams, ScheduleParams
from affectnet.training.samplers import SAMPLERS
from affectnet.training.tasks import TaskParams

Use = Literal["weights", "order", "dropout", "augmentation", "loss"]
"""What a training draws random numbers for."""


def seed_of(seed: int, use: Use, epoch: int = 0) -> int:
    """The seed of one use in one epoch, below 2⁶³. No two uses share a stream of random numbers; a resumed epoch draws the same again."""
    words = np.random.SeedSequence([seed, get_args(Use).index(use), epoch])
    return int(words.generate_state(1, np.uint64)[0] >> np.uint64(1))


class TrainerParams(Section):
    """The params that an epoch depends on: of section `train`, and the selected entries of the catalogues."""

    task: TaskParams
    model: SerializeAsAny[ModelParams]
    optimizer: Annotated[OptimizerParams, OPTIMIZERS, Field(discriminator="algorithm")]
    loss: Annotated[LossParams, LOSSES, Field(discriminator="function")]
    targets: Literal["hard", "soft", "mixed"]
    target_share: float = Field(ge=0, le=1)
    teacher: Files
    teacher_averaging: Averaging
    teacher_temperature: float = Field(gt=0, le=100)
    seed: int = Field(ge=0)
    epochs: int = Field(ge=1)
    batch: int = Field(ge=2)
    accumulate: int = Field(ge=1)
    sampler: Annotated[str, SAMPLERS]
    augmentation: Annotated[AugmentationParams, AllTransforms()]
    precision: Literal["auto", "float32", "bfloat16"]
    clip_norm: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    schedule: ScheduleParams

    @field_validator("loss")
    @classmethod
    def _bounded_for_learned_weights(cls, loss: LossParams, others: ValidationInfo) -> LossParams:
        """Errors: ValueError when the weights of the tasks are learned, and the loss can be negative."""
        if loss.can_be_negative and getattr(others.data.get("task"), "weighting", None) == "uncertainty":
            problem = (
                "loss {loss} can be negative, for which tasks.both.weighting uncertainty would learn a weight without end; choose fixed"
            )
            raise PydanticCustomError("no_bound", problem, {"loss": loss.function})
        return loss

    @field_validator("targets")
    @classmethod
    def _soft_where_the_loss_takes_them(cls, targets: str, others: ValidationInfo) -> str:
        """Errors: ValueError when targets are soft and the task has no expressions, or the loss is defined only for one label."""
        task, loss = others.data.get("task"), others.data.get("loss")
        if targets != "hard" and task and not task.expressions:
            raise PydanticCustomError("no_expressions", "the task has no expressions; choose hard, or another task")
        if targets != "hard" and loss and not loss.takes_soft_targets:
            problem = "loss {loss} is defined for one label per face; choose hard, or another loss"
            raise PydanticCustomError("one_label", problem, {"loss": loss.function})
        return targets

    @field_validator("teacher")
    @classmethod
    def _teacher_that_is_heard(cls, teacher: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        """Errors: ValueError when the targets are hard, so that the teacher would have no part in the training."""
        if teacher and others.data.get("targets") == "hard":
            raise PydanticCustomError("unused", "has no part in hard targets; set train.targets to soft or mixed, or this to null")
        return teacher

    @field_validator("augmentation")
    @classmethod
    def _whole_faces_for_what_is_kept(cls, augmentation: AugmentationParams, others: ValidationInfo) -> AugmentationParams:
        """Errors: ValueError when the loss keeps something per face, and the images are mixtures of faces."""
        loss = others.data.get("loss")
        if loss and loss.keeps_faces and Augment(augmentation).mixes:
            problem = (
                "loss {loss} keeps an average per face, which mixed images do not have; choose an augmentation without mixup and cutmix"
            )
            raise PydanticCustomError("mixed", problem, {"loss": loss.function})
        return augmentation

    @field_validator("sampler")
    @classmethod
    def _counts_rare_expressions_once(cls, sampler: str, others: ValidationInfo) -> str:
        """Errors: ValueError when the sampler and the class weights would both make the rare expressions count more."""
        task, loss = others.data.get("task"), others.data.get("loss")
        if task and loss and task.expressions and loss.takes_class_weights and not SAMPLERS[sampler].keeps_plan:
            raise PydanticCustomError(
                "counts_twice", "with the class weights of the loss the rare expressions count twice; choose plan, or loss plain"
            )
        return sampler

    @field_validator("epochs", "batch", mode="before")
    @classmethod
    def _as_the_model_has_it(cls, value: Any, others: ValidationInfo) -> Any:
        """`null` means the value of the model's entry; an invalid entry has an error of its own, with any valid value here."""
        model, name = others.data.get("model"), str(others.field_name)
        if value is not None:
            return value
        return getattr(model, name) if model else 2

    @property
    def soft_share(self) -> float:
        """The share of the soft targets in the targets."""
        return {"hard": 0.0, "soft": 1.0, "mixed": self.target_share}[self.targets]

    @property
    def scaled_optimizer(self) -> OptimizerParams:
        """The optimiser's entry, multiplied by the factors of the model's entry, its rate also in proportion to the batch."""
        lr = self.optimizer.lr * self.model.lr_factor * self._batch_factor
        layer_decay = self.optimizer.layer_decay * self.model.layer_decay
        return self.optimizer.model_copy(update={"lr": lr, "layer_decay": layer_decay})

    @property
    def _batch_factor(self) -> float:
        reference = self.optimizer.reference_batch
        return self.batch / reference if reference else 1.0

    @property
    def scaled_rate(self) -> str:
        """The part of the summary line about the learning rate where it is not that of the optimiser's entry; else empty."""
        if self.model.lr_factor == self._batch_factor == 1:
            return ""
        product = f"optimizers.<name>.lr {self.optimizer.lr:g} × models.<name>.lr_factor {self.model.lr_factor:g}"
        if self._batch_factor != 1:
            product += f" × batch {self.batch} / reference_batch {self.optimizer.reference_batch}"
        return f"; learning rate {self.scaled_optimizer.lr:g} at most, {product}"
