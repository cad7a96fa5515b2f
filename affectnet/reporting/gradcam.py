"""Grad-CAM: where in a face a network looked for its answer (Selvaraju et al. 2017), for any backbone of `models`.

On the processor the same faces give the same maps; on a GPU they would differ by rounding.
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

MOST_PREFIXES = 8
"""Tokens before those of the patches: of the class, of a distilling teacher, registers."""


@dataclass(frozen=True)
class Place:
    """A module whose output is a map over the face, `side` × `side` places."""

    name: str
    side: int


def places(output: torch.Tensor) -> torch.Tensor | None:
    """The output as (n, channels, side, side), or None when it is no map of at least two places a side.

    Read as maps: (n, c, s, s); (n, s, s, c), as Swin has them; (n, p + s·s, c), the tokens of a transformer with p others before.
    """
    if output.dim() == 4 and output.shape[2] == output.shape[3] > 1:
        return output
    if output.dim() == 4 and output.shape[1] == output.shape[2] > 1:
        return output.permute(0, 3, 1, 2)
    if output.dim() == 3:
        side = math.isqrt(output.shape[1])
        if side > 1 and output.shape[1] - side * side <= MOST_PREFIXES:
            return output[:, -side * side :].transpose(1, 2).reshape(len(output), -1, side, side)
    return None


def find_place(network: nn.Module, image_px: int) -> Place | None:
    """The last map that a layer with weights has a part in and that the answer depends on in more than one place, or None.

    So VGG's last convolution after its ReLU, before it is pooled; ResNet's last block; the patches' tokens as they enter the last
    attention of a transformer that answers from its class token: behind it they decide nothing any more, their gradient is zero.
    """
    noise = torch.rand(1, 3, image_px, image_px, generator=torch.Generator().manual_seed(0))
    order: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def remember(name: str, output: torch.Tensor) -> None:
        found = places(output)
        if output.shape[0] == 1 and output.requires_grad and found is not None:
            output.retain_grad()
            order.append((name, output, found))

    with _watched(network, [name for name, _ in network.named_modules() if name], remember), torch.enable_grad():
        network.eval()(noise.requires_grad_()).square().sum().backward()
    deciding = [(name, found.shape[-1]) for name, output, found in order if _deciding(output) > 1]
    own = [at for at, (name, _) in enumerate(deciding) if _has_weights(network.get_submodule(name))]
    if not own:
        return None
    last = own[-1]
    while last + 1 < len(deciding) and deciding[last + 1][1] == deciding[own[-1]][1]:
        last += 1
    return Place(*deciding[last])


def maps(
    network: nn.Module, place: Place, images: torch.Tensor, answers: Sequence[int], mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """(n, px, px) float32 in 0–1, 1 where it mattered most for the output `answers[i]`, 0 where nothing spoke for it.

    images: (n, px, px, 3) uint8. One face at a time, so that a face's map does not depend on its neighbours.
    """
    return torch.stack([_map(network, place, image[None], answer, mean, std) for image, answer in zip(images, answers, strict=True)])


def _map(network: nn.Module, place: Place, image: torch.Tensor, answer: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    kept: list[torch.Tensor] = []

    def keep(_: str, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    with _watched(network, [place.name], keep), torch.enable_grad():
        network.eval()(normalised(image, mean, std).requires_grad_())[0, answer].backward()
    output = kept[-1]
    values, gradients = (places(tensor) for tensor in (output.detach(), output.grad if output.grad is not None else output.detach() * 0))
    assert values is not None and gradients is not None  # `find_place` found it
    weighted = (values * gradients.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    weighted = weighted / weighted.max().clamp_min(torch.finfo(weighted.dtype).tiny)
    return functional.interpolate(weighted, size=image.shape[1:3], mode="bilinear", align_corners=False)[0, 0]


@contextmanager
def _watched(network: nn.Module, names: Sequence[str], see: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Within the block `see` is called with each output of these modules, and no weight gathers a gradient."""
    handles: list[RemovableHandle] = []
    wanted = {parameter: parameter.requires_grad for parameter in network.parameters()}

    def hook(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda _module, _given, output: see(name, output) if isinstance(output, torch.Tensor) else None

    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        handles += [network.get_submodule(name).register_forward_hook(hook(name)) for name in names]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, before in wanted.items():
            parameter.requires_grad_(before)


def _deciding(output: torch.Tensor) -> int:
    """In how many places of the map a change would change the answer."""
    gradient = places(output.grad) if output.grad is not None else None
    return 0 if gradient is None else int(gradient.abs().sum(1).count_nonzero())


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
