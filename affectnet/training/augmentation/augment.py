"""Augmentation: the transforms that an entry of `augmentations` turns on, in order, and their registry."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from affectnet.models.transforms import MEAN, STD, normalised
from affectnet.params import Section
from affectnet.training.augmentation.draws import Draws
from affectnet.training.registry import Registry
from affectnet.training.targets import Targets


class AugmentationParams(Section):
    """The fields of one transform, each with a default that turns it off. An entry of `augmentations` has the fields of all."""


class Transform:
    """A random transform of a batch, with a draw of its own for each image.

    torchvision.transforms.v2 draws once per call, so that a whole batch would turn by the same angle (torchvision 0.29).
    """

    def __init__(self, params: Any) -> None:
        self.params = params

    @property
    def active(self) -> bool:
        """Whether the params turn it on; if not, it draws nothing."""
        raise NotImplementedError


class ByteTransform(Transform):
    """Runs first, on the images as bytes."""

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        """(n, h, w, 3) uint8 → the same."""
        raise NotImplementedError


class ImageTransform(Transform):
    """Runs on normalised images."""

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        """(n, 3, h, w) float32, normalised → the same; it may change them in place."""
        raise NotImplementedError


class MixTransform(Transform):
    """Runs last, and mixes images with each other."""

    def __call__(self, images: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(n, 3, h, w) float32 → mixed images, the partner of each (n,), and the share of itself that each has kept (n,)."""
        raise NotImplementedError


TRANSFORMS: Registry[type[Transform]] = Registry(package=__package__)
"""A transform is a subclass of one of the three kinds, with the class of its params; it stands in a file of this folder."""


def params_class() -> type[AugmentationParams]:
    """The class of an entry of `augmentations`: the fields of all transforms."""
    return create_model("AugmentationParams", __base__=tuple(TRANSFORMS.params_of(name) for name in sorted(TRANSFORMS)))


class AllTransforms:
    """As an annotation, `Annotated[AugmentationParams, AllTransforms()]`, it checks an entry of `augmentations`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(params_class())


class Augment:
    """The transforms that the params turn on: first on bytes, then on normalised images, then mixing; by name within a kind."""

    def __init__(self, params: AugmentationParams, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> None:
        self.mean, self.std = mean, std
        transforms = [TRANSFORMS[name](params) for name in sorted(TRANSFORMS)]
        self.transforms = [transform for transform in transforms if transform.active]

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with each other."""
        return any(isinstance(transform, MixTransform) for transform in self.transforms)

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        """(n, h, w, 3) uint8 → (n, 3, h, w) float32, normalised."""
        for transform in self.transforms:
            if isinstance(transform, ByteTransform):
                images = transform(images, draws)
        images = normalised(images, self.mean, self.std)
        for transform in self.transforms:
            if isinstance(transform, ImageTransform):
                images = transform(images, draws)
        return images

    def mixed(self, images: torch.Tensor, targets: Targets, draws: Draws) -> tuple[torch.Tensor, Targets]:
        """Mixed images, and their targets mixed by the same shares."""
        for transform in self.transforms:
            if isinstance(transform, MixTransform):
                images, partner, kept = transform(images, draws)
                targets = targets.mixed(targets[partner], kept)
        return images, targets
