"""Writes the report: scores and data without a face for Git, the same with faces for the user, and a model card.

The network runs on the CPU, whatever `runtime.device` says: the pages' bytes are the same each time.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import classification_report as sklearn_report

from affectnet.errors import UserError
from affectnet.expressions import SPLITS
from affectnet.files.atomic import write_text
from affectnet.files.metrics import read_metrics
from affectnet.files.sha256 import file_sha256
from affectnet.metrics.groups import TESTED
from affectnet.metrics.registry import registered
from affectnet.metrics.regression import DIMENSIONS
from affectnet.models.checkpoint import load_model
from affectnet.models.device import configure_torch
from affectnet.models.metadata import ModelMetadata
from affectnet.models.network import weight_count
from affectnet.params import PARAMS_FILE, Section, catalogue_name, read_document
from affectnet.reporting import charts, gradcam
from affectnet.reporting.contact_sheet import FacePredictions, sheet_faces
from affectnet.reporting.data_card import ORIGINS, OWN, origin_of_test
from affectnet.reporting.groups import groups_svg
from affectnet.reporting.metric_report import headlines
from affectnet.reporting.model_facts import model_facts, score_label
from affectnet.reporting.prediction_table import PREDICTIONS
from affectnet.reporting.svg import circumplex_svg
from affectnet.reporting.templates import fill, numbers
from affectnet.reporting.values import NOT_SHOWN, leaves, setting, without_folders
from affectnet.running.run_stage import launch
from affectnet.tables.labels import read_labels

SWITCHES = ("dataset", "model", "optimizer", "loss", "task", "labels")
SECTIONS = ("acquire", "verify", "clean", "crop", "detect", "rebalance", "train", "evaluate")
"""The sections of params.yaml that the page shows: dvc.yaml tracks them."""


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
    groups: Path,
    confusion: Path,
    calibration: Path,
    precision_recall: Path,
    learning: Path,
    loss_weights: Path,
    templates: Path,
    *,
    metrics: Path,
    report: Path,
    model_card: Path,
    classification_report: Path,
) -> str:
    """Writes the pages and the table; returns the summary line."""
    configure_torch(torch.device("cpu"))
    table, labels = PREDICTIONS.read(test_predictions), read_labels(test_predictions)
    network, metadata = load_model(model)
    values = {
        **score_values({path.stem: read_metrics(path) for path in (verify, clean, rebalance, evaluate)}, labels),
        **group_values(read_metrics(groups)),
        **params_values(read_document()),
        **model_values(model, network, metadata),
        **charts.expression_charts(labels, confusion, calibration, precision_recall),
        **charts.training_charts(learning, loss_weights, float(metadata.training["epoch"])),
        "circumplex": Markup(circumplex_svg(*affect_columns(table))) if metadata.affect else None,
    }
    page, card = templates / "page.html", templates / "card.md"
    write_text(metrics, fill(page, {**values, "sheets": None}))
    sheets = contact_sheets(params, faces, table, labels, network, metadata)
    write_text(report, fill(page, {**values, "sheets": sheets}))
    write_text(model_card, fill(card, values))
    write_text(classification_report, text_report(table, labels, list(values["evaluate"].get("expression", {}).get("recall", {}))))
    return f"report: {len(table):,} test faces, {sheets['shown']:,} of them shown in {report}; {metrics}; {model_card}"


def score_values(documents: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """The metrics of the stages by the stage's name, and the keys and labels of the scores in the order of the tables."""
    return {
        **numbers(documents),
        "headlines": list(headlines(documents["evaluate"])),
        "scores": {one.key: one.label for one in registered("confusion", "ranking", "affect")},
        "per_class": {one.key: one.label for one in registered("per_class")},
        "expressions": labels,
        "splits": SPLITS,
    }


def group_values(report: Mapping[str, Any]) -> dict[str, Any]:
    """metrics/groups.json, its plot, and the labels of its scores."""
    plot = groups_svg(report)
    labels = {name: score_label(name) for name in TESTED}
    return {"groups": numbers(report, "groups."), "groups_plot": None if plot is None else Markup(plot), "group_scores": labels}


def params_values(document: Mapping[str, Any]) -> dict[str, Any]:
    """The switches, and the params of every stage and selected entry by dotted name, without where the data set lies."""
    try:
        switches = {name: document[name] for name in SWITCHES}
        chosen = {
            f"{catalogue_name(name)}.{entry}": document[catalogue_name(name)][entry] for name, entry in switches.items() if name != "labels"
        }
        augmentation = document["train"]["augmentation"]
        chosen[f"augmentations.{augmentation}"] = document["augmentations"][augmentation]
        sections = {**chosen, **{name: document[name] for name in SECTIONS}}
        dataset = document["datasets"][switches["dataset"]]
        layout = dataset["layout"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{PARAMS_FILE}: no entry {error}; see the shipped file") from None
    params = {
        section: [(name, setting(without_folders(value))) for name, value in leaves(values) if name not in NOT_SHOWN]
        for section, values in sections.items()
    }
    origin = origin_of_test(layout, dataset.get("test_share"))
    return {
        "switches": {name: setting(value) for name, value in switches.items()},
        "params": params,
        "layout": layout,
        "demo": layout == "demo",
        "origin_of_test": origin,
        "limits": ORIGINS.get(switches["dataset"], OWN).limits,
    }


def model_values(path: Path, network: torch.nn.Module, metadata: ModelMetadata) -> dict[str, Any]:
    """The metadata and its facts, and the file's bytes and hash."""
    model = {"bytes": path.stat().st_size, "weights": weight_count(network), "sha256": file_sha256(path).hex()}
    return {"metadata": metadata, "facts": model_facts(metadata), "model": model}


def affect_columns(table: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 2) annotated and (n, 2) predicted valence and arousal, NaN where missing."""
    true, predicted = (
        np.stack([table[f"{prefix}{name}"].to_numpy().astype(np.float64) for name in DIMENSIONS], 1) for prefix in ("", "predicted_")
    )
    return true, predicted


def contact_sheets(
    params: ReportParams, faces: Path, table: Any, labels: tuple[str, ...], network: torch.nn.Module, metadata: ModelMetadata
) -> dict[str, Any]:
    """The faces to show: examples per expression with Grad-CAM, the most confident errors per confusion; empty without expressions."""
    if not metadata.labels or not len(table):
        return {"shown": 0, "examples": [], "confusions": [], "layer": None}
    predictions, layer = FacePredictions.of(table, labels), gradcam.find_layer(network, metadata.image_px)
    examples, confusions = predictions.examples(params.examples), predictions.confusions(params.errors)
    example_rows = [row for right, wrong in examples.values() for row in right + wrong]
    with_maps = sheet_faces(faces, predictions, example_rows, metadata, network, layer)
    plain = sheet_faces(faces, predictions, [row for *_, rows in confusions for row in rows], metadata, None, None)
    return {
        "shown": len({*with_maps, *plain}),
        "examples": [(name, [with_maps[r] for r in right], [with_maps[r] for r in wrong]) for name, (right, wrong) in examples.items()],
        "confusions": [(actual, predicted, count, [plain[row] for row in rows]) for actual, predicted, count, rows in confusions],
        "layer": layer,
    }


def text_report(table: Any, labels: Sequence[str], scored: Sequence[str]) -> str:
    """scikit-learn's classification report of the test faces. scored: names of the expressions over which macro-F1 is the mean."""
    actual, predicted = table["expression"].drop_null().to_numpy(), table["predicted"].drop_null().to_numpy()
    if not len(actual):
        return "no expressions: the model predicts only valence and arousal\n"
    codes = [labels.index(name) for name in scored]
    return str(sklearn_report(actual, predicted, labels=codes, target_names=scored, digits=3, zero_division=0.0))


if __name__ == "__main__":
    launch(run)
