from itertools import permutations

import numpy as np
import pytest

from affectnet.cleaning.label_order import permuted
from affectnet.expressions import CLASS_MEANS

GENERATOR = np.random.default_rng(0)


def faces(order: tuple[int, ...], spread: float = 0.25, each: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels 0–7, with the valence and arousal of the true classes and their usual spread."""
    labels = np.repeat(np.arange(8), each)
    values = np.array(CLASS_MEANS)[list(order)][labels] + GENERATOR.normal(0, spread, (len(labels), 2))
    return labels, values[:, 0], values[:, 1]


def test_the_right_order_is_never_doubted() -> None:
    for _ in range(100):
        assert permuted(*faces(tuple(range(8)))) is None


@pytest.mark.parametrize("order", [order for n, order in enumerate(permutations(range(8))) if n % 1009 == 17])
def test_other_orders_are_named(order: tuple[int, ...]) -> None:
    assert "label order" in (permuted(*faces(order)) or "")


def test_the_order_of_fer2013_is_named() -> None:
    line = permuted(*faces((6, 5, 4, 1, 2, 3, 0, 7), each=3000))
    assert line is not None and "Neutral looks like Anger" in line and "Anger looks like Neutral" in line


def test_without_values_nothing_is_said() -> None:
    labels, valence, arousal = faces((1, 0, *range(2, 8)))
    assert permuted(labels, valence * np.nan, arousal) is None
