"""All that is reported of a model's answers: the tree of metrics/evaluate.json, the same as one line and as tables."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import Field

from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.intervals import Tree, affect_report, calibration_report, expression_report, merged
from affectnet.metrics.regression import DIMENSIONS
from affectnet.models.forward import Averaging
from affectnet.params import Section
from affectnet.reporting.predictions import Predictions

SHOWN = {"accuracy": "accuracy", "macro_f1": "macro-F1", "kappa": "Cohen's κ", "alpha": "Krippendorff's α", "auc": "AUC", "aucpr": "AUCPR"}
"""Scores of the table, by their key."""


class Scoring(Section):
    """How a model is scored; see params.yaml, section `evaluate`."""

    seed: int = Field(ge=0)
    bootstrap: int = Field(ge=100)
    averaging: Averaging
    bins: int = Field(ge=2, le=100)


def full_report(params: Scoring, found: Predictions) -> Tree:
    """All that metrics/evaluate.json holds."""
    training = found.metadata.training
    validation = {name.replace("/", "_"): value for name, value in training.items() if name.startswith("validation/")}
    report: Tree = {"faces": len(found), "selection": {"epoch": training["epoch"], "score": training["score"], **validation}}
    generator = np.random.default_rng(params.seed)
    if found.metadata.labels:
        report = merged(report, expression_report("expression", found.true, found.logits, found.names, params.bootstrap, generator))
        report |= calibration_report(found.true, found.logits, found.metadata.temperature, params.bins)
        if len(found.metadata.labels) == len(EXPRESSIONS) and "Contempt" in found.names:
            seven = found.without("Contempt")
            if len(seven):
                report = merged(
                    report, expression_report("expression_7", seven.true, seven.logits, seven.names, params.bootstrap, generator)
                )
    annotated = int(np.isfinite(found.true_affect).all(1).sum())
    if found.metadata.affect:
        report["annotated"] = annotated
    for column, name in enumerate(DIMENSIONS if found.metadata.affect and annotated > 1 else ()):
        report = merged(report, affect_report(name, found.true_affect[:, column], found.affect[:, column], params.bootstrap, generator))
    return report


def summary(report: Mapping[str, Any]) -> str:
    """One line: the first scores with their intervals and the floors."""
    parts = []
    for name, score, label in (
        ("expression", "accuracy", "accuracy"),
        ("expression", "macro_f1", "macro-F1"),
        *((name, "ccc", f"{name} CCC") for name in DIMENSIONS),
    ):
        if name in report:
            spread, floor = report["interval"][name][score], report["floor"][name][score]
            parts.append(f"{label} {report[name][score]:.3f} [{spread['low']:.3f}, {spread['high']:.3f}], floor {floor:.3f}")
    if report.get("annotated", report["faces"]) < report["faces"]:
        parts.append(f"valence and arousal annotated in {report['annotated']:,}")
    return f"evaluate: {report['faces']:,} test faces; {'; '.join(parts)}"


def tables(report: Mapping[str, Any], found: Predictions) -> str:
    """The scores of the expressions, and each expression's recall, aligned, for reading."""
    counts = dict(zip(found.names, np.bincount(found.true, minlength=len(found.names)).tolist(), strict=True))
    lines = [*_scores(report, "expression", f"{len(found.names)} expressions, {len(found):,} faces")]
    if "expression_7" in report:
        lines += ["", *_scores(report, "expression_7", f"without Contempt, {len(found) - counts['Contempt']:,} faces")]
    lines += ["", f"{'recall':<28}{'faces':>9}{'value':>8}   95 % interval"]
    for name, count in counts.items():
        value = _cells(report, "expression", "recall", name) if count else ""
        unknown = "" if name in found.metadata.labels else "  unknown to the model: each an error"
        lines.append(f"{name:<28}{count:>9,}{value}{unknown}".rstrip())
    calibration = report["calibration"]
    errors = f"calibration error {calibration['ece']:.3f}, {calibration['ece_uncalibrated']:.3f} without the temperature"
    return "\n".join([*lines, "", f"{errors} of {calibration['temperature']:.3g}"])


def _scores(report: Mapping[str, Any], name: str, title: str) -> Iterator[str]:
    yield f"{title:<37}{'value':>8}   95 % interval    floor"
    for key, label in SHOWN.items():
        if key in report[name]:
            yield f"{label:<37}{_cells(report, name, key)}{report['floor'][name][key]:>9.3f}"


def _cells(report: Mapping[str, Any], *path: str) -> str:
    """The value at the path and its interval, in columns; a ranking has none where a resample may hold a single expression."""
    value: Any = report
    spread: Any = report["interval"]
    for key in path:
        value, spread = value[key], spread.get(key)
    return f"{value:>8.3f}   " + ("–".center(13) if spread is None else f"{spread['low']:.3f} – {spread['high']:.3f}")
