"""What the network learns to output for each face: shares of the expressions, and valence and arousal."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from affectnet.errors import UserError


@dataclass(frozen=True)
class Targets:
    """Targets of n faces: expression (n, k) shares, all 0 where it does not count; affect (n, 2), NaN where missing.

    rows: (n,) of the training split, by which a loss keeps something per face; None for faces of another split.
    """

    expression: torch.Tensor
    affect: torch.Tensor
    rows: torch.Tensor | None = None

    def __getitem__(self, rows: torch.Tensor | slice) -> "Targets":
        return Targets(self.expression[rows], self.affect[rows], None if self.rows is None else self.rows[rows])

    def to(self, device: torch.device) -> "Targets":
        rows = None if self.rows is None else self.rows.to(device, non_blocking=True)
        return Targets(self.expression.to(device, non_blocking=True), self.affect.to(device, non_blocking=True), rows)

    def mixed(self, other: "Targets", kept: torch.Tensor) -> "Targets":
        """The share `kept` (n,) of these and the rest of the others, face by face; affect only where both have it."""
        keep = kept.view(-1, 1)
        return Targets(
            keep * self.expression + (1 - keep) * other.expression,
            keep * self.affect + (1 - keep) * other.affect,
            self.rows,
        )


def joined(targets: Sequence[Targets]) -> Targets:
    """The faces of all, in order."""
    rows = [one.rows for one in targets if one.rows is not None]
    return Targets(
        torch.cat([one.expression for one in targets]),
        torch.cat([one.affect for one in targets]),
        torch.cat(rows) if len(rows) == len(targets) else None,
    )


def has_soft_label(soft: torch.Tensor) -> torch.Tensor:
    """(n,) whether a face has a soft label that counts: (n, k) finite shares that are not all 0."""
    return soft.isfinite().all(1) & (soft.sum(1) > 0)


def softened(hard: torch.Tensor, soft: torch.Tensor, share: float) -> torch.Tensor:
    """(n, k) targets: `share` of the soft label, and the rest of the hard one, which stays as it is where there is no soft label.

    hard: (n, k) one-hot, all 0 for a face that does not count; soft: (n, k), of which the k shares are scaled to sum to 1.
    """
    shares = soft / soft.sum(1, keepdim=True)
    blended = (1 - share) * hard + share * shares * hard.sum(1, keepdim=True)
    return torch.where(has_soft_label(soft)[:, None], blended, hard)


@dataclass(frozen=True)
class TargetMass:
    """How much of each of the k expressions the targets hold. soft: (k,) mean soft share of a target, by label; shares: (k,) of that part.

    A label is shown as often as its face is drawn. A soft target keeps the skew of the data in which it is right, however often its face
    is drawn.
    """

    soft: torch.Tensor
    shares: torch.Tensor

    @classmethod
    def of(cls, hard: torch.Tensor, soft: torch.Tensor | None, share: float) -> "TargetMass":
        """Of the training faces, each counted once; arguments as for `softened`, without soft labels None."""
        if soft is None:
            none = torch.zeros(hard.shape[1], dtype=torch.float64)
            return cls(none, none)
        counted = (has_soft_label(soft) & (hard.sum(1) > 0)).double()
        labels = hard.double()
        sums = (softened(hard, soft, 1.0).double() * counted[:, None]).sum(0)
        return cls(share * (counted @ labels) / labels.sum(0).clamp_min(1), sums / sums.sum().clamp_min(1e-12))

    def drawn(self, shares: torch.Tensor) -> torch.Tensor:
        """(k,) of the targets, where faces are drawn with these (k,) shares of their labels."""
        return shares * (1 - self.soft) + (shares @ self.soft) * self.shares


def refuse_without_affect(**splits: Targets) -> None:
    """Errors: UserError when fewer than two faces of a split have valence and arousal."""
    for split, targets in splits.items():
        annotated = int(targets.affect.isfinite().all(1).sum())
        if annotated < 2:
            raise UserError(
                f"task: {annotated} faces of the split {split} have valence and arousal, two or more are needed; choose task expression"
            )
