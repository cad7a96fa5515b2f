"""Predictions of a trained network, batched, without gradients."""

import torch
from torch import nn

from affectnet.preprocessing import normalised

BATCH = 256


@torch.inference_mode()
def logits(network: nn.Module, images: torch.Tensor, device: torch.device, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """(n, px, px, 3) uint8 on any device → (n, k) float32 logits on the CPU, the network in evaluation mode."""
    network.eval()
    parts = [network(normalised(batch.to(device), mean, std)).float() for batch in torch.split(images, BATCH)]
    return torch.cat(parts).cpu()
