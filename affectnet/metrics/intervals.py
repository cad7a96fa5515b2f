"""Every registered score of a model on a test split, with its interval and floor, as trees of plain numbers.

A score's 95 % interval is the percentile bootstrap over the test faces, its floor the score of the best constant answer.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectnet.metrics.bootstrap import interval, resampled, resampled_faces
from affectnet.metrics.calibration import negative_log_likelihood, probabilities, reliability
from affectnet.metrics.classification import Counts, confusion_matrix
from affectnet.metrics.ranking import ranking_scores
from affectnet.metrics.registry import registered
from affectnet.metrics.skew import equal_class_weights, skew_normalised

Values = NDArray[np.float64]
Tree = dict[str, Any]


def expression_report(
    name: str,
    true: NDArray[np.integer],
    chances: Values,
    names: list[str],
    draws: int,
    generator: np.random.Generator,
    ranked: bool = True,
) -> Tree:
    """Under `name`, and with the same paths under `interval` and `floor`, the scores of an expression classifier.

    true: (n,) columns; chances: (n, k) probabilities, 0 for a class that the model does not know; names: of the k classes. Rankings are
    means over the classes, and left out where an answer is one name per face (`ranked` is false). `skew_normalised` is as if each class
    had as many test faces. A score of one class has no interval where the class has a single face: resamples of it do not vary.
    """
    counts = confusion_matrix(true, chances.argmax(1), len(names))
    scores = confusion_scores(counts, names)
    resamples = confusion_scores(resampled(counts, draws, generator), names, counts.sum(1))
    if ranked:
        scores = merged(scores, mean_rankings(true, chances, np.ones((1, len(true)))))
        rankings = [mean_rankings(true, chances, _times_drawn(rows)) for rows in resampled_faces(len(true), draws, generator)]
        resamples = merged(resamples, _joined(rankings))
    return _report(name, scores, resamples, _expression_floors(counts, names, ranked))


def confusion_scores(counts: Counts, names: list[str], support: NDArray[np.integer] | None = None) -> Tree:
    """The scores of (…, k, k) confusion matrices.

    support: (k,) faces of each class, where the matrices are resamples of them. A resample without a face of a class says nothing about
    it: the class's scores are NaN, as always where the class has a single face, and means over the classes leave it out.
    """
    lacking = np.zeros(counts.shape[:-1], np.bool_) if support is None else (counts.sum(-1) == 0) & (support > 0)
    unknown = lacking if support is None else lacking | (support == 1)
    rest = len(names) / (~lacking).sum(-1)
    return {
        **_totals(counts, rest),
        "skew_normalised": _totals(skew_normalised(counts), rest),
        **{one.key: _by_name(np.where(unknown, np.nan, one.score(counts)), names) for one in registered("per_class")},
    }


def _totals(counts: NDArray[np.number], rest: Values) -> Tree:
    """rest: (…,) classes for each class that a mean over them is to count."""
    return {one.key: one.score(counts) * (rest if one.class_mean else 1.0) for one in registered("confusion")}


def mean_rankings(true: NDArray[np.integer], probabilities: Values, mass: NDArray[np.number]) -> Tree:
    """The mean ranking scores over the classes, for each row of (draws, n) weights of the faces."""
    per_class = ranking_scores(true, probabilities, mass)
    equal = ranking_scores(true, probabilities, equal_class_weights(true, mass))
    return {**map_leaves(per_class, _mean), "skew_normalised": map_leaves(equal, _mean)}


def _expression_floors(counts: Counts, names: list[str], ranked: bool) -> Tree:
    """Each score's floor: the best constant answer, unless the metric states another."""
    floors = map_leaves(confusion_scores(constant_answers(counts), names), lambda values: values.max(0))
    support = counts.sum(1)
    for one in registered("confusion", "per_class"):
        if one.floor is not None:
            stated = one.floor(support)
            floors[one.key] = stated if one.kind == "confusion" else _by_name(stated, names)
    shares = support[support > 0] / support.sum()
    for one in registered("ranking") if ranked else ():
        assert one.floor is not None  # `metric` asks for it
        floors[one.key] = one.floor(shares).mean()
        floors["skew_normalised"][one.key] = one.floor(np.float64(1 / len(shares)))
    return floors


def constant_answers(confusion: Counts) -> Counts:
    """(k, k, k): the confusion matrix of each of the k predictors that always give the same answer."""
    support = confusion.sum(1)
    matrices: Counts = np.eye(len(support), dtype=np.int64)[:, None, :] * support[None, :, None]
    return matrices


def affect_report(name: str, true: Values, predicted: Values, draws: int, generator: np.random.Generator) -> Tree:
    """`valence` or `arousal`, by `name`, with intervals and floors, over the faces whose (n,) annotation is finite."""
    annotated = np.isfinite(true)
    t, p = true[annotated].astype(np.float64), predicted[annotated].astype(np.float64)
    metrics = registered("affect")
    resamples = _joined([{one.key: one.score(t[rows], p[rows]) for one in metrics} for rows in resampled_faces(len(t), draws, generator)])
    floors = {one.key: one.floor(t) for one in metrics if one.floor is not None}
    return _report(name, {one.key: one.score(t, p) for one in metrics}, resamples, floors)


def calibration_report(true: NDArray[np.integer], logits: Values, temperature: float, bins: int) -> Tree:
    """Expected calibration error and negative log likelihood, as they are and with the model's temperature.

    The likelihood is over the faces whose expression the model knows, and left out when there is none.
    """
    scores: Tree = {"temperature": temperature}
    known = np.isfinite(logits[np.arange(len(true)), true])
    for suffix, scale in (("", temperature), ("_uncalibrated", 1.0)):
        calibrated = probabilities(logits, scale)
        right = calibrated.argmax(1) == true
        scores[f"ece{suffix}"] = reliability(calibrated.max(1), right, bins).ece
        if known.any():
            scores[f"nll{suffix}"] = negative_log_likelihood(logits[known] / scale, true[known])
    return {"calibration": scores}


def map_leaves(tree: Mapping[str, Any], change: Callable[[Any], Any]) -> Tree:
    """The tree with each leaf changed."""
    return {key: map_leaves(value, change) if isinstance(value, Mapping) else change(value) for key, value in tree.items()}


def _report(name: str, scores: Tree, resamples: Tree, floors: Tree) -> Tree:
    def bounds(values: Values) -> dict[str, float]:
        low, high = interval(values[np.isfinite(values)])
        return {"low": float(low), "high": float(high)}

    return {
        name: map_leaves(_known(scores), lambda value: float(np.squeeze(value))),
        "interval": {name: map_leaves(_known(resamples), bounds)},
        "floor": {name: map_leaves(floors, float)},
    }


def _known(tree: Mapping[str, Any]) -> Tree:
    """Without the leaves that have no value: a ranking where a single class has faces."""
    kept = {key: _known(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
    return {key: value for key, value in kept.items() if isinstance(value, Mapping) or np.isfinite(value).any()}


def _times_drawn(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(draws, n) how often each resample, (draws, n) rows, holds each face."""
    cells = rows + np.arange(len(rows))[:, None] * rows.shape[1]
    return np.bincount(cells.ravel(), minlength=rows.size).reshape(rows.shape)


def _joined(parts: list[Tree]) -> Tree:
    return {
        key: _joined([part[key] for part in parts]) if isinstance(value, Mapping) else np.concatenate([part[key] for part in parts])
        for key, value in parts[0].items()
    }


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    """Both trees' leaves as one tree."""
    return {**one, **other, **{key: merged(one[key], other[key]) for key in one if key in other}}


def _by_name(values: Values, names: list[str]) -> Tree:
    """Name → (…) of (…, k) values per class."""
    return dict(zip(names, np.moveaxis(values, -1, 0), strict=True))


def _mean(per_class: Values) -> Values:
    """Mean over the last axis, of the classes that can be ranked."""
    known = np.isfinite(per_class)
    total = np.where(known, per_class, 0.0).sum(-1)
    mean: Values = np.divide(total, known.sum(-1), out=np.full(total.shape, np.nan), where=known.any(-1))
    return mean
