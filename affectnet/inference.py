"""Predictions of a trained network, batched, without gradients."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from affectnet.preprocessing import normalised

BATCH = 256


@dataclass(frozen=True)
class Outputs:
    """logits (n, k) float32 of the k expressions; affect (n, 2) float32, valence and arousal in −1 … 1; (n, 0) where not learned."""

    logits: torch.Tensor
    affect: torch.Tensor


@torch.inference_mode()
def predict(
    network: nn.Module,
    images: torch.Tensor,
    device: torch.device,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    flip: bool = False,
) -> Outputs:
    """Outputs on the CPU for (n, px, px, 3) uint8 images on any device, the network in evaluation mode.

    flip: the mean of the outputs for each image and its mirror image.
    """
    network.eval()
    parts = []
    for batch in torch.split(images, BATCH):
        pixels = normalised(batch.to(device), mean, std)
        outputs = network(pixels).float()
        parts.append((outputs + network(pixels.flip(3)).float()) / 2 if flip else outputs)
    joined = torch.cat(parts).cpu()
    return Outputs(joined[:, :classes], joined[:, classes:].clamp(-1, 1))
