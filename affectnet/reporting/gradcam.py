"""Grad-CAM: which parts of a face a prediction rests on (Selvaraju et al. 2017), for any backbone of `models`.

On the CPU the same faces give the same maps; on a GPU they would differ by rounding.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from affectnet.models.transforms import normalised

MOST_PREFIX_TOKENS = 8
"""Tokens before those of the patches: class, distillation, registers."""


@dataclass(frozen=True)
class Layer:
    """A module whose output is a feature map of `side` × `side` positions over the face."""

    name: str
    side: int


def feature_map(output: torch.Tensor) -> torch.Tensor | None:
    """The output as (n, channels, side, side), or None when it is not a map of at least 2 × 2 positions.

    Maps are (n, c, s, s); (n, s, s, c), as Swin has them; (n, p + s·s, c), the tokens of a transformer after p others.
    """
    if output.dim() == 4 and output.shape[2] == output.shape[3] > 1:
        return output
    if output.dim() == 4 and output.shape[1] == output.shape[2] > 1:
        return output.permute(0, 3, 1, 2)
    if output.dim() == 3:
        side = math.isqrt(output.shape[1])
        if side > 1 and output.shape[1] - side * side <= MOST_PREFIX_TOKENS:
            return output[:, -side * side :].transpose(1, 2).reshape(len(output), -1, side, side)
    return None


def find_layer(network: nn.Module, image_px: int) -> Layer | None:
    """The deepest spatial feature map of a parametric layer whose gradient is non-zero at more than one position, or None.

    In VGG this is the last convolution after its ReLU, before pooling; in ResNet the last block; in a transformer that classifies from its
    class token the patch tokens that enter the last attention: after it their gradient is zero.
    """
    noise = torch.rand(1, 3, image_px, image_px, generator=torch.Generator().manual_seed(0))
    outputs: list[tuple[str, torch.Tensor, int]] = []

    def record(name: str, output: torch.Tensor) -> None:
        features = feature_map(output)
        if output.shape[0] == 1 and output.requires_grad and features is not None:
            output.retain_grad()
            outputs.append((name, output, features.shape[-1]))

    with _watched(network, [name for name, _ in network.named_modules() if name], record), torch.enable_grad():
        network.eval()(noise.requires_grad_()).square().sum().backward()
    used = [(name, side) for name, output, side in outputs if _positions_used(output) > 1]
    parametric = [index for index, (name, _) in enumerate(used) if _has_weights(network.get_submodule(name))]
    if not parametric:
        return None
    last, side = parametric[-1], used[parametric[-1]][1]
    while last + 1 < len(used) and used[last + 1][1] == side:  # the activation after it
        last += 1
    return Layer(*used[last])


def heat_maps(
    network: nn.Module, layer: Layer, images: torch.Tensor, outputs: Sequence[int], mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """(n, px, px) float32 in 0–1: 1 where face i supports `outputs[i]` most, 0 where it does not.

    images: (n, px, px, 3) uint8. One face at a time, so that a face's map does not depend on its neighbours.
    """
    return torch.stack([_heat_map(network, layer, image[None], output, mean, std) for image, output in zip(images, outputs, strict=True)])


def _heat_map(
    network: nn.Module, layer: Layer, image: torch.Tensor, column: int, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    kept: list[torch.Tensor] = []

    def keep(_: str, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    with _watched(network, [layer.name], keep), torch.enable_grad():
        network.eval()(normalised(image, mean, std).requires_grad_())[0, column].backward()
    output = kept[-1]
    gradient = torch.zeros_like(output) if output.grad is None else output.grad
    values, gradients = feature_map(output.detach()), feature_map(gradient)
    assert values is not None and gradients is not None  # `find_layer` chose it
    weighted = (values * gradients.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    weighted = weighted / weighted.max().clamp_min(torch.finfo(weighted.dtype).tiny)
    return functional.interpolate(weighted, size=image.shape[1:3], mode="bilinear", align_corners=False)[0, 0]


@contextmanager
def _watched(network: nn.Module, names: Sequence[str], see: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Within the block `see` is called with each output of these modules, and weights get no gradient."""
    handles: list[RemovableHandle] = []
    required = {parameter: parameter.requires_grad for parameter in network.parameters()}

    def hook(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda _module, _inputs, output: see(name, output) if isinstance(output, torch.Tensor) else None

    try:
        for parameter in required:
            parameter.requires_grad_(False)
        handles += [network.get_submodule(name).register_forward_hook(hook(name)) for name in names]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, before in required.items():
            parameter.requires_grad_(before)


def _positions_used(output: torch.Tensor) -> int:
    """The number of positions of the map with a non-zero gradient."""
    gradient = feature_map(output.grad) if output.grad is not None else None
    return 0 if gradient is None else int(gradient.abs().sum(1).count_nonzero())


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
