import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from affectnet.metrics import bootstrap
from affectnet.metrics.bootstrap import interval, resampled, resampled_faces
from affectnet.metrics.classification import confusion_matrix, scores
from affectnet.metrics.intervals import constant_answers


def test_hand_worked_example() -> None:
    result = scores(np.array([[2, 1, 0], [0, 3, 0], [1, 0, 0]]))
    assert result.accuracy == pytest.approx(5 / 7)
    assert result.recall == pytest.approx([2 / 3, 1, 0])
    assert result.precision == pytest.approx([2 / 3, 3 / 4, 0])
    assert result.f1 == pytest.approx([2 / 3, 6 / 7, 0])
    assert result.macro_f1 == pytest.approx((2 / 3 + 6 / 7) / 3)


@given(
    st.integers(2, 8).flatmap(
        lambda k: st.tuples(st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1))
    )
)
def test_scores_agree_with_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = case
    true, predicted = np.array(pairs).T
    result = scores(confusion_matrix(true, predicted, classes))
    precision, recall, f1, _ = precision_recall_fscore_support(true, predicted, labels=range(classes), zero_division=0.0)
    assert result.accuracy == pytest.approx(accuracy_score(true, predicted))
    np.testing.assert_allclose([result.precision, result.recall, result.f1], [precision, recall, f1], atol=1e-12)
    assert result.macro_f1 == pytest.approx(f1.mean())


@given(arrays.arrays(np.int64, (4, 4), elements=st.integers(0, 50)).filter(lambda m: m.sum() > 0))
def test_a_stack_of_matrices_scores_as_each_of_them(matrix: np.ndarray) -> None:
    stacked = scores(np.stack([matrix, matrix.T]))
    assert stacked.macro_f1[1] == pytest.approx(float(scores(matrix.T).macro_f1))


def test_bootstrap_interval_of_accuracy_is_the_binomial_one() -> None:
    confusion = np.array([[150, 50], [50, 150]])
    drawn = scores(resampled(confusion, 4000, np.random.default_rng(0)))
    low, high = interval(drawn.accuracy)
    half_width = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - half_width, abs=0.01)
    assert high == pytest.approx(0.75 + half_width, abs=0.01)


def test_constant_answers_are_all_there_are() -> None:
    matrices = constant_answers(np.array([[2, 1, 0], [0, 1, 0], [1, 0, 0]]))
    assert matrices.tolist() == [[[3, 0, 0], [1, 0, 0], [1, 0, 0]], [[0, 3, 0], [0, 1, 0], [0, 1, 0]], [[0, 0, 3], [0, 0, 1], [0, 0, 1]]]


def test_resamples_of_many_faces_come_in_small_pieces_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(resampled_faces(997, 600, np.random.default_rng(5)))
    assert [len(piece) for piece in whole] == [250, 250, 100]
    monkeypatch.setattr(bootstrap, "MOST_RESAMPLED", 7 * 997)
    pieces = list(resampled_faces(997, 600, np.random.default_rng(5)))
    assert max(map(len, pieces)) == 7 and np.array_equal(np.concatenate(pieces), np.concatenate(whole))
