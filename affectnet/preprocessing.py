"""What the network sees: training and evaluation transforms side by side, batched, on the device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional
from torchvision.transforms import v2

Augmentation = Literal["none", "flip", "standard", "strong"]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Per-channel mean and deviation of ImageNet in 0–1, as torchvision's weights were trained with."""


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
    channels = images.permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return (channels - channels.new_tensor(mean).view(shape)) / channels.new_tensor(std).view(shape)


class Augment:
    """Random transforms of a batch, drawn anew for each image of it.

    torchvision.transforms.v2 draws once a call, so that a whole batch would turn by the same angle (torchvision 0.29);
    here each image has its own draw, in one pass over the batch. The draws come from the given generator on the CPU, so
    they are the same on every device.
    """

    def __init__(
        self,
        preset: Augmentation,
        generator: torch.Generator,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        self.strength, self.generator, self.mean, self.std = PRESETS[preset], generator, mean, std
        self.batch: int | None = None
        self.first = 0

    def __call__(self, images: torch.Tensor, batch: int | None = None, first: int = 0) -> torch.Tensor:
        """(n, h, w, 3) uint8 → (n, 3, h, w) float32, normalised. Beyond an image's own frame its edge is repeated.

        The images can be a share of a batch, from its row `first` on: then they get the draws that they have in the batch, but
        for RandAugment's groups and the partners of `mixing`, which stay within the share.
        """
        strength, count = self.strength, len(images)
        self.batch, self.first = batch, first
        if strength.operations:
            images = self._rand_augment(images)
        images = normalised(images, self.mean, self.std)
        if strength.flip:
            images = torch.where(self._draw(count, images)[:, None, None, None] < 0.5, images.flip(3), images)
        if strength.degrees or strength.shift or strength.scale:
            images = self._affine(images)
        if strength.colour:
            images = self._colour(images)
        if strength.erase:
            images = self._erase(images)
        return images

    def mixing(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mixed images, the partner of each (n,) and each image's own share (n,); unmixed: itself, and 1.

        Mixup adds a partner's pixels by a share drawn from Beta; CutMix sets a rectangle of the partner's into the image,
        and the share is that of the area that stays. Targets are mixed by the same shares: `Targets.mixed`.
        """
        count, _, height, width = images.shape
        if not self.strength.mix:
            return images, torch.arange(count), torch.ones(count)
        # A share's own order within a draw of the whole batch: for a whole batch, the draw itself.
        partner = torch.randperm(self.batch or count, generator=self.generator)[self.first : self.first + count].argsort().argsort()
        if torch.rand((), generator=self.generator) < 0.5:
            share = self._beta(MIXUP_ALPHA)
            mixed = torch.lerp(images[partner.to(images.device)], images, share)
            return mixed, partner, torch.full((count,), share)
        side = math.sqrt(1 - self._beta(CUTMIX_ALPHA))
        middle = torch.rand(2, generator=self.generator).tolist()
        (top, bottom), (left, right) = (
            (max(round(extent * (at - side / 2)), 0), min(round(extent * (at + side / 2)), extent))
            for extent, at in zip((height, width), middle, strict=True)
        )
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partner.to(images.device), :, top:bottom, left:right]
        return mixed, partner, torch.full((count,), 1 - (bottom - top) * (right - left) / (height * width))

    def _beta(self, alpha: float) -> float:
        """A draw of Beta(α, α): one Gamma draw by the sum of two."""
        gammas = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=self.generator)
        return float(gammas[0] / gammas.sum().clamp_min(1e-300))

    def _rand_augment(self, images: torch.Tensor) -> torch.Tensor:
        """RandAugment (Cubuk et al. 2020) of torchvision, drawn anew for each `GROUP` images."""
        transform = v2.RandAugment(self.strength.operations, MAGNITUDE, interpolation=v2.InterpolationMode.BILINEAR, fill=128)
        seed = int(torch.randint(2**62, (), generator=self.generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + self.first)
            groups = [transform(group) for group in torch.split(images.permute(0, 3, 1, 2), GROUP)]
        return torch.cat(groups).permute(0, 2, 3, 1)

    def _draw(self, count: int, like: torch.Tensor, reach: float | None = None) -> torch.Tensor:
        """Uniform draws in 0–1, or in ±reach."""
        draw = torch.rand(self.batch or count, generator=self.generator)[self.first : self.first + count]
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
