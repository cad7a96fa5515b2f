"""RandAugment."""

import torch
from pydantic import Field
from torchvision.transforms import v2

from affectnet.training.augmentation.augment import TRANSFORMS, AugmentationParams, ByteTransform
from affectnet.training.augmentation.draws import Draws

IMAGES_PER_DRAW = 4
"""v2 draws once per call, and a call per image costs three times as much (measured, 64 px)."""


class RandAugmentParams(AugmentationParams):
    """operations: how many per image; magnitude: of RandAugment's 31 steps, by default 9, as in the recipe of FMAE."""

    operations: int = Field(default=0, ge=0, le=14)
    magnitude: int = Field(default=9, ge=0, le=30)


@TRANSFORMS("rand_augment", RandAugmentParams)
class RandAugment(ByteTransform):
    """RandAugment of torchvision (Cubuk et al. 2020), with one draw per `IMAGES_PER_DRAW` images."""

    params: RandAugmentParams

    @property
    def active(self) -> bool:
        return bool(self.params.operations)

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        bilinear = v2.InterpolationMode.BILINEAR
        transform = v2.RandAugment(self.params.operations, self.params.magnitude, interpolation=bilinear, fill=128)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draws.seed())  # torch.manual_seed would seed the GPU's generator, too
            groups = [transform(group) for group in torch.split(images.permute(0, 3, 1, 2), IMAGES_PER_DRAW)]
        return torch.cat(groups).permute(0, 2, 3, 1)
