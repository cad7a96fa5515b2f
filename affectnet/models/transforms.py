"""How images enter a network: normalised, and grey for a model that never saw colour; batched, on the device."""

from collections.abc import Sequence

import torch
from torch import nn

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet per channel in 0–1, which torchvision's weights were trained with."""

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey: ITU-R BT.601, as in Pillow."""

GREY_BATCH = 1024
"""Images per step of `all_grey`."""


def normalised(images: torch.Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> torch.Tensor:
    """(n, h, w, 3) uint8 → (n, 3, h, w) float32 with channels last in memory: in 0–1, minus mean, divided by std."""
    channels = images.permute(0, 3, 1, 2).float()
    deviation = 255 * channels.new_tensor(std).view(1, 3, 1, 1)
    return channels.sub_(255 * channels.new_tensor(mean).view(1, 3, 1, 1)).div_(deviation)


def all_grey(images: torch.Tensor) -> bool:
    """Whether all of (n, h, w, 3) uint8 images are grey."""
    return all(bool((part[..., :1] == part[..., 1:]).all()) for part in torch.split(images, GREY_BATCH))


class Grey(nn.Module):
    """(n, 3, h, w) float, normalised → the same images in grey, normalised by the same values."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std), ("luma", LUMA)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grey = (self.luma * (images * self.std + self.mean)).sum(1, keepdim=True)  # type: ignore[operator]
        return (grey - self.mean) / self.std  # type: ignore[operator]
