"""Confident learning: the worked example, the laws, and cleanlab as an oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.label_shares import with_label_shares
from affectnet.search.audit.confident_learning import (
    Codes,
    Probabilities,
    class_thresholds,
    confident_classes,
    estimated_joint,
    judge,
)
from affectnet.search.audit.folds import cut_folds

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6], [0.8, 0.2]])
"""Two classes, four faces each; the fourth and the last look mislabelled."""


def drawn(seed: int, faces: int = 400, classes: int = 4, wrong: float = 0.15) -> tuple[Codes, Codes, Probabilities]:
    """Labels with errors, the true classes, and probabilities that follow these with noise."""
    generator = np.random.default_rng(seed)
    true = generator.choice(classes, faces, p=np.arange(classes, 0, -1) / np.arange(classes + 1).sum())
    labels = np.where(generator.random(faces) < wrong, generator.integers(0, classes, faces), true)
    logits = 2.5 * np.eye(classes)[true] + generator.normal(0, 1, (faces, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, true, probabilities


def test_the_worked_example() -> None:
    thresholds = class_thresholds(LABELS, PROBABILITIES)
    assert thresholds == pytest.approx([0.625, 0.575])  # means of 0.9 0.8 0.7 0.1, and of 0.8 0.7 0.6 0.2
    confident = confident_classes(PROBABILITIES, thresholds)
    assert confident.tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    assert estimated_joint(LABELS, confident, 2).tolist() == [[3, 1], [1, 3]]
    judgement = judge(LABELS, PROBABILITIES)
    assert judgement.is_issue.tolist() == [False] * 3 + [True] + [False] * 3 + [True]
    assert judgement.suggested.tolist() == confident.tolist() and judgement.rank[3] == 1 and judgement.rank[7] == 2
    assert judgement.confidence[3] == 0.1 and judgement.suggested_confidence[3] == 0.9


@pytest.mark.parametrize("seed", range(3))
def test_planted_errors_come_first(seed: int) -> None:
    labels, true, probabilities = drawn(seed)
    judgement, wrong = judge(labels, probabilities), labels != true
    assert wrong[judgement.rank <= 2 * wrong.sum()].sum() >= 0.8 * wrong.sum()
    assert (judgement.suggested == true)[wrong & judgement.is_issue].mean() > 0.8


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_every_face_has_one_rank_and_no_face_is_lost(seed: int, classes: int) -> None:
    labels, _, probabilities = drawn(seed, 60, classes)
    judgement = judge(labels, probabilities)
    assert sorted(judgement.rank) == list(range(1, 61))
    assert judgement.joint.sum() == pytest.approx(60) and judgement.joint.sum(1) == pytest.approx(np.bincount(labels, minlength=classes))
    assert (judgement.suggested[judgement.is_issue] != labels[judgement.is_issue]).all()
    renamed = judge(classes - 1 - labels, probabilities[:, ::-1])
    assert (renamed.is_issue == judgement.is_issue).all() and (classes - 1 - renamed.suggested == judgement.suggested).all()


@pytest.mark.parametrize("seed", range(3))
def test_cleanlab_counts_and_finds_the_same(seed: int) -> None:
    count = pytest.importorskip("cleanlab.count")
    labels, _, probabilities = drawn(seed)
    thresholds = class_thresholds(labels, probabilities)
    assert thresholds == pytest.approx(count.get_confident_thresholds(labels, probabilities))
    # Where several classes reach their thresholds, cleanlab takes the most probable class of all, the paper the most probable of these.
    reach = probabilities >= thresholds
    same = (reach.sum(1) < 2) | reach[np.arange(len(labels)), probabilities.argmax(1)]
    kept, kept_probabilities = labels[same], probabilities[same]
    confident = confident_classes(kept_probabilities, class_thresholds(kept, kept_probabilities))
    joint, issues = count.compute_confident_joint(kept, kept_probabilities, calibrate=True, return_indices_of_off_diagonals=True)
    assert same.mean() > 0.9 and np.abs(estimated_joint(kept, confident, 4) - joint).max() <= 1  # cleanlab rounds to whole faces
    doubted = [row for row in sorted(issues) if kept_probabilities[row].argmax() != kept[row]]
    assert doubted == np.flatnonzero(judge(kept, kept_probabilities).is_issue).tolist() and len(doubted) > 10


@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_ignores_the_skew_is_judged_by_the_shares_of_the_labels(seed: int) -> None:
    labels, true, probabilities = drawn(seed, 2000, 4)
    shares, wrong = np.bincount(labels, minlength=4) / len(labels), labels != true
    skewed = probabilities * np.array([1, 2, 4, 8]) ** 2
    skewed /= skewed.sum(1, keepdims=True)
    scaled = with_label_shares(labels, skewed)
    assert scaled.sum(1) == pytest.approx(1) and scaled.mean(0) == pytest.approx(shares, abs=1e-3)
    assert scaled == pytest.approx(with_label_shares(labels, probabilities), abs=0.02)  # a factor per class has no part in the result
    first = {name: judge(labels, values).rank <= 2 * wrong.sum() for name, values in (("scaled", scaled), ("skewed", skewed))}
    assert wrong[first["scaled"]].sum() > wrong[first["skewed"]].sum()
    assert (with_label_shares(labels, np.eye(4)[labels]) == np.eye(4)[labels]).all()


def test_folds_keep_near_duplicates_together_and_spread_the_labels() -> None:
    generator = np.random.default_rng(1)
    groups = np.sort(generator.integers(0, 150, 300))
    labels = groups % 5
    fold = cut_folds(labels, groups, EXPRESSIONS, 4, 29)
    assert all(len(np.unique(fold[groups == group])) == 1 for group in np.unique(groups))
    counts = np.stack([np.bincount(labels[fold == number], minlength=5) for number in range(4)])
    assert (counts.max(0) - counts.min(0)).max() <= 6 and counts.min() > 0
    assert (cut_folds(labels, groups, EXPRESSIONS, 4, 29) == fold).all() and (cut_folds(labels, groups, EXPRESSIONS, 4, 30) != fold).any()


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        ([0, 0, 1, 1], [0, 1, 2, 3], r"^audit\.folds: 3 folds of 4 training faces, 4 groups .* choose 2 at most$"),
        ([0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1], r"^audit\.folds: 3 folds of 6 training faces, 2 groups .* choose 2 at most$"),
        ([0, 0, 0, 1, 1, 2], [0, 1, 2, 3, 4, 5], r"one photograph of Sad, which no other fold could teach; add photographs, or leave"),
    ],
)
def test_folds_that_cannot_be_cut_are_one_line(labels: list[int], groups: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        cut_folds(np.array(labels), np.array(groups), EXPRESSIONS, 3, 29)
    assert "\n" not in str(error.value)
