"""Random erasing."""

import torch
from pydantic import Field

from affectnet.training.augmentation.augment import TRANSFORMS, AugmentationParams, ImageTransform
from affectnet.training.augmentation.draws import Draws


class ErasingParams(AugmentationParams):
    """erase: longest side of the erased rectangle, in sides of the image; erase_share: share of the images that have one."""

    erase: float = Field(default=0.0, ge=0, le=1)
    erase_share: float = Field(default=0.5, ge=0, le=1)


@TRANSFORMS("erasing", ErasingParams)
class Erasing(ImageTransform):
    """Sets a rectangle of up to `erase` of each side to 0, the mean colour (Zhong et al. 2020)."""

    params: ErasingParams

    @property
    def active(self) -> bool:
        return bool(self.params.erase)

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        height, width = images.shape[2:]
        erased = draws.uniform() < self.params.erase_share
        mask = erased[:, None, None]
        for extent, view in ((height, (1, -1, 1)), (width, (1, 1, -1))):
            length = draws.uniform() * self.params.erase * extent
            first = draws.uniform() * (extent - length)
            position = torch.arange(extent, device=images.device).view(view)
            mask = mask & (position >= first[:, None, None]) & (position < (first + length)[:, None, None])
        return images.masked_fill_(mask[:, None], 0.0)
