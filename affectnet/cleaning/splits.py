"""The cut of a share of the faces, such as our validation split from the official training list, and what it lacks."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError


def stratified_cut(expression: NDArray[np.integer], groups: NDArray[np.integer], share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) true for the faces that are cut off: a share of each expression, whole groups of near duplicates at a time.

    A group counts to the expression of its first face. Of each expression at least one face is due. For a share of at most
    0.5, what is cut differs from what is due by at most half of the expression's largest group, and where single faces stay,
    by none; a single group is never cut off. share: 0–1; the same seed gives the same cut.
    """
    members, first, lengths = np.unique(groups, return_index=True, return_counts=True)
    stratum = expression[first]
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.argsort(stratum[order], kind="stable")]
    taken = np.zeros(len(members), np.bool_)
    for code in np.unique(stratum):
        candidates = order[stratum[order] == code]
        taken[candidates] = _filling(lengths[candidates], share)
    return np.isin(groups, members[taken])


def _filling(lengths: NDArray[np.integer], share: float) -> NDArray[np.bool_]:
    """(n,) true for the groups that are taken: in their order each that still fits, then the smallest, if that comes nearer."""
    taken = np.zeros(len(lengths), np.bool_)
    if len(lengths) == 1:
        return taken
    total = int(lengths.sum())
    room = min(max(int(np.floor(total * share + 0.5)), 1), total - 1)
    for at, length in enumerate(lengths.tolist()):
        if length <= room:
            taken[at] = True
            room -= length
    left = np.flatnonzero(~taken)
    smallest = left[np.argmin(lengths[left])]
    if len(left) > 1 and lengths[smallest] <= 2 * room:
        taken[smallest] = True
    return taken


def lacking(by_split: Mapping[str, Mapping[str, int]]) -> str | None:
    """Which expressions validation or test lacks of training, and training of test, in one line, None for none of them.

    by_split: faces by split and expression. Errors: UserError when validation or test has no face at all.
    """
    faces = {split: sum(by_expression.values()) for split, by_expression in by_split.items()}
    if faces["train"] and not faces["validation"]:
        raise UserError(
            f"clean.validation_share: none of {faces['train']:,} training faces can go to validation, since near duplicates of each "
            "expression stay together; add photographs, or lower clean.near_duplicate_bits"
        )
    if faces["train"] and not faces["test"]:
        raise UserError("data/annotations.parquet: no face is left for test; see metrics/clean.json for why rows were rejected")
    lines = []
    for split, other in (("validation", "train"), ("test", "train"), ("train", "test")):
        if absent := [f"{name} ({count} in {other})" for name, count in by_split[other].items() if count and not by_split[split][name]]:
            lines.append(f"{split} holds no face of {', '.join(absent)}")
    return "; ".join(lines) or None
