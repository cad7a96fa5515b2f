"""Scores the model on the test split. Preprocessing and label order come only from the model file."""

from pathlib import Path

from affectnet.files.atomic import write_json, write_text
from affectnet.metrics.calibration import reliability
from affectnet.metrics.classification import confusion_matrix
from affectnet.metrics.intervals import merged
from affectnet.params import Runtime
from affectnet.reporting import plot_tables
from affectnet.reporting.groups import GroupScoring, group_report, groups_line, subset_report
from affectnet.reporting.metric_report import full_report, summary
from affectnet.reporting.prediction_table import faces_sha256, write_predictions
from affectnet.reporting.split_predictions import predict_split
from affectnet.reporting.svg import circumplex_svg
from affectnet.running.run_stage import launch
from affectnet.tables.groups import read_groupings, subsets


class EvaluateParams(GroupScoring):
    """Section `evaluate`."""


def run(
    params: EvaluateParams,
    runtime: Runtime,
    faces: Path,
    annotations: Path,
    group_files: Path,
    model: Path,
    train: Path,
    *,
    metrics: Path,
    groups: Path,
    confusion: Path,
    calibration: Path,
    precision_recall: Path,
    circumplex: Path,
    learning: Path,
    loss_weights: Path,
    test_predictions: Path,
) -> str:
    """Writes the scores with intervals and floors, also by group, the tables of the plots, and the predictions per face.

    Returns the summary line.
    """
    groupings = read_groupings(params.groups, annotations, group_files)
    predictions = predict_split(model, faces, runtime, params.averaging)
    report = merged(full_report(params, predictions), subset_report(params, predictions, subsets(annotations)))
    write_json(metrics, report)
    by_group = group_report(params, predictions, groupings)
    write_json(groups, by_group)
    true, predicted, names = predictions.true, predictions.predicted, predictions.names
    confidence = predictions.probabilities.max(1, initial=0.0)
    plot_tables.write_confusion(confusion, confusion_matrix(true, predicted, len(names)), names)
    plot_tables.write_reliability(calibration, reliability(confidence, predicted == true, params.bins))
    plot_tables.write_precision_recall(precision_recall, true, predictions.probabilities, names)
    write_text(circumplex, circumplex_svg(predictions.true_affect, predictions.affect))
    plot_tables.write_learning(learning, loss_weights, plot_tables.read_learning(train))
    write_predictions(test_predictions, predictions, faces_sha256(faces))
    return "; by group: ".join(filter(None, [summary(report), groups_line(by_group)]))


if __name__ == "__main__":
    launch(run)
