"""What the network sees: training and evaluation transforms side by side, batched, on the device."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

Augmentation = Literal["none", "flip", "standard"]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Per-channel mean and deviation of ImageNet in 0–1, as torchvision's weights were trained with."""


@dataclass(frozen=True)
class Strength:
    """How far a random transform goes: rotation in degrees, shift and erasing as shares of the side, the rest as factors ±."""

    flip: bool
    degrees: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    colour: float = 0.0
    erase: float = 0.0


PRESETS: dict[str, Strength] = {
    "none": Strength(flip=False),
    "flip": Strength(flip=True),
    "standard": Strength(flip=True, degrees=10, shift=0.06, scale=0.1, colour=0.25, erase=0.25),
}


def normalised(images: torch.Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> torch.Tensor:
    """(n, h, w, 3) uint8 → (n, 3, h, w) float32 with channels last in memory, in 0–1, minus mean, by std."""
    channels = images.permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return (channels - channels.new_tensor(mean).view(shape)) / channels.new_tensor(std).view(shape)


class Augment:
    """Random transforms of a batch, drawn anew for each image of it.

    torchvision.transforms.v2 draws once a call, so that a whole batch would turn by the same angle (torchvision 0.29);
    here each image has its own draw, in one pass over the batch. The draws come from the given generator on the CPU, so
    they are the same on every device.
    """

    def __init__(self, preset: Augmentation, generator: torch.Generator) -> None:
        self.strength, self.generator = PRESETS[preset], generator

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) float32, normalised → the same shape. Colours outside an image's own frame repeat its edge."""
        strength, count = self.strength, len(images)
        if strength.flip:
            images = torch.where(self._draw(count, images)[:, None, None, None] < 0.5, images.flip(3), images)
        if strength.degrees or strength.shift or strength.scale:
            images = self._affine(images)
        if strength.colour:
            images = self._colour(images)
        if strength.erase:
            images = self._erase(images)
        return images

    def _draw(self, count: int, like: torch.Tensor, reach: float | None = None) -> torch.Tensor:
        """Uniform draws in 0–1, or in ±reach."""
        draw = torch.rand(count, generator=self.generator)
        return (draw if reach is None else (2 * draw - 1) * reach).to(like.device, non_blocking=True)

    def _affine(self, images: torch.Tensor) -> torch.Tensor:
        count, s = len(images), self.strength
        angle = self._draw(count, images, math.radians(s.degrees))
        scale = 1 + self._draw(count, images, s.scale)
        cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
        shift_x, shift_y = self._draw(count, images, 2 * s.shift), self._draw(count, images, 2 * s.shift)
        theta = torch.stack([torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)], 1)
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return moved.contiguous(memory_format=torch.channels_last)

    def _colour(self, images: torch.Tensor) -> torch.Tensor:
        """Contrast about each image's own mean, then brightness in units of its deviation."""
        count, reach = len(images), self.strength.colour
        mean = images.mean((1, 2, 3), keepdim=True)
        contrast = 1 + self._draw(count, images, reach).view(-1, 1, 1, 1)
        return (images - mean) * contrast + mean + self._draw(count, images, reach).view(-1, 1, 1, 1)

    def _erase(self, images: torch.Tensor) -> torch.Tensor:
        """A rectangle of up to `erase` of each side set to 0, in half of the images (Zhong et al. 2020)."""
        count, _, height, width = images.shape
        hit = self._draw(count, images) < 0.5
        mask = hit[:, None, None]
        for extent, view in ((height, (1, -1, 1)), (width, (1, 1, -1))):
            length = self._draw(count, images) * self.strength.erase * extent
            first = self._draw(count, images) * (extent - length)
            at = torch.arange(extent, device=images.device).view(view)
            mask = mask & (at >= first[:, None, None]) & (at < (first + length)[:, None, None])
        return images.masked_fill(mask[:, None], 0.0)
