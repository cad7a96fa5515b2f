"""Mirroring, rotation, scale and shift, sampled once."""

import math

import torch
from pydantic import Field
from torch.nn import functional

from affectnet.training.augmentation.augment import TRANSFORMS, AugmentationParams, ImageTransform
from affectnet.training.augmentation.draws import Draws


class AffineParams(AugmentationParams):
    """flip: share of the images that are mirrored; degrees, shift (in sides of the image) and scale: the largest, either way."""

    flip: float = Field(default=0.0, ge=0, le=1)
    degrees: float = Field(default=0.0, ge=0, le=180)
    shift: float = Field(default=0.0, ge=0, le=1)
    scale: float = Field(default=0.0, ge=0, lt=1)


@TRANSFORMS("affine", AffineParams)
class Affine(ImageTransform):
    """Mirrors an image or not, then turns, scales and shifts it. Beyond an image's own frame its edge is repeated."""

    params: AffineParams

    @property
    def _moves(self) -> bool:
        return bool(self.params.degrees or self.params.shift or self.params.scale)

    @property
    def active(self) -> bool:
        return bool(self.params.flip) or self._moves

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        params = self.params
        height, width = images.shape[2:]
        mirror = torch.where(draws.uniform() < params.flip, -1.0, 1.0)
        if not self._moves:
            return torch.where(mirror[:, None, None, None] < 0, images.flip(3), images)
        angle = draws.uniform(math.radians(params.degrees))
        scale = 1 + draws.uniform(params.scale)
        cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
        shift_x, shift_y = draws.uniform(2 * params.shift), draws.uniform(2 * params.shift)
        x, y = (2 * (torch.arange(side, device=images.device) + 0.5) / side - 1 for side in (width, height))
        # functional.affine_grid, as the sum of a term per column and a term per row: its matrix product takes ten times as long.
        along_x = torch.stack([mirror * cos, sin], 1)[:, None, None] * x[:, None]
        along_y = torch.stack([mirror * -sin, cos], 1)[:, None, None] * y[:, None, None]
        grid = along_x + (along_y + torch.stack([mirror * shift_x, shift_y], 1)[:, None, None])
        moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return moved.contiguous(memory_format=torch.channels_last)
