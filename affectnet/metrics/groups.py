"""Scores by group, such as women and men: each group's with its interval, and the largest gap with its interval and a permutation test.

Accuracy, macro-F1 and recall of the expressions, and the CCC of valence and arousal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affectnet.metrics.bootstrap import interval, resampled, resampled_faces
from affectnet.metrics.classification import Counts, scores
from affectnet.metrics.expression_scores import mean_of_present
from affectnet.metrics.intervals import constant_answers
from affectnet.metrics.regression import DIMENSIONS, affect_scores

Values = NDArray[np.float64]
Scores = dict[str, Values]
"""accuracy, macro_f1, valence_ccc, arousal_ccc, those that the model has, and recall/<column> per expression → one value per group,
or per group and draw."""

TESTED = ("accuracy", "macro_f1", *(f"{dimension}_ccc" for dimension in DIMENSIONS))
"""The scores whose gap between groups is tested, in the order of tables."""

SAME = 1e-12
"""Gaps that differ by less are equal."""


@dataclass(frozen=True)
class Answers:
    """A model's answers about n faces: true and predicted (n,) columns of the k `names`, all empty for a model without expressions;

    true_affect (n, 2), NaN where not annotated; affect (n, 2), or (n, 0) for a model without valence and arousal.
    """

    names: Sequence[str]
    true: NDArray[np.integer]
    predicted: NDArray[np.integer]
    true_affect: Values
    affect: Values

    def of(self, faces: NDArray[np.bool_]) -> "Answers":
        expressions = faces if len(self.names) else slice(None)
        return Answers(self.names, self.true[expressions], self.predicted[expressions], self.true_affect[faces], self.affect[faces])


@dataclass(frozen=True)
class Gap:
    """Highest minus lowest score, and the numbers of these two groups; low, high: the 95 % interval of the difference of these two;

    p: the share of permutations with a gap as large.
    """

    value: float
    highest: int
    lowest: int
    low: float
    high: float
    p: float


def group_scores(answers: Answers, group: NDArray[np.integer], groups: int, least: int) -> Scores:
    """Each score per group, NaN for a group without one. group: (n,) of each face, 0 to groups − 1.

    Macro-F1 is the mean over the expressions that the group's faces have, and a recall is NaN for one that they do not have. CCC is
    NaN for a group with fewer than `least` annotated faces.
    """
    values: Scores = {}
    if classes := len(answers.names):
        cells = (group * classes + answers.true) * classes + answers.predicted
        confusion = np.bincount(cells, minlength=groups * classes**2).reshape(groups, classes, classes)
        values |= _expression_scores(confusion, answers.names)
    for column in range(answers.affect.shape[1]):
        values[f"{DIMENSIONS[column]}_ccc"] = _ccc(answers.true_affect[:, column], answers.affect[:, column], group, groups, least)
    return values


def group_intervals(answers: Answers, draws: int, least: int, generator: np.random.Generator) -> Scores:
    """(draws,) of each score over resamples of the faces of one group, with replacement; only of those that `group_scores` has.

    A recall is NaN in a resample without a face of its expression, and in all where the expression has a single face: it never varies.
    """
    values: Scores = {}
    if classes := len(answers.names):
        cells = answers.true * classes + answers.predicted
        confusion = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
        values |= _expression_scores(resampled(confusion, draws, generator), answers.names)
        single = [name for name, faces in zip(answers.names, confusion.sum(1), strict=True) if faces == 1]
        values |= {f"recall/{name}": np.full(draws, np.nan) for name in single}
    for column in range(answers.affect.shape[1]):
        annotated = np.isfinite(answers.true_affect[:, column])
        if annotated.sum() >= least:
            true, predicted = answers.true_affect[annotated, column], answers.affect[annotated, column]
            parts = [affect_scores(true[rows], predicted[rows]).ccc for rows in resampled_faces(len(true), draws, generator)]
            values[f"{DIMENSIONS[column]}_ccc"] = np.concatenate(parts)
    return values


def group_floors(answers: Answers) -> dict[str, float]:
    """The best constant answers' accuracy and macro-F1 over these faces."""
    confusion = constant_answers(np.diag(np.bincount(answers.true, minlength=len(answers.names))))
    constant = _expression_scores(confusion, answers.names)
    return {name: float(constant[name].max()) for name in ("accuracy", "macro_f1")}


def largest_gaps(
    answers: Answers, group: NDArray[np.integer], resamples: Sequence[Scores], least: int, generator: np.random.Generator
) -> dict[str, Gap]:
    """The largest gap of each tested score between the groups that have it; without the scores that fewer than two have.

    resamples: of each group, from `group_intervals`. The permutations are as many as the draws. Each shuffles the groups among the
    faces of the same expression, those with valence and arousal among themselves: groups that only differ in how often they show each
    expression have no gap that the test reports, and each group has as many annotated faces in a permutation as in the data.
    """
    groups = len(resamples)
    actual = group_scores(answers, group, groups, least)
    tested = [name for name in TESTED if name in actual and np.isfinite(actual[name]).sum() > 1]
    draws = max(len(values) for scores in resamples for values in scores.values()) if tested else 0
    as_large = dict.fromkeys(tested, 0)
    strata = answers.true.astype(np.int64) if len(answers.names) else np.zeros(len(group), np.int64)
    for column in range(answers.affect.shape[1]):
        strata = 2 * strata + np.isfinite(answers.true_affect[:, column])
    for _ in range(draws):
        by_chance = group_scores(answers, _shuffled(group, strata, generator), groups, least)
        for name in tested:
            as_large[name] += _extent(by_chance[name]) >= _extent(actual[name]) - SAME
    return {name: _gap(name, actual[name], resamples, (1 + as_large[name]) / (1 + draws)) for name in tested}


def _gap(name: str, values: Values, resamples: Sequence[Scores], p: float) -> Gap:
    highest, lowest = int(np.nanargmax(values)), int(np.nanargmin(values))
    low, high = interval(resamples[highest][name] - resamples[lowest][name])
    return Gap(float(values[highest] - values[lowest]), highest, lowest, float(low), float(high), p)


def _expression_scores(confusion: Counts, names: Sequence[str]) -> Scores:
    """Of (…, k, k) confusion matrices, each over the classes that have faces in it."""
    present = confusion.sum(-1) > 0
    scored = scores(confusion)
    recall = np.where(present, scored.recall, np.nan)
    macro_f1 = mean_of_present(scored.f1, present)
    return {"accuracy": scored.accuracy, "macro_f1": macro_f1} | {f"recall/{name}": recall[..., at] for at, name in enumerate(names)}


def _ccc(true: Values, predicted: Values, group: NDArray[np.integer], groups: int, least: int) -> Values:
    """(groups,) CCC, as `affect_scores`, from the sums per group, so that thousands of permutations take seconds."""
    annotated = np.isfinite(true)
    t, p, of = true[annotated], predicted[annotated], group[annotated]
    count = np.bincount(of, minlength=groups)
    mean_t, mean_p, square_t, square_p, product = (
        np.divide(np.bincount(of, values, groups), count, out=np.full(groups, np.nan), where=count >= least)
        for values in (t, p, t * t, p * p, t * p)
    )
    cov = product - mean_t * mean_p
    spread = square_t - mean_t**2 + square_p - mean_p**2 + (mean_t - mean_p) ** 2
    ccc: Values = np.divide(2 * cov, spread, out=np.where(np.isnan(cov), np.nan, 0.0), where=spread > SAME)
    return ccc


def _shuffled(group: NDArray[np.integer], strata: NDArray[np.integer], generator: np.random.Generator) -> NDArray[np.integer]:
    """The groups in random order within each stratum."""
    shuffled = np.empty_like(group)
    shuffled[np.argsort(strata, kind="stable")] = group[np.lexsort((generator.random(len(group)), strata))]
    return shuffled


def _extent(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(known.max() - known.min()) if len(known) else 0.0


def bounds(resamples: Mapping[str, Values]) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each score, over the resamples that have it; without the scores that none has."""
    known = {name: values[np.isfinite(values)] for name, values in resamples.items()}
    ends = {name: interval(values) for name, values in known.items() if len(values)}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}
