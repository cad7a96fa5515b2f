"""The CSV tables behind DVC's plots and the report: classes and counts only, no row that could be traced to a face."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.files.atomic import replacing
from affectnet.metrics.calibration import Reliability
from affectnet.metrics.classification import Counts, confusion_matrix
from affectnet.metrics.ranking import by_falling_score

RECALLS = np.linspace(0, 1, 41)
SCORES_OF_VALIDATION = ("validation_macro_f1", "validation_accuracy", "validation_valence_ccc", "validation_arousal_ccc")


def write_confusion(path: Path, counts: Counts, names: Sequence[str]) -> None:
    """A row `actual,predicted` per face for DVC's confusion template, sorted, from the (k, k) counts of the named classes."""
    actual, predicted = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), max(len(names), 1))
    labels = np.array(names, dtype=object)
    _write(path, pd.DataFrame({"actual": labels[actual], "predicted": labels[predicted]}))


def read_confusion(path: Path, labels: Sequence[str] = EXPRESSIONS) -> tuple[Counts, list[str]]:
    """(k, k) counts, actual by predicted, and the k names in the order of the labels, from the table that evaluate writes.

    Errors: UserError when the file is missing or holds anything but a row `actual,predicted` per face.
    """
    codes = {label: code for code, label in enumerate(labels)}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        actual, predicted = ([codes[name] for name in table[column]] for column in ("actual", "predicted"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `dvc repro`") from None
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: not a table of actual and predicted expressions ({error!r})") from None
    if not actual:
        raise UserError(f"{path}: has no rows")
    counts = confusion_matrix(np.array(actual), np.array(predicted), len(labels))
    present = np.union1d(actual, predicted)
    return counts[np.ix_(present, present)], [labels[code] for code in present]


def read_learning(train: Path) -> pd.DataFrame:
    """The metrics that DVCLive logged in this folder as text, a row per epoch, a column per metric. Errors: UserError without any."""
    folder = train / "plots" / "metrics"
    columns = {
        file.relative_to(folder).with_suffix("").as_posix(): pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
        .iloc[:, 1]
        .tolist()
        for file in sorted(folder.rglob("*.tsv"))
    }
    if not columns:
        raise UserError(f"{folder}: holds no learning curves; run `dvc repro -f train`")
    return pd.DataFrame(columns)


def write_learning(curves: Path, weights: Path, logged: pd.DataFrame) -> None:
    """Two tables, republished where Git keeps them: the learning curves, a row per epoch, and the weights in the loss.

    The weights have a row `label,epoch,weight` per label, and per task as `task affect`, and epoch; one without a label where no loss
    is weighted. What is not learned has no score.
    """
    epoch = pd.DataFrame({"epoch": range(1, len(logged) + 1)})
    learning = logged[[name for name in logged.columns if "_weight/" not in str(name)]].rename(columns=lambda name: name.replace("/", "_"))
    missing = pd.DataFrame({name: [""] * len(logged) for name in SCORES_OF_VALIDATION if name not in learning})
    _write(curves, pd.concat([epoch, learning, missing], axis=1))
    by_label = {_weight_label(str(name)): logged[name] for name in logged.columns if "_weight/" in str(name)}
    curves_of_weights = [epoch.assign(label=label, weight=values) for label, values in by_label.items()]
    long = pd.concat(curves_of_weights or [epoch.assign(label="", weight="")])
    _write(weights, long[["label", "epoch", "weight"]])


def _weight_label(metric: str) -> str:
    """`loss_weight/Happy` → `Happy`, `task_weight/affect` → `task affect`."""
    kind, _, name = metric.partition("/")
    return name if kind == "loss_weight" else f"task {name}"


def write_reliability(path: Path, bins: Reliability) -> None:
    """A row per filled bin: mean confidence, share of right predictions, what it should be, and faces."""
    columns = {"confidence": bins.confidence, "accuracy": bins.accuracy, "calibrated": bins.confidence, "faces": bins.count}
    _write(path, pd.DataFrame(columns)[bins.count > 0])


def write_precision_recall(path: Path, true: NDArray[np.integer], probabilities: NDArray[np.float64], names: Sequence[str]) -> None:
    """A row `label,recall,precision` per expression that has faces and recall, 0 to 1: the highest precision at this recall or above.

    Without any expression, rows without label and precision, since DVC refuses to plot an empty table.
    """
    recall = pd.DataFrame({"recall": [f"{recall:.3f}" for recall in RECALLS]})
    curves = [
        recall.assign(label=name, precision=interpolated_precision(true == column, probabilities[:, column]))
        for column, name in enumerate(names)
        if (true == column).any()
    ]
    long = pd.concat(curves or [recall.assign(label="", precision="")])
    _write(path, long[["label", "recall", "precision"]])


def interpolated_precision(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> NDArray[np.float64]:
    """(41,) highest precision at each of `RECALLS` or above (Manning et al. 2008, eq. 8.7); 0 without positives."""
    hits, misses = (mass.cumsum() for mass in by_falling_score(positive, score, np.ones(len(score))))
    recall = hits / max(int(positive.sum()), 1)
    best = np.maximum.accumulate((hits / (hits + misses))[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS - 1e-12)
    return np.where(at < len(best), best[np.minimum(at, len(best) - 1)], 0.0)


def read_numbers(path: Path) -> pd.DataFrame:
    """A table that evaluate wrote, NaN where a number is empty; a column `label` is text.

    Errors: UserError when it is missing or holds anything but numbers.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        numbers = table[[name for name in table.columns if name != "label"]].replace("", "nan").astype(float)
        return numbers if "label" not in table else numbers.assign(label=table["label"])
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `dvc repro`") from None
    except ValueError as error:
        raise UserError(f"{path}: not a table of numbers ({error}); run `dvc repro`") from None


def _write(path: Path, table: pd.DataFrame) -> None:
    """CSV, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
