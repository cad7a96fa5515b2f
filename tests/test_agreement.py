from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from affectnet.metrics.agreement import cohens_kappa, krippendorffs_alpha
from affectnet.metrics.classification import confusion_matrix, scores
from affectnet.metrics.ranking import ranking_scores
from affectnet.metrics.skew import equal_class_weights, skew_normalised

MATRICES = arrays.arrays(np.int64, (4, 4), elements=st.integers(0, 30)).filter(lambda m: (m.sum(1) > 0).all())


def pairs(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cells = np.repeat(np.arange(matrix.size), matrix.ravel())
    return cells // len(matrix), cells % len(matrix)


def auc_and_aucpr(*arguments: Any) -> tuple[np.ndarray, np.ndarray]:
    scores = ranking_scores(*arguments)
    return scores["auc"], scores["aucpr"]


def test_hand_worked_example() -> None:
    """Ten faces, two classes: 4 and 3 right, 1 and 2 wrong.

    κ: agreement 0.7; chance 0.5·0.6 + 0.5·0.4 = 0.5; κ = 0.4. α: o = [[8, 3], [3, 6]], n_c = 11, 9;
    α = 1 − 19·6 / (2·11·9) = 1 − 114/198.
    """
    matrix = np.array([[4, 1], [2, 3]])
    assert cohens_kappa(matrix) == pytest.approx(0.4)
    assert krippendorffs_alpha(matrix) == pytest.approx(1 - 114 / 198)


@given(MATRICES)
def test_kappa_agrees_with_scikit_learn(matrix: np.ndarray) -> None:
    expected = cohen_kappa_score(*pairs(matrix))
    assert cohens_kappa(matrix) == pytest.approx(0 if np.isnan(expected) else expected, abs=1e-9)


@given(MATRICES)
def test_alpha_is_one_minus_observed_by_expected_disagreement_of_all_pairs(matrix: np.ndarray) -> None:
    """Krippendorff's definition: disagreement within faces divided by that among all values pooled."""
    true, predicted = pairs(matrix)
    values = np.concatenate([true, predicted])
    observed = (true != predicted).mean()
    n = len(values)
    expected = (values[:, None] != values[None]).sum() / (n * (n - 1))
    assert krippendorffs_alpha(matrix) == pytest.approx(1 - observed / expected if expected else 0, abs=1e-9)


@given(MATRICES)
def test_skew_normalised_accuracy_is_the_mean_recall_and_balance_changes_nothing(matrix: np.ndarray) -> None:
    normalised = skew_normalised(matrix)
    assert normalised.sum() == pytest.approx(matrix.sum())
    assert scores(normalised).accuracy == pytest.approx(balanced_accuracy_score(*pairs(matrix)))
    assert skew_normalised(normalised) == pytest.approx(normalised)


def test_a_class_without_faces_stays_without() -> None:
    normalised = skew_normalised(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 1]]))
    assert normalised.sum(1).tolist() == [2.5, 0, 2.5]


def test_perfect_and_constant_answers() -> None:
    perfect, constant = np.diag([5, 3, 2]), np.array([[5, 0, 0], [3, 0, 0], [2, 0, 0]])
    assert cohens_kappa(perfect) == krippendorffs_alpha(perfect) == 1
    assert cohens_kappa(constant) == pytest.approx(0) and krippendorffs_alpha(constant) < 0
    assert cohens_kappa(np.array([[7, 0], [0, 0]])) == krippendorffs_alpha(np.array([[7, 0], [0, 0]])) == 0


def test_stacks_score_as_each_of_them() -> None:
    stack = np.random.default_rng(0).integers(1, 9, (5, 3, 3))
    for score in (cohens_kappa, krippendorffs_alpha):
        assert score(stack) == pytest.approx([float(score(matrix)) for matrix in stack])


def test_auc_is_the_share_of_pairs_in_the_right_order_ties_one_half() -> None:
    true = np.array([0, 0, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    auc, aucpr = auc_and_aucpr(true, probabilities)
    # Class 1: pairs (0.6|0.1) (0.6|0.6) (0.8|0.1) (0.8|0.6) (0.3|0.1) (0.3|0.6): 4 right, one tie, of 6.
    assert auc[1] == pytest.approx(4.5 / 6) and auc[0] == pytest.approx(auc[1])
    # By falling score 0.8 | 0.6 0.6 | 0.3 | 0.1: precision 1, 2/3, 3/4 at recall steps of one third.
    assert aucpr[1] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_ranking_is_scikit_learns_with_ties_and_weights(seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    true = np.append(generator.integers(0, 2, 30), [0, 1])
    scores = generator.integers(0, levels, 32) / levels
    weights = generator.integers(0, 4, (3, 32))
    weights[:, -2:] = 1
    auc, aucpr = auc_and_aucpr(true, np.stack([1 - scores, scores], 1), weights)
    for row, mass in enumerate(weights):
        assert auc[row, 1] == pytest.approx(roc_auc_score(true, scores, sample_weight=mass))
        assert aucpr[row, 1] == pytest.approx(average_precision_score(true, scores, sample_weight=mass))


def test_a_class_that_cannot_be_ranked_is_nan() -> None:
    auc, aucpr = auc_and_aucpr(np.array([0, 0, 1]), np.full((3, 3), 1 / 3))
    assert np.isnan([auc[2], aucpr[2]]).all() and auc[:2] == pytest.approx([0.5, 0.5])


def test_weighting_faces_is_the_same_as_repeating_them() -> None:
    generator = np.random.default_rng(1)
    true = np.array([0] * 12 + [1] * 3)
    probabilities = generator.dirichlet([1, 1], 15)
    weighted = auc_and_aucpr(true, probabilities, equal_class_weights(true))
    repeated = np.concatenate([np.arange(12), *[np.arange(12, 15)] * 4])
    assert np.allclose(weighted, auc_and_aucpr(true[repeated], probabilities[repeated]))
    assert equal_class_weights(true).mean() == pytest.approx(1)
    resample = generator.multinomial(15, np.full(15, 1 / 15), size=4)
    mass = equal_class_weights(true, resample)
    assert mass[:, :12].sum(1) == pytest.approx(7.5) and mass[:, 12:].sum(1) == pytest.approx(np.where(resample[:, 12:].any(1), 7.5, 0))


def test_confusion_and_pairs_are_inverse() -> None:
    matrix = np.array([[4, 1], [2, 3]])
    assert np.array_equal(confusion_matrix(*pairs(matrix), 2), matrix)
