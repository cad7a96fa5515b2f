"""Loads the training faces: gathered on the device, augmented and mixed, one micro-batch at a time."""

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

FREE_MEMORY_SHARE = 0.9
"""Share of the free memory of a GPU, after a whole step, that the images may take."""


@dataclass(frozen=True)
class MicroBatch:
    """The faces of one forward pass: this process's images, augmented, and their targets; faces: number in all processes."""

    images: torch.Tensor
    targets: Targets
    faces: int


class Loader:
    """The faces of the training split, any rows of which it loads.

    images: (n, px, px, 3) uint8 on the processor, with n targets. On a GPU they are copied there once they fit
    (`move_to_device`); until then a thread gathers one micro-batch ahead of the step, into pinned memory.
    """

    def __init__(self, images: torch.Tensor, targets: Targets, augment: Augment, group: Group) -> None:
        self.images, self.augment, self.group = images, augment, group
        self.targets = targets.to(group.device)

    @property
    def _on_device(self) -> bool:
        return self.images.device.type == self.group.device.type

    def move_to_device(self) -> None:
        """Copies the images to the GPU if they fit next to a step. Call it after the largest step has been made."""
        if self._on_device:
            return
        free, _ = torch.cuda.mem_get_info(self.group.device)
        if self.images.nbytes <= FREE_MEMORY_SHARE * free:
            self.images = self.images.to(self.group.device)

    def load(self, micro_batches: Sequence[torch.Tensor], generator: torch.Generator) -> Iterator[MicroBatch]:
        """For each micro-batch, given as the rows of all processes, this process's part of it. All draws come from the generator."""
        draws = [Draws(generator, self.group.device, len(rows), self.group.own_rows(len(rows))) for rows in micro_batches]
        parts = [rows[drawn.rows] for rows, drawn in zip(micro_batches, draws, strict=True)]
        for rows, drawn, images in zip(parts, draws, self._gathered(parts), strict=True):
            targets = self.targets[rows.to(self.group.device, non_blocking=True)]
            yield MicroBatch(*self.augment.mixed(self.augment(images, drawn), targets, drawn), drawn.faces)

    def _gathered(self, micro_batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """(n, px, px, 3) uint8 on the device for each micro-batch."""
        device = self.group.device
        if self._on_device:
            return (self.images[rows.to(device, non_blocking=True)] for rows in micro_batches)
        return (images.to(device, non_blocking=True) for images in map_over_pool(_one_ahead(), self._pinned, micro_batches))

    def _pinned(self, rows: torch.Tensor) -> torch.Tensor:
        pinned = torch.empty(len(rows), *self.images.shape[1:], dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        return torch.index_select(self.images, 0, rows, out=pinned)


@contextmanager
def _one_ahead() -> Iterator[Pool]:
    with ThreadPoolExecutor(1) as executor:
        yield Pool(executor, 2)
