import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from affectnet.errors import UserError
from affectnet.metrics.calibration import reliability
from affectnet.reporting.plot_tables import (
    RECALLS,
    interpolated_precision,
    read_learning,
    write_confusion,
    write_learning,
    write_precision_recall,
    write_reliability,
)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))


def test_confusion_has_a_row_a_face_in_an_order_that_says_nothing(tmp_path: Path) -> None:
    write_confusion(tmp_path / "c.csv", np.array([[1, 2], [0, 1]]), ["Happy", "Sad"])
    assert (tmp_path / "c.csv").read_text() == "actual,predicted\nHappy,Happy\nHappy,Sad\nHappy,Sad\nSad,Sad\n"


@given(st.integers(0, 5000), st.integers(1, 8))
def test_interpolated_precision_is_the_best_of_scikit_learns_curve_from_that_recall_on(seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    positive = np.append(generator.random(25) < 0.3, [True])
    score = generator.integers(0, levels, 26) / levels
    precision, recall, _ = precision_recall_curve(positive, score)
    expected = [precision[:-1][recall[:-1] >= at - 1e-12].max(initial=0) for at in RECALLS]
    assert interpolated_precision(positive, score) == pytest.approx(expected)


def test_precision_has_a_row_per_class_with_faces_and_recall(tmp_path: Path) -> None:
    write_precision_recall(tmp_path / "p.csv", np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), ["Happy", "Sad"])
    rows = table(tmp_path / "p.csv")
    assert list(rows[0]) == ["label", "recall", "precision"] and len(rows) == 2 * len(RECALLS)
    assert [(rows[at]["label"], float(rows[at]["precision"])) for at in (0, -1)] == [("Happy", 1), ("Sad", 1)]
    write_precision_recall(tmp_path / "p.csv", np.array([], np.int64), np.empty((0, 0)), [])
    assert {(row["label"], row["precision"]) for row in table(tmp_path / "p.csv")} == {("", "")}


def test_reliability_leaves_out_empty_bins(tmp_path: Path) -> None:
    write_reliability(tmp_path / "r.csv", reliability(np.array([0.95, 0.93, 0.35]), np.array([True, False, True]), 10))
    assert [(row["accuracy"], row["faces"]) for row in table(tmp_path / "r.csv")] == [("1.000000", "1"), ("0.500000", "2")]


def logged(folder: Path, **curves: list[float]) -> Path:
    for name, values in curves.items():
        path = folder / "plots" / "metrics" / f"{name.replace('__', '/')}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["step\tx", *(f"{step}\t{value}" for step, value in enumerate(values))]) + "\n")
    return folder


def test_learning_curves_are_a_column_each_and_weights_a_row_per_label_and_epoch(tmp_path: Path) -> None:
    train = logged(tmp_path, train__loss=[2.0, 1.5], validation__macro_f1=[0.1, 0.2], loss_weight__Happy=[1.0, 0.5])
    write_learning(tmp_path / "l.csv", tmp_path / "w.csv", read_learning(train))
    learning, weights = table(tmp_path / "l.csv"), table(tmp_path / "w.csv")
    assert [(row["epoch"], row["train_loss"], row["validation_macro_f1"]) for row in learning] == [("1", "2.0", "0.1"), ("2", "1.5", "0.2")]
    assert learning[0]["validation_valence_ccc"] == "" and "loss_weight_Happy" not in learning[0]
    assert [tuple(row.values()) for row in weights] == [("Happy", "1", "1.0"), ("Happy", "2", "0.5")]


def test_curves_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no learning curves"):
        read_learning(tmp_path)
