"""The tree of metrics/evaluate.json, and its scores as one line and as tables."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import Field

from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.intervals import Tree, affect_report, calibration_report, expression_report, merged
from affectnet.metrics.registry import Kind, label, registered
from affectnet.metrics.regression import DIMENSIONS
from affectnet.models.outputs import Averaging
from affectnet.params import Section
from affectnet.reporting.model_facts import report_label
from affectnet.reporting.predictions import Predictions

HEADLINES = (("expression", "accuracy"), ("expression", "macro_f1"), *((dimension, "ccc") for dimension in DIMENSIONS))
"""The scores that come first: group and key in metrics/evaluate.json."""


class Scoring(Section):
    """How a model is scored; see params.yaml, section `evaluate`."""

    seed: int = Field(ge=0)
    bootstrap: int = Field(ge=100)
    averaging: Averaging
    bins: int = Field(ge=2, le=100)


def full_report(params: Scoring, predictions: Predictions) -> Tree:
    """The content of metrics/evaluate.json."""
    training, draws = predictions.metadata.training, params.bootstrap
    validation = {name.replace("/", "_"): value for name, value in training.items() if name.startswith("validation/")}
    report: Tree = {"faces": len(predictions)}
    if training:
        report["selection"] = {"epoch": training["epoch"], "score": training["score"], **validation}
    generator = np.random.default_rng(params.seed)
    if predictions.metadata.labels:
        report = merged(report, _expression_scores("expression", predictions, draws, generator))
        if predictions.ranked:
            report |= calibration_report(predictions.true, predictions.logits, predictions.metadata.temperature, params.bins)
        if set(predictions.metadata.labels) == set(EXPRESSIONS) and "Contempt" in predictions.names:
            seven = predictions.without("Contempt")
            if len(seven):
                report = merged(report, _expression_scores("expression_7", seven, draws, generator))
    if predictions.metadata.affect:
        annotated = np.isfinite(predictions.true_affect).all(1)
        report["annotated"] = int(annotated.sum())
        for column, name in enumerate(DIMENSIONS if report["annotated"] > 1 else ()):
            true, predicted = predictions.true_affect[annotated, column], predictions.affect[annotated, column]
            report = merged(report, affect_report(name, true, predicted, draws, generator))
    return report


def _expression_scores(name: str, predictions: Predictions, draws: int, generator: np.random.Generator) -> Tree:
    return expression_report(name, predictions.true, predictions.probabilities, predictions.names, draws, generator, predictions.ranked)


def headlines(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(label, group, key) of the first scores, those that the report has."""
    for group, key in HEADLINES:
        if group in report:
            yield report_label(group, key), group, key


def summary(report: Mapping[str, Any]) -> str:
    """One line: the first scores with their intervals and floors."""
    parts = []
    for name, group, key in headlines(report):
        ends, floor = report["interval"][group][key], report["floor"][group][key]
        parts.append(f"{name} {report[group][key]:.3f} [{ends['low']:.3f}, {ends['high']:.3f}], floor {floor:.3f}")
    if report.get("annotated", report["faces"]) < report["faces"]:
        parts.append(f"valence and arousal annotated in {report['annotated']:,}")
    return f"evaluate: {report['faces']:,} test faces; {'; '.join(parts)}"


def tables(report: Mapping[str, Any], predictions: Predictions) -> str:
    """The scores that the report has, and the recall per expression, as aligned text."""
    parts = [_expression_tables(report, predictions)] if "expression" in report else []
    affect = [name for name in DIMENSIONS if name in report]
    parts += ["\n".join(_scores(report, name, f"{name}, {report['annotated']:,} faces", "affect")) for name in affect]
    return "\n\n".join(parts)


def _expression_tables(report: Mapping[str, Any], predictions: Predictions) -> str:
    counts = dict(zip(predictions.names, np.bincount(predictions.true, minlength=len(predictions.names)).tolist(), strict=True))
    faces = len(predictions)
    lines = [*_scores(report, "expression", f"{len(predictions.names)} expressions, {faces:,} faces")]
    if "expression_7" in report:
        lines += ["", *_scores(report, "expression_7", f"without Contempt, {faces - counts['Contempt']:,} faces")]
    lines += ["", f"{label('recall'):<28}{'faces':>9}{'value':>8}   95 % interval"]
    for name, count in counts.items():
        value = _cells(report, "expression", "recall", name) if count else ""
        unknown = "" if name in predictions.metadata.labels else "  unknown to the model: each an error"
        empty = "" if count else "  no face: macro-F1 counts 0 for it"
        lines.append(f"{name:<28}{count:>9,}{value}{unknown}{empty}".rstrip())
    if "calibration" in report:
        lines += ["", _calibration(report["calibration"])]
    return "\n".join(lines)


def _calibration(calibration: Mapping[str, Any]) -> str:
    scaled = calibration["temperature"] != 1
    raw = f", {calibration['ece_uncalibrated']:.3f} without the temperature of {calibration['temperature']:.3g}" if scaled else ""
    return f"calibration error {calibration['ece']:.3f}{raw}"


def _scores(report: Mapping[str, Any], group: str, title: str, *kinds: Kind) -> Iterator[str]:
    yield f"{title:<37}{'value':>8}   95 % interval    floor"
    for metric in registered(*kinds or ("confusion", "ranking")):
        if metric.key in report[group]:
            yield f"{metric.label:<37}{_cells(report, group, metric.key)}{report['floor'][group][metric.key]:>9.3f}"


def _cells(report: Mapping[str, Any], *path: str) -> str:
    """The value at the path and its interval, in columns; a ranking has none where a resample may hold a single expression."""
    value: Any = report
    ends: Any = report["interval"]
    for key in path:
        value, ends = value[key], ends.get(key)
    return f"{value:>8.3f}   " + ("–".center(13) if ends is None else f"{ends['low']:.3f} – {ends['high']:.3f}")
