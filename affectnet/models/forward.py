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
"""Views of a face whose outputs are averaged: the face; the face and its mirror image; ten parts of it, see `_ten_crop`."""

CROP_SHARE = 7 / 8
"""Side of a part in `ten_crop`, as a share of the face's side: 224 of 256 px (Krizhevsky et al. 2012, section 4.1)."""


@dataclass(frozen=True)
class Outputs:
    """logits (n, k) float32 of the k expressions; affect (n, 2) float32, valence and arousal in −1 … 1, or (n, 0)."""

    logits: torch.Tensor
    affect: torch.Tensor

    def require_finite(self, model: Path | str) -> "Outputs":
        """Returns itself. Errors: UserError, with the model's name, when an output is NaN or inf."""
        broken = int((~torch.cat([self.logits, self.affect], 1).isfinite()).any(1).sum())
        if broken:
            raise UserError(f"{model}: outputs are NaN or inf for {broken:,} of {len(self.logits):,} faces; train another model")
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

    averaging: outputs are averaged, before softmax, over these views of each image; batch: images per pass, one view at a time.
    """
    network.eval()
    views = VIEWS[averaging]
    means = []
    for part in torch.split(images, batch):
        outputs = [network(view).float() for view in views(normalised(part.to(device), mean, std))]
        means.append(sum(outputs[1:], outputs[0]) / len(outputs))
    joined = torch.cat(means).cpu()
    return Outputs(joined[:, :classes], joined[:, classes:].clamp(-1, 1))


def _as_is(pixels: torch.Tensor) -> Iterator[torch.Tensor]:
    yield pixels


def _flip(pixels: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from (pixels, pixels.flip(3))


def _ten_crop(pixels: torch.Tensor) -> Iterator[torch.Tensor]:
    """Four corners and the centre, each CROP_SHARE of a side, and their mirror images, resized to the network's input."""
    side = pixels.shape[-1]
    for part in functional.ten_crop(pixels, [round(CROP_SHARE * side)] * 2):
        yield functional.resize(part, [side, side], InterpolationMode.BICUBIC, antialias=True)


VIEWS: Final[dict[Averaging, Callable[[torch.Tensor], Iterator[torch.Tensor]]]] = {"none": _as_is, "flip": _flip, "ten_crop": _ten_crop}
