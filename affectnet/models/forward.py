"""Predictions of a trained network, batched, without gradients."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from torch import nn

from affectnet.errors import UserError
from affectnet.models.torchvision_lazy import InterpolationMode, functional
from affectnet.models.transforms import normalised

BATCH = 256

Averaging = Literal["none", "flip", "ten_crop"]
"""Of which views of a face the outputs are averaged: of itself; of it and its mirror image; of ten parts of it, as `_ten_crop`."""

CROP_SHARE = 7 / 8
"""Side of such a part by that of the face: 224 of 256 px (Krizhevsky et al. 2012, section 4.1)."""


@dataclass(frozen=True)
class Outputs:
    """logits (n, k) float32 of the k expressions; affect (n, 2) float32, valence and arousal in −1 … 1; (n, 0) where not learned."""

    logits: torch.Tensor
    affect: torch.Tensor

    def require_finite(self, model: Path | str) -> "Outputs":
        """Itself. Errors: UserError, with the model's name, when an output is no finite number."""
        broken = int((~torch.cat([self.logits, self.affect], 1).isfinite()).any(1).sum())
        if broken:
            raise UserError(f"{model}: its outputs are no finite numbers for {broken:,} of {len(self.logits):,} faces; train another")
        return self


@torch.inference_mode()
def predict(
    network: nn.Module,
    images: torch.Tensor,
    device: torch.device,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    averaging: Averaging = "none",
    batch: int = BATCH,
) -> Outputs:
    """Outputs on the CPU for (n, px, px, 3) uint8 images on any device, the network in evaluation mode.

    averaging: the mean of the outputs, before softmax, over these views of each image; batch: images of which the network
    sees one view at a time.
    """
    network.eval()
    views = VIEWS[averaging]
    parts = []
    for some in torch.split(images, batch):
        outputs = [network(view).float() for view in views(normalised(some.to(device), mean, std))]
        parts.append(sum(outputs[1:], outputs[0]) / len(outputs))
    joined = torch.cat(parts).cpu()
    return Outputs(joined[:, :classes], joined[:, classes:].clamp(-1, 1))


def _alone(pixels: torch.Tensor) -> Iterator[torch.Tensor]:
    yield pixels


def _flip(pixels: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from (pixels, pixels.flip(3))


def _ten_crop(pixels: torch.Tensor) -> Iterator[torch.Tensor]:
    """Four corners and the centre, each CROP_SHARE of a side, and their mirror images, resized to the network's input."""
    side = pixels.shape[-1]
    for part in functional.ten_crop(pixels, [round(CROP_SHARE * side)] * 2):
        yield functional.resize(part, [side, side], InterpolationMode.BICUBIC, antialias=True)


VIEWS: Final[dict[Averaging, Callable[[torch.Tensor], Iterator[torch.Tensor]]]] = {"none": _alone, "flip": _flip, "ten_crop": _ten_crop}
