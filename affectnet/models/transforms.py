"""What the network sees: training and evaluation transforms side by side, batched, on the device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from affectnet.models.torchvision_lazy import v2

Augmentation = Literal["none", "flip", "standard", "wide", "strong"]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Per-channel mean and deviation of ImageNet in 0–1, as torchvision's weights were trained with."""

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey: ITU-R BT.601, as in Pillow's."""
AT_ONCE = 1024
"""Images that are looked at together for their colour."""


@dataclass(frozen=True)
class Strength:
    """How far a random transform goes: rotation in degrees, shift and erasing as shares of the side, the rest as factors ±.

    operations: RandAugment's per image; mix: mixup or CutMix, one or the other for each batch.
    """

    flip: bool
    degrees: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    colour: float = 0.0
    erase: float = 0.0
    operations: int = 0
    mix: bool = False


PRESETS: dict[str, Strength] = {
    "none": Strength(flip=False),
    "flip": Strength(flip=True),
    "standard": Strength(flip=True, degrees=10, shift=0.06, scale=0.1, colour=0.25, erase=0.25),
    "wide": Strength(flip=True, degrees=15, shift=0.12, scale=0.2, colour=0.4, erase=0.35),
    "strong": Strength(flip=True, shift=0.06, scale=0.1, erase=0.25, operations=2, mix=True),
}

GROUP = 4
"""Images that share one draw of RandAugment: v2 draws once a call, and a call an image costs three times as much (measured, 64 px)."""
MAGNITUDE = 9
"""Of RandAugment's 31 steps, as in the recipe of FMAE."""
MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0
"""Of the Beta distributions of the shares (Zhang et al. 2018; Yun et al. 2019)."""


def normalised(images: torch.Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> torch.Tensor:
    """(n, h, w, 3) uint8 → (n, 3, h, w) float32 with channels last in memory, in 0–1, minus mean, by std."""
    channels = images.permute(0, 3, 1, 2).float()
    deviation = 255 * channels.new_tensor(std).view(1, 3, 1, 1)
    return channels.sub_(255 * channels.new_tensor(mean).view(1, 3, 1, 1)).div_(deviation)


def without_colour(images: torch.Tensor) -> bool:
    """Whether every one of (n, h, w, 3) uint8 images is grey; the first that is not ends the search."""
    return all(bool((part[..., :1] == part[..., 1:]).all()) for part in torch.split(images, AT_ONCE))


class Grey(nn.Module):
    """(n, 3, h, w) float, normalised → the same images without their colour, normalised as before."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std), ("luma", LUMA)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grey = (self.luma * (images * self.std + self.mean)).sum(1, keepdim=True)  # type: ignore[operator]
        return (grey - self.mean) / self.std  # type: ignore[operator]


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch of `faces`, of which the images at hand are the rows `share`.

    They come from the generator, on the processor, and are the same on every device and however a batch is shared out, but for
    RandAugment's groups and the partners of `mixing`, which stay within the share.
    """

    generator: torch.Generator
    device: torch.device
    faces: int
    share: slice

    def uniform(self, reach: float | None = None) -> torch.Tensor:
        """One draw for each image at hand, in 0–1, or in ±reach."""
        draw = torch.rand(self.faces, generator=self.generator)[self.share]
        return (draw if reach is None else (2 * draw - 1) * reach).to(self.device, non_blocking=True)

    def one(self) -> float:
        """A draw in 0–1 for the batch."""
        return float(torch.rand((), generator=self.generator))

    def beta(self, alpha: float) -> float:
        """A draw of Beta(α, α) for the batch: one Gamma draw by the sum of two."""
        gammas = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=self.generator)
        return float(gammas[0] / gammas.sum().clamp_min(1e-300))

    def seed(self) -> int:
        """For torch's own generator on the processor, another one for each share."""
        return int(torch.randint(2**62, (), generator=self.generator) + self.share.start)

    def partners(self) -> torch.Tensor:
        """Each image's partner, another one for each, among the images at hand: for a whole batch, a permutation of it."""
        return torch.randperm(self.faces, generator=self.generator)[self.share].argsort().argsort()


class Augment:
    """Random transforms of a batch, drawn anew for each image of it.

    torchvision.transforms.v2 draws once a call, so that a whole batch would turn by the same angle (torchvision 0.29);
    here each image has its own draw, in one pass over the batch.
    """

    def __init__(self, preset: Augmentation, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> None:
        self.strength, self.mean, self.std = PRESETS[preset], mean, std

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        """(n, h, w, 3) uint8 → (n, 3, h, w) float32, normalised. Beyond an image's own frame its edge is repeated."""
        strength = self.strength
        if strength.operations:
            images = self._rand_augment(images, draws)
        images = normalised(images, self.mean, self.std)
        if strength.flip or strength.degrees or strength.shift or strength.scale:
            images = self._affine(images, draws)
        if strength.colour:
            images = self._colour(images, draws)
        if strength.erase:
            images = self._erase(images, draws)
        return images

    def mixing(self, images: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mixed images, the partner of each (n,) and each image's own share (n,); unmixed: itself, and 1.

        Mixup adds a partner's pixels by a share drawn from Beta; CutMix sets a rectangle of the partner's into the image,
        and the share is that of the area that stays. Targets are mixed by the same shares: `Targets.mixed`.
        """
        count, _, height, width = images.shape
        if not self.strength.mix:
            return images, torch.arange(count, device=draws.device), torch.ones(count, device=draws.device)
        partner = draws.partners().to(draws.device, non_blocking=True)
        if draws.one() < 0.5:
            share = draws.beta(MIXUP_ALPHA)
            return torch.lerp(images[partner], images, share), partner, torch.full((count,), share, device=draws.device)
        side = math.sqrt(1 - draws.beta(CUTMIX_ALPHA))
        (top, bottom), (left, right) = (
            (max(round(extent * (at - side / 2)), 0), min(round(extent * (at + side / 2)), extent))
            for extent, at in ((height, draws.one()), (width, draws.one()))
        )
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, partner, torch.full((count,), kept, device=draws.device)

    def _rand_augment(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        """RandAugment (Cubuk et al. 2020) of torchvision, drawn anew for each `GROUP` images."""
        transform = v2.RandAugment(self.strength.operations, MAGNITUDE, interpolation=v2.InterpolationMode.BILINEAR, fill=128)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draws.seed())  # torch.manual_seed would seed the GPU's generator, too
            groups = [transform(group) for group in torch.split(images.permute(0, 3, 1, 2), GROUP)]
        return torch.cat(groups).permute(0, 2, 3, 1)

    def _affine(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Mirrored or not, then turned, scaled and shifted: sampled once."""
        s, (height, width) = self.strength, images.shape[2:]
        mirror = torch.where(draws.uniform() < s.flip / 2, -1.0, 1.0)
        if not (s.degrees or s.shift or s.scale):
            return torch.where(mirror[:, None, None, None] < 0, images.flip(3), images)
        angle = draws.uniform(math.radians(s.degrees))
        scale = 1 + draws.uniform(s.scale)
        cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
        shift_x, shift_y = draws.uniform(2 * s.shift), draws.uniform(2 * s.shift)
        x, y = (2 * (torch.arange(side, device=images.device) + 0.5) / side - 1 for side in (width, height))
        # functional.affine_grid, by adding what its columns and its rows give: its matrix product takes ten times as long.
        along_x = torch.stack([mirror * cos, sin], 1)[:, None, None] * x[:, None]
        along_y = torch.stack([mirror * -sin, cos], 1)[:, None, None] * y[:, None, None]
        grid = along_x + (along_y + torch.stack([mirror * shift_x, shift_y], 1)[:, None, None])
        moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return moved.contiguous(memory_format=torch.channels_last)

    def _colour(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Contrast about each image's own mean, then brightness in units of its deviation."""
        reach = self.strength.colour
        mean = images.mean((1, 2, 3), keepdim=True)
        contrast, brightness = (draws.uniform(reach).view(-1, 1, 1, 1) for _ in range(2))
        return images.mul_(1 + contrast).add_(brightness - mean * contrast)

    def _erase(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        """A rectangle of up to `erase` of each side set to 0, in half of the images (Zhong et al. 2020)."""
        height, width = images.shape[2:]
        hit = draws.uniform() < 0.5
        mask = hit[:, None, None]
        for extent, view in ((height, (1, -1, 1)), (width, (1, 1, -1))):
            length = draws.uniform() * self.strength.erase * extent
            first = draws.uniform() * (extent - length)
            at = torch.arange(extent, device=images.device).view(view)
            mask = mask & (at >= first[:, None, None]) & (at < (first + length)[:, None, None])
        return images.masked_fill_(mask[:, None], 0.0)
