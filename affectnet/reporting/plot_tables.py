"""The tables behind DVC's plots: classes and counts alone, no row that could be traced to a face."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.files.atomic import replacing
from affectnet.metrics.calibration import Reliability
from affectnet.metrics.classification import Counts
from affectnet.metrics.ranking import by_falling_score

RECALLS = np.linspace(0, 1, 41)


def write_confusion(path: Path, counts: Counts, names: Sequence[str]) -> None:
    """A row `actual,predicted` a face for DVC's confusion template, sorted, from the (k, k) counts of the named classes."""
    cells = [(row, column) for row in range(len(names)) for column in range(len(names))]
    pairs = [[names[row], names[column]] for row, column in cells for _ in range(int(counts[row, column]))]
    write_table(path, ["actual", "predicted"], pairs)


def read_learning(train: Path) -> dict[str, list[str]]:
    """The metrics that DVCLive logged in this folder, one value an epoch, by name. Errors: UserError when there are none."""
    folder = train / "plots" / "metrics"
    columns: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.tsv")):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines, delimiter="\t"))[1:]
        columns[file.relative_to(folder).with_suffix("").as_posix()] = [value for _, value in rows]
    if not columns:
        raise UserError(f"{folder}: holds no learning curves; run `dvc repro -f train`")
    return columns


def write_learning(curves: Path, weights: Path, columns: dict[str, list[str]]) -> None:
    """Two tables of a row an epoch, republished where Git keeps them: the learning curves, and the weights in the loss.

    What is not learned has the weight 0, and no score.
    """
    epochs = list(range(1, len(next(iter(columns.values()))) + 1))
    shown = {name.replace("/", "_"): values for name, values in columns.items() if "_weight/" not in name}
    for name in ("validation_macro_f1", "validation_accuracy", "validation_valence_ccc", "validation_arousal_ccc"):
        shown.setdefault(name, [""] * len(epochs))
    write_table(curves, ["epoch", *shown], [list(row) for row in zip(epochs, *shown.values(), strict=True)])
    wanted = {**{name: f"loss_weight/{name}" for name in EXPRESSIONS}, **{task: f"task_weight/{task}" for task in ("expression", "affect")}}
    found = [columns.get(name, ["0"] * len(epochs)) for name in wanted.values()]
    write_table(weights, ["epoch", *wanted], [list(row) for row in zip(epochs, *found, strict=True)])


def write_reliability(path: Path, found: Reliability) -> None:
    """A row a filled bin: mean confidence, share of right answers, what it should be, and faces."""
    filled = np.flatnonzero(found.count)
    rows = [[f"{found.confidence[i]:.6f}", f"{found.accuracy[i]:.6f}", f"{found.confidence[i]:.6f}", found.count[i]] for i in filled]
    write_table(path, ["confidence", "accuracy", "calibrated", "faces"], rows)


def write_precision_recall(path: Path, true: NDArray[np.integer], probabilities: NDArray[np.float64], names: Sequence[str]) -> None:
    """A row a recall, 0 to 1: the highest precision at this recall or a higher one, of each expression; empty for one without faces."""
    columns = {name: interpolated_precision(true == column, probabilities[:, column]) for column, name in enumerate(names)}
    cells = {name: [f"{value:.6f}" for value in columns[name]] if name in columns else [""] * len(RECALLS) for name in EXPRESSIONS}
    write_table(
        path, ["recall", *EXPRESSIONS], [[f"{r:.3f}", *row] for r, row in zip(RECALLS, zip(*cells.values(), strict=True), strict=True)]
    )


def interpolated_precision(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> NDArray[np.float64]:
    """(41,) highest precision at each of `RECALLS` or above (Manning et al. 2008, eq. 8.7); 0 without positives."""
    hits, misses = (mass.cumsum() for mass in by_falling_score(positive, score, np.ones(len(score))))
    recall = hits / max(int(positive.sum()), 1)
    best = np.maximum.accumulate((hits / (hits + misses))[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS - 1e-12)
    return np.where(at < len(best), best[np.minimum(at, len(best) - 1)], 0.0)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """CSV, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
