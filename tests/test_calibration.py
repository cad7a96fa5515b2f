import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from affectnet.metrics.calibration import fit_temperature, negative_log_likelihood, reliability


def drawn(temperature: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are calibrated once divided by the temperature."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (count, 4))
    return logits * temperature, (softmax(logits, 1).cumsum(1) < generator.random((count, 1))).sum(1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_the_logits_is_found(temperature: float) -> None:
    logits, true = drawn(temperature)
    fitted = fit_temperature(logits, true)
    assert fitted == pytest.approx(temperature, rel=0.05)
    assert negative_log_likelihood(logits / fitted, true) <= negative_log_likelihood(logits, true)
    confidence = softmax(logits / fitted, 1)
    assert reliability(confidence.max(1), confidence.argmax(1) == true, 15).ece < 0.02


def test_likelihood_is_scikit_learns_log_loss() -> None:
    logits, true = drawn(1.0, 200)
    assert negative_log_likelihood(logits, true) == pytest.approx(log_loss(true, softmax(logits, 1)))


def test_calibration_error_by_hand() -> None:
    """Bins of 0.5: one face at 0.4, wrong; three at 0.6, 0.8, 1.0, two right: 1/4 · 0.4 + 3/4 · |2/3 − 0.8|."""
    bins = reliability(np.array([0.4, 0.6, 0.8, 1.0]), np.array([False, True, True, False]), 2)
    assert bins.count.tolist() == [1, 3] and bins.accuracy.tolist() == [0, pytest.approx(2 / 3)]
    assert bins.ece == pytest.approx(0.1 + 0.75 * (0.8 - 2 / 3))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.integers(2, 20))
def test_every_face_is_in_one_bin_whose_bounds_hold_it(faces: list[tuple[float, bool]], bins: int) -> None:
    confidence, right = np.array([c for c, _ in faces]), np.array([r for _, r in faces])
    table = reliability(confidence, right, bins)
    filled = table.count > 0
    assert table.count.sum() == len(faces) and 0 <= table.ece <= 1
    edges = np.arange(bins) / bins
    assert (table.confidence[filled] >= edges[filled] - 1e-9).all() and (table.confidence[filled] <= edges[filled] + 1 / bins + 1e-9).all()
