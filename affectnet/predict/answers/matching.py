"""Which answer is for which labelled photograph, by their paths."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError, first_few

SEVERAL = -2
"""The ending of several paths."""


def matched(answers: Sequence[str], file: Path, truth: Sequence[str], truth_name: str) -> NDArray[np.int64]:
    """(answers,) row of the truth that each answer is for, −1 for none.

    An answer is for the photograph whose path is the same, or ends with the answer's, or is the end of the answer's: whole names
    only, so `1.jpg`, `happy/1.jpg` and `/data/test/happy/1.jpg` are the same photograph, and `happy/1.jpg` and `sad/1.jpg` are not.
    Errors: UserError when an answer is for several photographs, a photograph has several answers, or none matches.
    """
    whole, endings = _indexed(truth, truth_name)
    rows = np.array([_row(path, whole, endings) for path in answers], np.int64)
    ambiguous = [answers[at] for at in np.flatnonzero(rows == SEVERAL).tolist()]
    if ambiguous:
        raise UserError(f"{file}: {first_few(ambiguous)}: each names several photographs of {truth_name}; give more of the path")
    if not (rows >= 0).any():
        raise UserError(f"{file}: answers such as {answers[0]} are for no photograph of {truth_name}, such as {truth[0]}; see the paths")
    twice = [truth[row] for row, count in Counter(rows[rows >= 0].tolist()).items() if count > 1]
    if twice:
        raise UserError(f"{file}: several answers for the same photograph, {first_few(twice)}; keep one row per photograph")
    return rows


def _indexed(truth: Sequence[str], truth_name: str) -> tuple[dict[str, int], dict[str, int]]:
    """The row of each path, and of each ending of a path. Errors: UserError when a path is there twice."""
    whole = {path: row for row, path in enumerate(truth)}
    if len(whole) < len(truth):
        twice = [path for path, count in Counter(truth).items() if count > 1]
        raise UserError(f"{truth_name}: photographs with several rows, {first_few(twice)}; keep one row per photograph")
    endings: dict[str, int] = {}
    for path, row in whole.items():
        for ending in _endings(path):
            endings[ending] = SEVERAL if ending in endings else row
    return whole, endings


def _row(path: str, whole: dict[str, int], endings: dict[str, int]) -> int:
    if path in whole:
        return whole[path]
    if path in endings:
        return endings[path]
    return next((whole[ending] for ending in _endings(path) if ending in whole), -1)


def _endings(path: str) -> Iterator[str]:
    """The path, and its shorter and shorter ends: `a/b/c`, `b/c`, `c`."""
    while path:
        yield path
        path = path.partition("/")[2]
