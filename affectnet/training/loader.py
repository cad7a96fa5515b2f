"""The training's faces on their way to the network: gathered on the device, augmented and mixed, part by part."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from affectnet.running.parallel import Pool, map_over_pool
from affectnet.training.augmentation.augment import Augment
from affectnet.training.augmentation.draws import Draws
from affectnet.training.distributed import Group
from affectnet.training.targets import Targets

MOST_OF_FREE = 0.9
"""Share of the memory left free on a GPU, after a whole step, that the images may take."""


@dataclass(frozen=True)
class Part:
    """What passes the network at once: this process's images, augmented, and their targets; faces: of all processes."""

    images: torch.Tensor
    targets: Targets
    faces: int


class Feed:
    """The faces of the training split, any rows of which it prepares.

    images: (n, px, px, 3) uint8 on the processor, and of n targets. On a GPU they are copied there once they fit (`settle`);
    until then a thread gathers one part ahead of the step, into memory that the GPU reads by itself.
    """

    def __init__(self, images: torch.Tensor, targets: Targets, augment: Augment, group: Group) -> None:
        self.images, self.augment, self.group = images, augment, group
        self.targets = targets.to(group.device)

    @property
    def _on_device(self) -> bool:
        return self.images.device.type == self.group.device.type

    def settle(self) -> None:
        """Copies the images to the GPU if they fit beside a step, the largest of which must have been made before."""
        if self._on_device:
            return
        free, _ = torch.cuda.mem_get_info(self.group.device)
        if self.images.nbytes <= MOST_OF_FREE * free:
            self.images = self.images.to(self.group.device)

    def parts(self, parts: Sequence[torch.Tensor], generator: torch.Generator) -> Iterator[Part]:
        """For each part, given as the rows of all processes, this process's share of it. All draws come from the generator."""
        draws = [Draws(generator, self.group.device, len(rows), self.group.share(len(rows))) for rows in parts]
        own = [rows[drawn.rows] for rows, drawn in zip(parts, draws, strict=True)]
        for rows, drawn, images in zip(own, draws, self._gathered(own), strict=True):
            targets = self.targets[rows.to(self.group.device, non_blocking=True)]
            yield Part(*self.augment.mixed(self.augment(images, drawn), targets, drawn), drawn.faces)

    def _gathered(self, parts: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """(n, px, px, 3) uint8 on the device for each part."""
        device = self.group.device
        if self._on_device:
            return (self.images[rows.to(device, non_blocking=True)] for rows in parts)
        return (images.to(device, non_blocking=True) for images in map_over_pool(_one_ahead(), self._pinned, parts))

    def _pinned(self, rows: torch.Tensor) -> torch.Tensor:
        target = torch.empty(len(rows), *self.images.shape[1:], dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        return torch.index_select(self.images, 0, rows, out=target)


@contextmanager
def _one_ahead() -> Iterator[Pool]:
    with ThreadPoolExecutor(1) as executor:
        yield Pool(executor, 2)
