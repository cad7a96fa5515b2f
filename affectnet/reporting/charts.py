"""The report's charts as SVG, drawn from the tables that evaluate writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from affectnet.metrics.registry import label
from affectnet.metrics.regression import DIMENSIONS
from affectnet.reporting.plot_tables import read_confusion, read_numbers
from affectnet.reporting.svg import Line, confusion_svg, lines_svg, rounded_up

UNIT = (0.0, 1.0)
SMALL = (150, 110)
"""Width and height of a small chart's frame, px."""


def expression_charts(labels: Sequence[str], confusion: Path, calibration: Path, precision_recall: Path) -> dict[str, Any]:
    """Confusion matrix, reliability diagram, and a precision-recall curve per expression; None where there is nothing to draw."""
    bins, curves = read_numbers(calibration), read_numbers(precision_recall)
    by_label = {name: _points(curves[curves["label"] == name], "recall", "precision") for name in labels}
    return {
        "confusion": None if bins.empty else Markup(confusion_svg(*read_confusion(confusion, labels))),
        "reliability": None if bins.empty else _reliability(bins),
        "precision_recall": [
            _small(Line(name, points), UNIT, UNIT, f"{name}: precision", "recall") for name, points in by_label.items() if points
        ],
    }


def training_charts(learning: Path, loss_weights: Path, epoch: float) -> dict[str, Any]:
    """Losses and scores per epoch; a chart per weight in the loss that moved, and the value of each that did not. epoch: of the model."""
    return {"learning": _learning(read_numbers(learning), epoch), **_weights(read_numbers(loss_weights))}


def _reliability(bins: pd.DataFrame) -> Markup:
    most = bins["faces"].max()
    radii = [3 + 9 * (count / most) ** 0.5 for count in bins["faces"]]
    lines = [Line("test faces", _points(bins, "confidence", "accuracy"), radii), Line("perfect calibration", [(0, 0), (1, 1)])]
    return Markup(lines_svg(lines, UNIT, UNIT, "share of right answers", "confidence"))


def _learning(curves: pd.DataFrame, epoch: float) -> list[Markup]:
    epochs = (1.0, float(curves["epoch"].max()) if len(curves) else 1.0)
    losses = [_line(curves, "epoch", f"{name}_loss", name) for name in ("train", "validation")]
    most = max((y for line in losses for _, y in line.points), default=1.0)
    charts = [Markup(lines_svg(losses, epochs, (_lowest(losses), rounded_up(most)), "loss", "epoch", mark=epoch))]
    scores = {
        "score on validation": {key: label(key) for key in ("macro_f1", "accuracy")},
        "CCC on validation": {f"{dimension}_ccc": f"{dimension} {label('ccc')}" for dimension in DIMENSIONS},
    }
    for title, names in scores.items():
        lines = [_line(curves, "epoch", f"validation_{key}", name) for key, name in names.items()]
        if any(line.points for line in lines):
            charts.append(Markup(lines_svg(lines, epochs, (_lowest(lines), 1.0), title, "epoch", mark=epoch)))
    return charts


def _weights(weights: pd.DataFrame) -> dict[str, Any]:
    moved: list[Markup] = []
    constant: dict[str, float] = {}
    for name, rows in weights[weights["label"] != ""].groupby("label", sort=False):
        values, title = rows["weight"], str(name)
        if values.max() - values.min() < 1e-9:
            constant[title] = float(values.iloc[-1])
            continue
        up, across = (min(0.0, values.min()), values.max()), (1.0, weights["epoch"].max())
        moved.append(_small(_line(rows, "epoch", "weight", title), across, up, title, "epoch"))
    return {"weights_moved": moved, "weights_constant": constant}


def _small(line: Line, across: tuple[float, float], up: tuple[float, float], title: str, x_label: str) -> Markup:
    return Markup(lines_svg([line], across, up, title, x_label, SMALL))


def _line(table: pd.DataFrame, across: str, up: str, name: str) -> Line:
    return Line(name, _points(table, across, up))


def _points(table: pd.DataFrame, across: str, up: str) -> list[tuple[float, float]]:
    """The rows in which `up` has a value; none without such a column."""
    if up not in table:
        return []
    return [(float(x), float(y)) for x, y in table[[across, up]].dropna().itertuples(index=False)]


def _lowest(lines: list[Line]) -> float:
    return min(0.0, *(y for line in lines for _, y in line.points), 0.0)
