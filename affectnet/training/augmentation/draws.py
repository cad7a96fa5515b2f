"""The random numbers of a batch, the same on every device and for any number of processes."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch of `faces`, of which this process has the rows `rows`.

    They come from the generator, on the processor, and do not depend on how a batch is divided among processes, except for
    RandAugment's groups and the partners of mixup and CutMix, which stay within a process.
    """

    generator: torch.Generator
    device: torch.device
    faces: int
    rows: slice

    def uniform(self, reach: float | None = None) -> torch.Tensor:
        """One draw per image of this process, in 0–1, or in ±reach."""
        draw = torch.rand(self.faces, generator=self.generator)[self.rows]
        scaled = draw if reach is None else (2 * draw - 1) * reach
        return scaled.to(self.device, non_blocking=True)

    def one(self) -> float:
        """A draw in 0–1 for the batch."""
        return float(torch.rand((), generator=self.generator))

    def beta(self, alpha: float) -> float:
        """A draw of Beta(α, α) for the batch: one Gamma draw by the sum of two."""
        gammas = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=self.generator)
        return float(gammas[0] / gammas.sum().clamp_min(1e-300))

    def seed(self) -> int:
        """For torch's own generator on the processor; another one in each process."""
        return int(torch.randint(2**62, (), generator=self.generator) + self.rows.start)

    def partners(self) -> torch.Tensor:
        """(n,) a partner per image, each image once, among those of this process: for a whole batch, a permutation of it."""
        return torch.randperm(self.faces, generator=self.generator)[self.rows].argsort().argsort()
