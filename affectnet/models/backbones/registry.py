"""The registry of backbones: what a family of networks offers, and the family of an architecture that params.yaml names."""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from torch import nn

from affectnet.errors import brief
from affectnet.models.layers import last_linear
from affectnet.models.transforms import MEAN, STD
from affectnet.params import Section

Pixel = tuple[float, float, float]

TRAINING = frozenset({"weights", "freeze_epochs", "lr_factor", "layer_decay", "epochs", "batch"})
"""Settings of an entry that say how its network is trained. No model file holds them."""


class ModelParams(Section):
    """One entry of `models`: the settings that every backbone has. A family's class adds its own; see params.yaml for their meaning.

    An entry states what differs from the defaults here. Validating this class gives the class of the architecture's family.
    """

    architecture: str
    image_px: int = Field(ge=32, le=1024)
    dropout: float = Field(ge=0, lt=1)
    weights: str = Field("none", min_length=1)
    freeze_epochs: int = Field(0, ge=0)
    lr_factor: float = Field(1.0, gt=0, le=10)
    layer_decay: float = Field(1.0, gt=0, le=1)
    epochs: int = Field(ge=1)
    batch: int = Field(64, ge=2)

    @model_validator(mode="wrap")
    @classmethod
    def _by_family(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        architecture = values.get("architecture") if isinstance(values, dict) else None
        if cls is not ModelParams or not isinstance(architecture, str):
            return validate(values)
        backbone = _find(architecture)
        if backbone is None:
            problem = PydanticCustomError("architecture", "{reason}", {"reason": _unknown(architecture)})
            raise ValidationError.from_exception_data("architecture", [{"type": problem, "loc": ("architecture",), "input": architecture}])
        entry: Self = backbone.Params.model_validate(values)
        return entry

    @property
    def network(self) -> dict[str, Any]:
        """The settings of the network, which a model file keeps."""
        return self.model_dump(exclude=set(TRAINING))


P = TypeVar("P", bound=ModelParams)


class Backbone(ABC, Generic[P]):
    """A family of networks. Adding one is one file in this room with such a class, decorated with `@register`.

    Params: the class of its entries under `models`. examples: entries with small networks, which the tests build, train, store and
    export.
    """

    Params: type[P]
    examples: ClassVar[tuple[Mapping[str, Any], ...]]

    @abstractmethod
    def has(self, architecture: str) -> bool:
        """Whether the architecture is of this family; no other family may have it, too."""

    @abstractmethod
    def build(self, params: P, outputs: int) -> nn.Module:
        """The network, its weights drawn from torch's global generator: (n, 3, image_px, image_px) float32 → (n, outputs).

        Its last layer is linear, with dropout before it. Errors: UserError when the settings do not go together.
        """

    @abstractmethod
    def layers(self, network: nn.Module) -> list[list[nn.Parameter]]:
        """The parameters by layer, from input to head, each once: the steps of `layer_decay`."""

    def head(self, network: nn.Module) -> str:
        """Name of the module that holds the head: what `freeze_epochs` trains, and start weights leave as drawn."""
        return last_linear(network)[0].split(".")[0]

    def pixel_statistics(self, network: nn.Module) -> tuple[Pixel, Pixel]:
        """Mean and standard deviation per channel that the input is normalised by, RGB in 0–1: ImageNet's unless the family has others."""
        return MEAN, STD

    def published_names(self, params: P) -> tuple[str, ...]:
        """The published start weights of the architecture, as `weights` of its entry names them."""
        return ()

    def published_weights(self, params: P) -> tuple[Any, str]:
        """The state dict of the published weights `params.weights`, downloaded once, and its SHA-256. Errors: UserError."""
        raise NotImplementedError


BACKBONES: list[Backbone[Any]] = []
"""Filled by `register`; read it through `backbones`, which imports every family first."""

AnyBackbone = TypeVar("AnyBackbone", bound=type[Backbone[Any]])


def register(family: AnyBackbone) -> AnyBackbone:
    """A decorator that adds a family to the registry."""
    BACKBONES.append(family())
    return family


@cache
def backbones() -> tuple[Backbone[Any], ...]:
    """Every family, by the name of its file."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], "affectnet.models.backbones."):
        import_module(module.name)
    return tuple(sorted(BACKBONES, key=lambda backbone: type(backbone).__module__))


def backbone_of(architecture: str) -> Backbone[Any]:
    """The family that the architecture of a validated entry belongs to."""
    backbone = _find(architecture)
    if backbone is None:
        raise ValueError(_unknown(architecture))
    return backbone


def _find(architecture: str) -> Backbone[Any] | None:
    families = [backbone for backbone in backbones() if backbone.has(architecture)]
    if len(families) > 1:
        raise ValueError(f"{architecture} is claimed by {' and '.join(type(family).__module__ for family in families)}")
    return families[0] if families else None


def _unknown(architecture: str) -> str:
    examples = sorted({entry["architecture"] for backbone in backbones() for entry in backbone.examples})
    return (
        f"no backbone {brief(architecture)}; choose a classifier of torchvision, timm/<name>, or for example one of {', '.join(examples)}"
    )
