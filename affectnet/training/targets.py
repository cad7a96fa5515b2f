"""What the network learns to output for each face: shares of the expressions, and valence and arousal."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from affectnet.errors import UserError


@dataclass(frozen=True)
class Targets:
    """Targets of n faces: expression (n, k) shares, all 0 where it does not count; affect (n, 2), NaN where missing."""

    expression: torch.Tensor
    affect: torch.Tensor

    def __getitem__(self, rows: torch.Tensor | slice) -> "Targets":
        return Targets(self.expression[rows], self.affect[rows])

    def to(self, device: torch.device) -> "Targets":
        return Targets(self.expression.to(device, non_blocking=True), self.affect.to(device, non_blocking=True))

    def mixed(self, other: "Targets", kept: torch.Tensor) -> "Targets":
        """The share `kept` (n,) of these and the rest of the others, row by row; affect only where both have it."""
        keep = kept.view(-1, 1)
        return Targets(
            keep * self.expression + (1 - keep) * other.expression,
            keep * self.affect + (1 - keep) * other.affect,
        )


def joined(targets: Sequence[Targets]) -> Targets:
    """The rows of all, in order."""
    return Targets(torch.cat([one.expression for one in targets]), torch.cat([one.affect for one in targets]))


def refuse_without_affect(**splits: Targets) -> None:
    """Errors: UserError when fewer than two faces of a split have valence and arousal."""
    for split, targets in splits.items():
        annotated = int(targets.affect.isfinite().all(1).sum())
        if annotated < 2:
            raise UserError(
                f"task: {annotated} faces of the split {split} have valence and arousal, two or more are needed; choose task expression"
            )
