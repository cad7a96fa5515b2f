import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import pearsonr

from affectnet.metrics.registry import registered
from affectnet.metrics.regression import affect_scores

VALUES = arrays.arrays(np.float64, 12, elements=st.floats(-1, 1).map(lambda x: round(x, 3)))


def test_hand_worked_example() -> None:
    """t = 0, 1; p = 0.5, 1: means 0.5, 0.75; variances 0.25, 0.0625; cov 0.125.

    RMSE √0.125; r = 1; CCC = 0.25 / (0.25 + 0.0625 + 0.0625) = 2/3; signs 0 and +, 1 and +: half agree.
    """
    scores = affect_scores(np.array([0.0, 1.0]), np.array([0.5, 1.0]))
    assert (scores.rmse, scores.corr, scores.sagr, scores.ccc) == pytest.approx((0.125**0.5, 1, 0.5, 2 / 3))


@given(VALUES)
def test_a_prediction_of_the_truth_is_perfect(values: np.ndarray) -> None:
    scores = affect_scores(values, values)
    varied = values.std() > 1e-6
    assert scores.rmse == 0 and scores.sagr == 1
    assert (scores.corr, scores.ccc) == pytest.approx((1, 1) if varied else (0, 0))


@given(VALUES, VALUES)
def test_corr_is_pearsons_and_bounds_ccc(true: np.ndarray, predicted: np.ndarray) -> None:
    scores = affect_scores(true, predicted)
    if min(true.std(), predicted.std()) > 1e-3:
        assert scores.corr == pytest.approx(pearsonr(true, predicted).statistic, abs=1e-6)
    assert abs(scores.ccc) <= abs(scores.corr) + 1e-6


@given(VALUES, st.floats(0.1, 1))
def test_a_shift_costs_ccc_and_not_corr(true: np.ndarray, shift: float) -> None:
    if true.std() > 1e-2:
        scores = affect_scores(true, true + shift)
        assert scores.corr == pytest.approx(1, abs=1e-6) and scores.ccc < 1 and scores.rmse == pytest.approx(shift)


def test_resamples_score_as_each_of_them() -> None:
    generator = np.random.default_rng(0)
    true, predicted = generator.uniform(-1, 1, (2, 5, 30))
    stacked = affect_scores(true, predicted)
    for row in range(5):
        single = affect_scores(true[row], predicted[row])
        assert (stacked.ccc[row], stacked.sagr[row]) == pytest.approx((float(single.ccc), float(single.sagr)))


def test_floors_are_what_the_best_constants_reach() -> None:
    true = np.array([-0.5, 0.25, 0.5, 0.75])
    floors = {one.key: one.floor(true) for one in registered("affect") if one.floor is not None}
    grid = [affect_scores(true, np.full(4, constant)) for constant in np.linspace(-1, 1, 2001)]
    assert floors["rmse"] == pytest.approx(min(scores.rmse for scores in grid), abs=1e-6)
    assert floors["sagr"] == max(scores.sagr for scores in grid) == 0.75
    assert floors["ccc"] == max(scores.ccc for scores in grid) == 0
