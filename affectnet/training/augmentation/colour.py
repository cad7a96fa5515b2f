"""Contrast and brightness."""

import torch
from pydantic import Field

from affectnet.training.augmentation.augment import TRANSFORMS, AugmentationParams, ImageTransform
from affectnet.training.augmentation.draws import Draws


class ColourParams(AugmentationParams):
    """colour: largest change, either way, of the contrast as a factor and of the brightness in deviations of normalised pixels."""

    colour: float = Field(default=0.0, ge=0, lt=1)


@TRANSFORMS("colour", ColourParams)
class Colour(ImageTransform):
    """Contrast about each image's own mean, then brightness in units of its deviation."""

    params: ColourParams

    @property
    def active(self) -> bool:
        return bool(self.params.colour)

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        mean = images.mean((1, 2, 3), keepdim=True)
        contrast, brightness = (draws.uniform(self.params.colour).view(-1, 1, 1, 1) for _ in range(2))
        return images.mul_(1 + contrast).add_(brightness - mean * contrast)
