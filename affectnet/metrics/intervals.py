"""What a test split says of a model: every score, with its interval and its floor, as trees of plain numbers.

A score's 95 % interval is the percentile bootstrap over the test faces, its floor what the best constant answer reaches.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectnet.metrics.agreement import cohens_kappa, equal_class_weights, krippendorffs_alpha, ranking_scores, skew_normalised
from affectnet.metrics.calibration import negative_log_likelihood, probabilities, reliability
from affectnet.metrics.classification import Counts, confusion_matrix, constant_answers, interval, resampled, resampled_faces, scores
from affectnet.metrics.regression import affect_scores, constant_affect_floors

Values = NDArray[np.float64]
Tree = dict[str, Any]


def expression_report(
    name: str, true: NDArray[np.integer], logits: Values, names: list[str], draws: int, generator: np.random.Generator
) -> Tree:
    """Under `name`, and with the same paths under `interval` and `floor`, the scores of an expression classifier.

    true: (n,) columns; logits: (n, k), −∞ for a class that the model does not know; names: of the k classes. AUC and AUCPR
    are means over the classes. `skew_normalised` is as if each class had as many test faces.
    """
    chances = probabilities(logits, 1.0)
    counts = confusion_matrix(true, chances.argmax(1), len(names))
    found = merged(counted(counts, names), ranked(true, chances, np.ones((1, len(true)))))
    spread = merged(
        counted(resampled(counts, draws, generator), names),
        _joined([ranked(true, chances, _times_drawn(rows)) for rows in resampled_faces(len(true), draws, generator)]),
    )
    shares = counts.sum(1) / counts.sum()
    constant = mapped(counted(constant_answers(counts), names), lambda values: values.max(0))
    ranking = {"auc": 0.5, "aucpr": float(shares[shares > 0].mean())}
    ranking["skew_normalised"] = {"auc": 0.5, "aucpr": 1 / int((shares > 0).sum())}  # type: ignore[assignment]
    floor = merged(constant, ranking) | {"recall": dict.fromkeys(names, 1 / len(names))}
    return _report(name, found, spread, floor)


def counted(counts: Counts, names: list[str]) -> Tree:
    """All scores of (…, k, k) confusion matrices."""
    found, equal = scores(counts), skew_normalised(counts)
    per_class = {"recall": found.recall, "precision": found.precision, "f1": found.f1}
    return {
        "accuracy": found.accuracy,
        "macro_f1": found.macro_f1,
        "kappa": cohens_kappa(counts),
        "alpha": krippendorffs_alpha(counts),
        "skew_normalised": {
            "accuracy": scores(equal).accuracy,
            "macro_f1": scores(equal).macro_f1,
            "kappa": cohens_kappa(equal),
            "alpha": krippendorffs_alpha(equal),
        },
        **{key: dict(zip(names, np.moveaxis(values, -1, 0), strict=True)) for key, values in per_class.items()},
    }


def ranked(true: NDArray[np.integer], probabilities: Values, mass: NDArray[np.number]) -> Tree:
    """Mean AUC and AUCPR over the classes, for each row of (draws, n) weights of the faces."""
    auc, aucpr = ranking_scores(true, probabilities, mass)
    equal_auc, equal_aucpr = ranking_scores(true, probabilities, equal_class_weights(true, mass))
    return {
        "auc": _mean(auc),
        "aucpr": _mean(aucpr),
        "skew_normalised": {"auc": _mean(equal_auc), "aucpr": _mean(equal_aucpr)},
    }


def affect_report(name: str, true: Values, predicted: Values, draws: int, generator: np.random.Generator) -> Tree:
    """`valence` or `arousal`, by `name`, with intervals and floors, over the faces whose (n,) truth is finite."""
    known = np.isfinite(true)
    t, p = true[known].astype(np.float64), predicted[known].astype(np.float64)
    spread = _joined([vars(affect_scores(t[rows], p[rows])) for rows in resampled_faces(len(t), draws, generator)])
    return _report(name, vars(affect_scores(t, p)), spread, vars(constant_affect_floors(t)))


def calibration_report(true: NDArray[np.integer], logits: Values, temperature: float, bins: int) -> Tree:
    """Expected calibration error and negative log likelihood, as they are and with the model's temperature.

    The likelihood is over the faces whose expression the model knows, and left out when there is none.
    """
    found: Tree = {"temperature": temperature}
    known = np.isfinite(logits[np.arange(len(true)), true])
    for suffix, scale in (("", temperature), ("_uncalibrated", 1.0)):
        calibrated = probabilities(logits, scale)
        right = calibrated.argmax(1) == true
        found[f"ece{suffix}"] = reliability(calibrated.max(1), right, bins).ece
        if known.any():
            found[f"nll{suffix}"] = negative_log_likelihood(logits[known] / scale, true[known])
    return {"calibration": found}


def mapped(tree: Mapping[str, Any], change: Callable[[Any], Any]) -> Tree:
    """The tree with each leaf changed."""
    return {key: mapped(value, change) if isinstance(value, Mapping) else change(value) for key, value in tree.items()}


def _report(name: str, found: Tree, spread: Tree, floor: Tree) -> Tree:
    def bounds(values: Values) -> dict[str, float]:
        low, high = interval(values)
        return {"low": float(low), "high": float(high)}

    return {
        name: mapped(_finite(found), lambda value: float(np.squeeze(value))),
        "interval": {name: mapped(_finite(spread), bounds)},
        "floor": {name: mapped(floor, float)},
    }


def _finite(tree: Mapping[str, Any]) -> Tree:
    """Without the leaves that have no value: a ranking where a single class has faces."""
    kept = {key: _finite(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
    return {key: value for key, value in kept.items() if isinstance(value, Mapping) or np.isfinite(value).all()}


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


def _mean(per_class: Values) -> Values:
    """Mean over the last axis, of the classes that can be ranked."""
    known = np.isfinite(per_class)
    total = np.where(known, per_class, 0.0).sum(-1)
    found: Values = np.divide(total, known.sum(-1), out=np.full(total.shape, np.nan), where=known.any(-1))
    return found
