"""Scores the model on the test split, once, from the model file alone: its crops, preprocessing and label order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from affectnet import curves
from affectnet.affect_scores import DIMENSIONS
from affectnet.answer_table import write_answers
from affectnet.answers import Answers, answers
from affectnet.atomic import replacing, write_json
from affectnet.calibration import reliability
from affectnet.expressions import EXPRESSIONS
from affectnet.figures import circumplex_svg
from affectnet.launch import launch
from affectnet.params import Runtime, Section
from affectnet.reports import Tree, affect_report, calibration_report, expression_report, merged
from affectnet.scores import confusion_matrix


class EvaluateParams(Section):
    """Section `evaluate`."""

    seed: int = Field(ge=0)
    bootstrap: int = Field(ge=100)
    flip: bool
    bins: int = Field(ge=2, le=100)


def run(
    params: EvaluateParams,
    runtime: Runtime,
    faces: Path,
    model: Path,
    train: Path,
    *,
    metrics: Path,
    confusion: Path,
    calibration: Path,
    precision_recall: Path,
    circumplex: Path,
    learning: Path,
    loss_weights: Path,
    test_answers: Path,
) -> str:
    """Writes the scores with intervals and floors, what the plots show, and the answers face by face; returns the summary line."""
    found = answers(model, faces, runtime, params.flip)
    report = full_report(params, found)
    write_json(metrics, report)
    sure, right = found.probabilities.max(1, initial=0.0), found.predicted == found.true
    curves.write_confusion(confusion, confusion_matrix(found.true, found.predicted, len(found.names)), found.names)
    curves.write_reliability(calibration, reliability(sure, right, params.bins))
    curves.write_precision_recall(precision_recall, found.true, found.probabilities, found.names)
    with replacing(circumplex) as temporary:
        temporary.write_text(circumplex_svg(found.true_affect, found.affect), encoding="utf-8")
    curves.write_learning(learning, loss_weights, curves.read_learning(train))
    write_answers(test_answers, found)
    return summary(report)


def full_report(params: EvaluateParams, found: Answers) -> Tree:
    """All that metrics/evaluate.json holds."""
    training = found.card.training
    validation = {name.replace("/", "_"): value for name, value in training.items() if name.startswith("validation/")}
    report: Tree = {"faces": len(found), "selection": {"epoch": training["epoch"], "score": training["score"], **validation}}
    generator = np.random.default_rng(params.seed)
    if found.card.labels:
        report = merged(report, expression_report("expression", found.true, found.logits, found.names, params.bootstrap, generator))
        report |= calibration_report(found.true, found.logits, found.card.temperature, params.bins)
        if len(found.card.labels) == len(EXPRESSIONS) and "Contempt" in found.names:
            seven = found.without("Contempt")
            report = merged(report, expression_report("expression_7", seven.true, seven.logits, seven.names, params.bootstrap, generator))
    annotated = int(np.isfinite(found.true_affect).all(1).sum())
    if found.card.affect:
        report["annotated"] = annotated
    for column, name in enumerate(DIMENSIONS if found.card.affect and annotated > 1 else ()):
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


if __name__ == "__main__":
    launch(run)
