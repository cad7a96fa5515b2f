"""Writes what the run found as pages: scores and data without a face for Git, the same with faces for the user, a model card.

The network runs on the processor, whatever `runtime.device` says: the pages' bytes are the same each time.
"""

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import classification_report as scores_in_text

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS, SPLITS
from affectnet.files.atomic import write_text
from affectnet.metrics.regression import DIMENSIONS
from affectnet.models.checkpoint import ModelMetadata, load_model
from affectnet.models.device import prepare
from affectnet.params import PARAMS_FILE, Section, catalogue_name, read_document
from affectnet.reporting import gradcam
from affectnet.reporting.contact_sheet import Answered, show
from affectnet.reporting.prediction_table import PREDICTIONS
from affectnet.reporting.svg import Line, circumplex_svg, confusion_svg, lines_svg, read_confusion
from affectnet.reporting.templates import Numbers, fill, leaves, shown
from affectnet.running.run_stage import launch

SWITCHES = ("dataset", "model", "optimizer", "loss", "task")
SECTIONS = ("acquire", "verify", "clean", "crop", "rebalance", "train", "evaluate")
"""What of params.yaml stands on the page: dvc.yaml tracks it."""

SCORES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "kappa": "Cohen’s κ",
    "alpha": "Krippendorff’s α",
    "auc": "AUC",
    "aucpr": "AUC-PR",
    "rmse": "RMSE",
    "corr": "correlation",
    "sagr": "sign agreement",
    "ccc": "CCC",
}


class ReportParams(Section):
    """Section `report`."""

    examples: int = Field(ge=0, le=50)
    errors: int = Field(ge=0, le=50)


def run(
    params: ReportParams,
    faces: Path,
    test_predictions: Path,
    model: Path,
    verify: Path,
    clean: Path,
    rebalance: Path,
    evaluate: Path,
    confusion: Path,
    calibration: Path,
    precision_recall: Path,
    learning: Path,
    loss_weights: Path,
    page: Path,
    card: Path,
    *,
    metrics: Path,
    report: Path,
    model_card: Path,
    classification_report: Path,
) -> str:
    """Writes the pages and the table; returns the summary line."""
    prepare(torch.device("cpu"))
    table = PREDICTIONS.read(test_predictions)
    network, about = load_model(model)
    numbers = Numbers({path.stem: read_json(path) for path in (verify, clean, rebalance, evaluate)})
    given = {
        **made_by(read_document()),
        **provenance(model, network, about),
        "n": numbers,
        "scores": SCORES,
        "expressions": EXPRESSIONS,
        "splits": SPLITS,
        "sheets": None,
    }
    charts = drawn(confusion, calibration, precision_recall, learning, loss_weights)
    charts["circumplex"] = Markup(circumplex_svg(*affect(table))) if about.affect else None
    given["charts"] = charts
    write_text(metrics, fill(page, given))
    sheets = contact_sheets(params, faces, table, network, about)
    write_text(report, fill(page, {**given, "sheets": sheets}))
    write_text(model_card, fill(card, given))
    write_text(classification_report, in_text(table))
    return f"report: {len(table):,} test faces, {sheets['shown']:,} of them shown in {report}; {metrics}; {model_card}"


def read_json(path: Path) -> dict[str, Any]:
    """The metrics of a stage. Errors: UserError when they are missing or none."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dvc repro`") from None
    except ValueError as error:
        raise UserError(f"{path}: no readable JSON: {error}; run `dvc repro`") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no mapping; run `dvc repro`")
    return found


def read_columns(path: Path) -> dict[str, list[float]]:
    """A table of evaluate by column, NaN where a cell is empty. Errors: UserError when it is missing or holds anything else."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
            columns = zip(*([float(cell) if cell else float("nan") for cell in row] for row in rows), strict=True)
            return dict(zip(header, map(list, columns), strict=True)) if rows else {name: [] for name in header}
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dvc repro`") from None
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a table of numbers ({error}); run `dvc repro`") from None


def made_by(document: Mapping[str, Any]) -> dict[str, Any]:
    """The switches, and the params of every stage and selected entry by dotted name; where a data set lies is nobody's business."""
    try:
        switches = {name: document[name] for name in SWITCHES}
        chosen = {f"{catalogue_name(name)}.{entry}": document[catalogue_name(name)][entry] for name, entry in switches.items()}
        sections = {**chosen, **{name: document[name] for name in SECTIONS}}
        layout = document["datasets"][switches["dataset"]]["layout"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{PARAMS_FILE}: no entry {error}; see the shipped file") from None
    params = {
        section: [
            (name, shown(value) if not isinstance(value, float) else f"{value:g}") for name, value in leaves(values) if name != "root"
        ]
        for section, values in sections.items()
    }
    return {"switches": switches, "params": params, "layout": layout, "demo": layout == "demo"}


def provenance(model: Path, network: torch.nn.Module, metadata: ModelMetadata) -> dict[str, Any]:
    """What the model file says of itself, and the file's own hash."""
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    weights = sum(parameter.numel() for parameter in network.parameters())
    return {"metadata": metadata, "model": {"bytes": model.stat().st_size, "weights": weights, "sha256": digest}}


def affect(table: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 2) annotated and (n, 2) predicted valence and arousal, NaN where unknown."""
    true, predicted = (
        np.stack([table[f"{prefix}{name}"].to_numpy().astype(np.float64) for name in DIMENSIONS], 1) for prefix in ("", "predicted_")
    )
    return true, predicted


def drawn(confusion: Path, calibration: Path, precision_recall: Path, learning: Path, loss_weights: Path) -> dict[str, Any]:
    """The charts as SVG, by name; one that would be empty is None."""
    curves, weights, sure, ranked = map(read_columns, (learning, loss_weights, calibration, precision_recall))
    judged = bool(sure["faces"])
    most = max(sure["faces"], default=1)
    reliability = [
        Line("test faces", points(sure, "confidence", "accuracy"), [3 + 9 * (count / most) ** 0.5 for count in sure["faces"]]),
        Line("calibrated", [(0, 0), (1, 1)]),
    ]
    unit = (0.0, 1.0)
    return {
        "confusion": Markup(confusion_svg(*read_confusion(confusion))) if judged else None,
        "reliability": Markup(lines_svg(reliability, unit, unit, "share of right answers", "confidence")) if judged else None,
        "precision_recall": [
            Markup(lines_svg([Line(name, points(ranked, "recall", name))], unit, unit, name, "recall", (150, 110)))
            for name in EXPRESSIONS
            if points(ranked, "recall", name)
        ],
        "learning": list(learning_charts(curves)),
        **weight_charts(weights),
    }


def points(columns: Mapping[str, list[float]], across: str, up: str) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(columns[across], columns.get(up, []), strict=False) if np.isfinite(y)]


def learning_charts(curves: Mapping[str, list[float]]) -> list[Markup]:
    """Losses, and scores on our validation split, by epoch."""
    epochs = (1.0, max(curves["epoch"], default=1.0))
    losses = [Line(name, points(curves, "epoch", f"{name}_loss")) for name in ("train", "validation")]
    most = max((y for line in losses for _, y in line.points), default=1.0)
    found = [Markup(lines_svg(losses, epochs, (min(0.0, *(y for line in losses for _, y in line.points)), most), "loss", "epoch"))]
    for title, names in (("score on validation", ("macro_f1", "accuracy")), ("CCC on validation", ("valence_ccc", "arousal_ccc"))):
        lines = [Line(name.replace("_", " "), points(curves, "epoch", f"validation_{name}")) for name in names]
        if any(line.points for line in lines):
            low = min(0.0, *(y for line in lines for _, y in line.points))
            found.append(Markup(lines_svg(lines, epochs, (low, 1.0), title, "epoch")))
    return found


def weight_charts(weights: Mapping[str, list[float]]) -> dict[str, Any]:
    """A chart a weight that moved; those that stood still by their value."""
    still: dict[str, float] = {}
    moved: list[Markup] = []
    for name, values in weights.items():
        if name == "epoch" or not any(values):  # not learned
            continue
        if max(values) - min(values) < 1e-9:
            still[name] = values[-1]
            continue
        up, across = (min(0.0, *values), max(values)), (1.0, max(weights["epoch"]))
        moved.append(Markup(lines_svg([Line(name, points(weights, "epoch", name))], across, up, name, "epoch", (150, 110))))
    return {"weights_moved": moved, "weights_still": still}


def contact_sheets(params: ReportParams, faces: Path, table: Any, network: torch.nn.Module, metadata: ModelMetadata) -> dict[str, Any]:
    """The faces to show: examples by expression with Grad-CAM, the surest errors by confusion; none for a model without expressions."""
    if not metadata.labels or not len(table):
        return {"shown": 0, "examples": [], "confusions": [], "place": None}
    answered, place = Answered.of(table), gradcam.find_place(network, metadata.image_px)
    examples, confusions = answered.examples(params.examples), answered.confusions(params.errors)
    wanted = [row for right, wrong in examples.values() for row in right + wrong]
    heated = show(faces, answered, wanted, metadata, network, place)
    plain = show(faces, answered, [row for *_, rows in confusions for row in rows], metadata, None, None)
    return {
        "shown": len({*heated, *plain}),
        "examples": [(name, [heated[r] for r in right], [heated[r] for r in wrong]) for name, (right, wrong) in examples.items()],
        "confusions": [(actual, predicted, count, [plain[row] for row in rows]) for actual, predicted, count, rows in confusions],
        "place": place,
    }


def in_text(table: Any) -> str:
    """scikit-learn's classification report of the test faces."""
    actual, predicted = table["expression"].drop_null().to_numpy(), table["predicted"].drop_null().to_numpy()
    if not len(actual):
        return "no expressions: the model answers valence and arousal alone\n"
    codes = np.union1d(actual, predicted)
    names = [EXPRESSIONS[code] for code in codes]
    return str(scores_in_text(actual, predicted, labels=codes, target_names=names, digits=3, zero_division=0.0))


if __name__ == "__main__":
    launch(run)
