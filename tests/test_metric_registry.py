"""Laws that hold for every registered score."""

import numpy as np
import pytest

from affectnet.metrics.ranking import ranking_scores
from affectnet.metrics.registry import Kind, Metric, label, metric, registered

KINDS: tuple[Kind, ...] = ("confusion", "per_class", "ranking", "affect")


def ids(one: Metric) -> str:
    return one.key


def test_the_scores_are_those_of_the_paper_in_the_order_of_the_tables() -> None:
    keys = [one.key for one in registered(*KINDS)]
    assert [key for key in keys if key in PAPER] == PAPER and len(set(keys)) == len(keys)
    assert label("aucpr") == "AUC-PR" and len({one.label for one in registered(*KINDS)}) == len(keys)


PAPER = ["accuracy", "macro_f1", "kappa", "alpha", "recall", "precision", "f1", "auc", "aucpr", "rmse", "corr", "sagr", "ccc"]


@pytest.mark.parametrize("one", registered("confusion", "per_class"), ids=ids)
def test_a_stack_of_matrices_scores_as_each_of_them_and_classes_have_no_order(one: Metric) -> None:
    stack = np.random.default_rng(0).integers(0, 9, (6, 4, 4)) + np.eye(4, dtype=np.int64)
    scores = one.score(stack)
    assert scores.shape == ((6,) if one.kind == "confusion" else (6, 4)) and np.isfinite(scores).all()
    assert np.allclose(scores, [one.score(matrix) for matrix in stack])
    order = np.array([2, 0, 3, 1])
    permuted = one.score(stack[:, order][:, :, order])
    assert np.allclose(permuted, scores if one.kind == "confusion" else scores[:, order])


@pytest.mark.parametrize("one", registered("confusion", "per_class"), ids=ids)
def test_no_answer_scores_higher_than_the_right_one(one: Metric) -> None:
    perfect = np.diag([5, 3, 2])
    others = np.random.default_rng(1).integers(0, 9, (50, 3, 3)) + 1
    assert (one.score(others) <= one.score(perfect) + 1e-12).all() and np.isfinite(one.score(np.zeros((3, 3)) + perfect)).all()


@pytest.mark.parametrize("one", registered("ranking"), ids=ids)
def test_a_face_of_weight_two_ranks_as_two_faces(one: Metric) -> None:
    generator = np.random.default_rng(2)
    true = np.append(generator.integers(0, 3, 30), [0, 1, 2])
    probabilities = generator.dirichlet([1, 1, 1], len(true)).round(1)
    weights = generator.integers(1, 3, len(true))
    rows = np.repeat(np.arange(len(true)), weights)
    repeated = ranking_scores(true[rows], probabilities[rows])[one.key]
    assert np.allclose(ranking_scores(true, probabilities, weights)[one.key], repeated) and repeated.shape == (3,)
    assert one.floor is not None and np.isfinite(one.floor(np.array([0.5, 0.25, 0.25]))).all()


@pytest.mark.parametrize("one", registered("affect"), ids=ids)
def test_a_stack_of_values_scores_as_each_row(one: Metric) -> None:
    true, predicted = np.random.default_rng(3).uniform(-1, 1, (2, 5, 30))
    assert one.score(true, predicted) == pytest.approx([float(one.score(*row)) for row in zip(true, predicted, strict=True)])
    assert one.floor is not None and np.isfinite(one.floor(true[0]))


def test_a_key_has_one_score_and_a_ranking_has_a_floor() -> None:
    with pytest.raises(ValueError, match="accuracy: registered twice"):
        metric("accuracy", "another", "confusion")(np.trace)
    with pytest.raises(ValueError, match="needs a floor"):
        metric("other", "another", "ranking")
