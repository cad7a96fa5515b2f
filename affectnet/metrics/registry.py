"""The registry of scores: each is a decorated function in a file of this folder, which is imported when the scores are listed."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Score = Callable[..., Values]

Kind = Literal["confusion", "per_class", "ranking", "affect"]
"""What a score is computed from, and what it gives:

confusion: (…, k, k) confusion matrices → (…); reported as it is and skew-normalised.
per_class: (…, k, k) confusion matrices → (…, k).
ranking: (…, m) mass of the positives and of the negatives of one class at each distinct probability, the highest first → (…),
    NaN where either is 0; reported as the mean over the classes, as it is and skew-normalised.
affect: (…, n) annotated and (…, n) predicted values of valence or arousal → (…).
"""

LAST = 100


@dataclass(frozen=True)
class Metric:
    """A score: its key in metrics/evaluate.json, its label for people, how it is computed, and its floor.

    floor: the score of the best constant answer. For kinds confusion and per_class it is given the (k,) test faces per class, and None
    means the largest score of the k constant answers; for ranking it is given the (k,) share of each class; for affect the (n,) annotated
    values. rank: position in tables, the lowest first. class_mean: a score of kind confusion that is a mean over the classes, of values
    that are 0 for a class without faces.
    """

    key: str
    label: str
    kind: Kind
    score: Score
    floor: Score | None
    rank: int
    class_mean: bool


_METRICS: dict[str, Metric] = {}


def metric(
    key: str, label: str, kind: Kind, *, floor: Score | None = None, rank: int = LAST, class_mean: bool = False
) -> Callable[[Score], Score]:
    """Registers the decorated function as a score; see `Metric`. A ranking and an affect score need a floor."""
    if floor is None and kind in {"ranking", "affect"}:
        raise ValueError(f"metric {key}: kind {kind} needs a floor")

    def register(score: Score) -> Score:
        if key in _METRICS:
            raise ValueError(f"metric {key}: registered twice")
        _METRICS[key] = Metric(key, label, kind, score, floor, rank, class_mean)
        return score

    return register


def registered(*kinds: Kind) -> list[Metric]:
    """The scores of these kinds in the order of tables."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        import_module(f"affectnet.metrics.{module.name}")
    return sorted((one for one in _METRICS.values() if one.kind in kinds), key=lambda one: (kinds.index(one.kind), one.rank, one.key))


def label(key: str) -> str:
    """The label of the score with this key; of what is not registered, as `loss`, the key."""
    registered()
    return _METRICS[key].label if key in _METRICS else key
