import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectnet.training.samplers import SAMPLERS, batches

LABELS = np.repeat([0, 1, 2], [900, 90, 10])
ROWS = np.arange(1000)


def shares(sampler: str, done: float = 0.5) -> np.ndarray:
    """The shares of the three classes over 20 epochs."""
    orders = [SAMPLERS[sampler]().order(ROWS, LABELS, done, np.random.default_rng(seed)) for seed in range(20)]
    return np.bincount(LABELS[np.concatenate(orders)], minlength=3) / 20_000


@pytest.mark.parametrize(
    ("sampler", "done", "expected"),
    [
        ("plan", 0.5, [0.9, 0.09, 0.01]),
        ("balanced", 0.5, [1 / 3] * 3),
        ("square_root", 0.5, np.sqrt([900, 90, 10]) / np.sqrt([900, 90, 10]).sum()),
        ("progressive", 0.0, [0.9, 0.09, 0.01]),
        ("progressive", 0.5, (np.array([0.9, 0.09, 0.01]) + 1 / 3) / 2),
        ("progressive", 1.0, [1 / 3] * 3),
    ],
)
def test_each_class_gets_its_share_of_an_epoch(sampler: str, done: float, expected: list[float]) -> None:
    assert shares(sampler, done) == pytest.approx(np.array(expected), abs=0.012)
    assert SAMPLERS[sampler]().shares(np.array([0.9, 0.09, 0.01]), done) == pytest.approx(np.array(expected))


def test_the_plan_is_shown_once_and_the_others_draw_with_replacement() -> None:
    assert sorted(SAMPLERS["plan"]().order(ROWS, LABELS, 0, np.random.default_rng(0))) == list(ROWS)
    order = SAMPLERS["balanced"]().order(ROWS, LABELS, 0, np.random.default_rng(0))
    assert len(order) == len(ROWS) and set(order[order >= 990]) == set(range(990, 1000))


@given(st.lists(st.integers(1, 500), min_size=2, max_size=8), st.floats(0, 1), st.sampled_from(sorted(SAMPLERS)))
def test_shares_are_a_distribution_that_rises_towards_rare_classes(counts: list[int], done: float, sampler: str) -> None:
    natural = np.array(counts) / sum(counts)
    shares = SAMPLERS[sampler]().shares(natural, done)
    assert shares.sum() == pytest.approx(1) and (shares[natural.argmin()] >= natural.min() - 1e-12)


@given(st.integers(1, 200), st.integers(2, 64), st.integers(0, 5))
def test_batches_are_of_like_length(count: int, batch: int, epoch: int) -> None:
    generators = [np.random.default_rng([0, epoch]) for _ in range(2)]
    steps, again = (
        batches(SAMPLERS["plan"]().order(np.arange(count), np.zeros(count, int), 0, generator), batch) for generator in generators
    )
    lengths = [len(step) for step in steps]
    assert sorted(torch.cat(steps).tolist()) == list(range(count)) and max(lengths) <= batch and max(lengths) - min(lengths) <= 1
    assert all(torch.equal(a, b) for a, b in zip(steps, again, strict=True))
