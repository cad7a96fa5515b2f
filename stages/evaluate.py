"""Scores the model on the test split, once, from the model file alone: its crops, preprocessing and label order."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from affectnet.atomic import replacing, write_json
from affectnet.dataset import load_faces
from affectnet.device import choose
from affectnet.errors import UserError
from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.faces import read_policy
from affectnet.inference import logits
from affectnet.launch import launch
from affectnet.modelfile import Card, load_model
from affectnet.params import Runtime, Section
from affectnet.scores import Counts, Scores, bootstrap_scores, confusion_matrix, constant_floors, interval, scores


class EvaluateParams(Section):
    """Section `evaluate`."""

    seed: int = Field(ge=0)
    bootstrap: int = Field(ge=100)


def run(
    params: EvaluateParams, runtime: Runtime, faces: Path, model: Path, train: Path, *, metrics: Path, confusion: Path, curves: Path
) -> str:
    """Writes the scores with intervals and floors, the confusion table and the learning curves; returns the summary line."""
    device = choose(runtime.device)
    network, card = load_model(model)
    _same_crops(card, faces)
    test = load_faces(faces, "test", card.image_px, runtime.workers)
    outputs = logits(network.to(device), test.images, device, card.mean, card.std)
    codes = np.array([CODES[label] for label in card.labels])
    true, predicted = test.expression.numpy(), codes[outputs.argmax(1).numpy()]
    seen = np.union1d(codes, true)
    counts = confusion_matrix(true, predicted, len(EXPRESSIONS))[np.ix_(seen, seen)]
    names = [EXPRESSIONS[code] for code in seen]
    report = {
        **expression_report(counts, names, params.bootstrap, np.random.default_rng(params.seed)),
        "faces": len(test),
        "selection": {"epoch": card.training["epoch"], **_validation(card.training)},
    }
    write_json(metrics, report)
    write_confusion(confusion, true, predicted)
    write_curves(curves, train)
    found, spread = report["expression"], report["interval"]["expression"]
    return (
        f"evaluate: {len(test):,} test faces, {len(names)} expressions: "
        f"accuracy {found['accuracy']:.3f} [{spread['accuracy']['low']:.3f}, {spread['accuracy']['high']:.3f}], "
        f"macro-F1 {found['macro_f1']:.3f} [{spread['macro_f1']['low']:.3f}, {spread['macro_f1']['high']:.3f}], "
        f"best constant answer {report['floor']['expression']['accuracy']:.3f}"
    )


def expression_report(counts: Counts, names: list[str], draws: int, generator: np.random.Generator) -> dict[str, Any]:
    """`expression`, and under `interval` and `floor` the same paths, from the (k, k) confusion matrix of the named classes.

    The interval is the 95 % percentile bootstrap over the test faces; the floor is the best that one constant answer
    reaches (for a class's recall, a uniform guess among the k names).
    """
    found = _by_name(scores(counts), names)
    low, high = (
        _by_name(Scores(*bounds), names)
        for bounds in zip(*(interval(values) for values in vars(bootstrap_scores(counts, draws, generator)).values()), strict=True)
    )
    accuracy, macro_f1 = constant_floors(counts)
    floor = {"accuracy": accuracy, "macro_f1": macro_f1, "recall": dict.fromkeys(names, 1 / len(names))}
    return {"expression": found, "interval": {"expression": _beside(low, high)}, "floor": {"expression": floor}}


def _by_name(found: Scores, names: list[str]) -> dict[str, Any]:
    per_class = {"recall": found.recall, "precision": found.precision, "f1": found.f1}
    named = {key: dict(zip(names, map(float, values), strict=True)) for key, values in per_class.items()}
    return {"accuracy": float(found.accuracy), "macro_f1": float(found.macro_f1), **named}


def _beside(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of the same shape as one, with `low` and `high` at its leaves."""
    return {key: _beside(low[key], high[key]) if isinstance(low[key], dict) else {"low": low[key], "high": high[key]} for key in low}


def _validation(training: Mapping[str, Any]) -> dict[str, float]:
    return {name.replace("/", "_"): value for name, value in training.items() if name.startswith("validation/")}


def _same_crops(card: Card, faces: Path) -> None:
    """Errors: UserError when the faces were cut otherwise than those that the model learned from."""
    policy = read_policy(faces)
    if policy != card.crop:
        differing = sorted(key for key in {*policy, *card.crop} if policy.get(key) != card.crop.get(key))
        raise UserError(
            f"{faces}: cut with another policy than the model's training crops ({', '.join(differing)} differ); run `dvc repro`"
        )


def write_confusion(path: Path, true: np.ndarray, predicted: np.ndarray) -> None:
    """A row `actual,predicted` a face for DVC's confusion template, sorted, so that no row can be traced to its face."""
    pairs = sorted(zip(true.tolist(), predicted.tolist(), strict=True))
    _write_csv(path, ["actual", "predicted"], [[EXPRESSIONS[a], EXPRESSIONS[b]] for a, b in pairs])


def write_curves(path: Path, train: Path) -> None:
    """One row an epoch with every metric that DVCLive logged, republished where Git keeps it."""
    folder = train / "plots" / "metrics"
    columns: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.tsv")):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines, delimiter="\t"))[1:]
        columns[file.relative_to(folder).with_suffix("").as_posix().replace("/", "_")] = [value for _, value in rows]
    if not columns:
        raise UserError(f"{folder}: holds no learning curves; run `dvc repro -f train`")
    epochs = range(1, len(next(iter(columns.values()))) + 1)
    _write_csv(path, ["epoch", *columns], [list(row) for row in zip(epochs, *columns.values(), strict=True)])


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


if __name__ == "__main__":
    launch(run)
