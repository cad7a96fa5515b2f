"""Predictions of a trained network, batched, without gradients."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import torch
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from affectnet.models.outputs import BATCH, CROP_SHARE, Averaging, Outputs
from affectnet.models.transforms import normalised


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
        outputs = [_clipped(network(normalised(view, mean, std)).float(), classes) for view in views(part.to(device))]
        means.append(sum(outputs[1:], outputs[0]) / len(outputs))
    joined = torch.cat(means).cpu()
    return Outputs(joined[:, :classes].numpy(), joined[:, classes:].numpy())


def _clipped(outputs: torch.Tensor, classes: int) -> torch.Tensor:
    """Valence and arousal, the columns after the expressions, in −1 … 1: of each view, as an ONNX file clips them."""
    return torch.cat([outputs[:, :classes], outputs[:, classes:].clamp(-1, 1)], 1)


def _as_is(images: torch.Tensor) -> Iterator[torch.Tensor]:
    yield images


def _flip(images: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from (images, images.flip(2))


def _ten_crop(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """Four corners and the centre, each CROP_SHARE of a side, and their mirror images, resized to the network's input.

    They are resized before they are normalised, as an ONNX file does, so that both engines round alike.
    """
    side = images.shape[1]
    for part in functional.ten_crop(images.permute(0, 3, 1, 2), [round(CROP_SHARE * side)] * 2):
        yield functional.resize(part, [side, side], InterpolationMode.BICUBIC, antialias=True).permute(0, 2, 3, 1)


VIEWS: Final[dict[Averaging, Callable[[torch.Tensor], Iterator[torch.Tensor]]]] = {"none": _as_is, "flip": _flip, "ten_crop": _ten_crop}
