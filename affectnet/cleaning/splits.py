"""Cuts a share of the faces off as a split, such as validation from the official training list, and reports missing expressions."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError


def stratified_cut(
    expression: NDArray[np.integer], groups: NDArray[np.integer], share: float, seed: int, content: NDArray[np.uint64] | None = None
) -> NDArray[np.bool_]:
    """(n,) true for the faces that are cut off: a share of each expression, in whole groups of near duplicates.

    A group belongs to the expression of its first face. The target is at least one face of each expression. For a share of at
    most 0.5, the number of faces differs from the target by at most half of the expression's largest group, and not at all where
    single faces are left; the only group of an expression is never cut off. share: 0–1; the same seed gives the same cut.

    content: (n,) a word of each photograph's hash. With it the order of the groups depends on nothing but content and seed, so that a
    photograph that is added or removed moves hardly another one from one side to the other; without, it reshuffles the cut.
    """
    members, first, inverse, lengths = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    stratum = expression[first]
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(members)) if content is None else _by_content(inverse, content, generator)
    order = order[np.argsort(stratum[order], kind="stable")]
    taken = np.zeros(len(members), np.bool_)
    for code in np.unique(stratum):
        candidates = order[stratum[order] == code]
        taken[candidates] = _fill(lengths[candidates], share)
    return np.isin(groups, members[taken])


def _by_content(group: NDArray[np.intp], content: NDArray[np.uint64], generator: np.random.Generator) -> NDArray[np.intp]:
    """(m,) the m groups in the order of the lowest hash of their photographs, mixed with the seed. group: (n,) of each face."""
    odd = np.uint64(generator.integers(1 << 63, dtype=np.uint64) * np.uint64(2) + np.uint64(1))
    lowest = np.full(group.max(initial=-1) + 1, np.iinfo(np.uint64).max)
    np.minimum.at(lowest, group, content * odd)
    return np.argsort(lowest, kind="stable")


def _fill(lengths: NDArray[np.integer], share: float) -> NDArray[np.bool_]:
    """(n,) true for the groups that are cut off: in order each group that fits, then the smallest other one if it reduces the gap."""
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


def missing_expressions(by_split: Mapping[str, Mapping[str, int]]) -> str | None:
    """One line with the expressions of training that validation or test lacks, and those of test that training lacks; None for none.

    by_split: faces by split and expression. Errors: UserError when validation or test has no face at all.
    """
    faces = {split: sum(by_expression.values()) for split, by_expression in by_split.items()}
    if faces["train"] and not faces["validation"]:
        raise UserError(
            f"clean.validation_share: none of {faces['train']:,} training faces can go to validation, since each expression keeps "
            "one in training, and near duplicates (clean.near_duplicate_bits) stay together; add photographs"
        )
    if faces["train"] and not faces["test"]:
        raise UserError("data/annotations.parquet: no face is left for test; see metrics/clean.json for why rows were rejected")
    lines = []
    for split, other in (("validation", "train"), ("test", "train"), ("train", "test")):
        if absent := [f"{name} ({count} in {other})" for name, count in by_split[other].items() if count and not by_split[split][name]]:
            lines.append(f"{split} holds no face of {', '.join(absent)}")
    return "; ".join(lines) or None
