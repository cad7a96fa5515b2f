"""Mixup and CutMix."""

import math

import torch
from pydantic import Field

from affectnet.training.augmentation.augment import TRANSFORMS, AugmentationParams, MixTransform
from affectnet.training.augmentation.draws import Draws


class MixingParams(AugmentationParams):
    """α of the Beta(α, α) that the share of the image itself is drawn from, in mixup and in CutMix; 0 is without it."""

    mixup_alpha: float = Field(default=0.0, ge=0)
    cutmix_alpha: float = Field(default=0.0, ge=0)


@TRANSFORMS("mixing", MixingParams)
class Mixing(MixTransform):
    """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019); where both are on, one or the other for each batch."""

    params: MixingParams

    @property
    def active(self) -> bool:
        return bool(self.params.mixup_alpha or self.params.cutmix_alpha)

    def __call__(self, images: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        partner = draws.partners().to(draws.device, non_blocking=True)
        use_mixup = draws.one() < 0.5 if self.params.mixup_alpha and self.params.cutmix_alpha else bool(self.params.mixup_alpha)
        mixed, kept = (self._mixup if use_mixup else self._cutmix)(images, partner, draws)
        return mixed, partner, torch.full((len(images),), kept, device=draws.device)

    def _mixup(self, images: torch.Tensor, partner: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, float]:
        """Each image's pixels and its partner's, averaged by a drawn share."""
        kept = draws.beta(self.params.mixup_alpha)
        return torch.lerp(images[partner], images, kept), kept

    def _cutmix(self, images: torch.Tensor, partner: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, float]:
        """A rectangle of the partner's pixels in each image; its share is that of the area that stays."""
        height, width = images.shape[2:]
        side = math.sqrt(1 - draws.beta(self.params.cutmix_alpha))
        top, bottom = _span(height, draws.one(), side)
        left, right = _span(width, draws.one(), side)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _span(extent: int, centre: float, side: float) -> tuple[int, int]:
    """First pixel, and the one after the last, of a length about a centre, both as shares of the extent."""
    return max(round(extent * (centre - side / 2)), 0), min(round(extent * (centre + side / 2)), extent)
