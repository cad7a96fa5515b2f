"""The recipe of a training: its params, the checks and values that depend on several of them, and its seeds."""

from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from affectnet.models.backbones.registry import ModelParams
from affectnet.params import Section
from affectnet.training.augmentation.augment import AllTransforms, AugmentationParams
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

    @field_validator("epochs", mode="before")
    @classmethod
    def _epochs_of_the_model(cls, epochs: Any, others: ValidationInfo) -> Any:
        """`epochs: null` means those of the model's entry; an invalid entry has an error of its own."""
        model = others.data.get("model")
        if epochs is not None:
            return epochs
        return model.epochs if model else 1

    @property
    def scaled_optimizer(self) -> OptimizerParams:
        """The optimiser's entry, multiplied by the factors of the model's entry."""
        lr, layer_decay = self.optimizer.lr * self.model.lr_factor, self.optimizer.layer_decay * self.model.layer_decay
        return self.optimizer.model_copy(update={"lr": lr, "layer_decay": layer_decay})

    @property
    def scaled_rate(self) -> str:
        """The part of the summary line about the learning rate where the model's entry lowers it; else empty."""
        if self.model.lr_factor == 1:
            return ""
        product = f"optimizers.<name>.lr {self.optimizer.lr:g} × models.<name>.lr_factor {self.model.lr_factor:g}"
        return f"; learning rate {self.scaled_optimizer.lr:g} at most, {product}"
