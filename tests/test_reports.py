from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from affectnet.metrics.intervals import affect_report, calibration_report, expression_report
from affectnet.reporting.values import leaves

NAMES = ["Neutral", "Happy", "Sad", "Fear"]


def drawn(skew: bool = True) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    true = generator.choice(4, 300, p=[0.6, 0.25, 0.1, 0.05] if skew else None)
    return true, generator.normal(0, 1, (300, 4)) + 1.5 * np.eye(4)[true]


def report(true: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    return expression_report("expression", true, softmax(logits, 1), NAMES, 300, np.random.default_rng(0))


def test_every_score_of_the_paper_is_scikit_learns() -> None:
    true, logits = drawn()
    scores, probabilities, predicted = report(true, logits)["expression"], softmax(logits, 1), logits.argmax(1)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(true, predicted))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(true, predicted, average="macro"))
    assert scores["kappa"] == pytest.approx(metrics.cohen_kappa_score(true, predicted))
    assert scores["auc"] == pytest.approx(metrics.roc_auc_score(true, probabilities, multi_class="ovr"))
    assert scores["aucpr"] == pytest.approx(np.mean([metrics.average_precision_score(true == c, probabilities[:, c]) for c in range(4)]))
    weights = (1 / np.bincount(true))[true]
    equal = scores["skew_normalised"]
    assert equal["accuracy"] == pytest.approx(metrics.balanced_accuracy_score(true, predicted))
    assert equal["macro_f1"] == pytest.approx(metrics.f1_score(true, predicted, average="macro", sample_weight=weights))
    assert equal["kappa"] == pytest.approx(metrics.cohen_kappa_score(true, predicted, sample_weight=weights))
    expected = [metrics.roc_auc_score(true == c, probabilities[:, c], sample_weight=weights) for c in range(4)]
    assert equal["auc"] == pytest.approx(np.mean(expected))


def test_each_score_lies_in_its_interval_next_to_its_floor() -> None:
    tree = report(*drawn())
    values, spread, floors = (dict(leaves(part["expression"])) for part in (tree, tree["interval"], tree["floor"]))
    assert {f"{path}.{end}" for path in values for end in ("low", "high")} == set(spread)
    assert set(values) == set(floors)
    assert all(spread[f"{path}.low"] <= value <= spread[f"{path}.high"] for path, value in values.items())
    assert floors["accuracy"] == pytest.approx(np.bincount(drawn()[0]).max() / 300) and floors["kappa"] == pytest.approx(0)
    assert floors["skew_normalised.accuracy"] == pytest.approx(0.25)


def test_intervals_of_rankings_are_those_of_resampled_faces() -> None:
    true, logits = drawn()
    probabilities, generator = softmax(logits, 1), np.random.default_rng(1)
    ends = report(true, logits)["interval"]["expression"]["auc"]
    resamples = [generator.integers(300, size=300) for _ in range(300)]
    expected = np.quantile(
        [metrics.roc_auc_score(true[rows], probabilities[rows], multi_class="ovr") for rows in resamples], [0.025, 0.975]
    )
    assert (ends["low"], ends["high"]) == pytest.approx(expected, abs=0.008)


def test_on_a_balanced_split_skew_normalisation_changes_nothing() -> None:
    generator = np.random.default_rng(4)
    true = np.repeat(range(4), 25)
    values = dict(leaves(report(true, generator.normal(0, 1, (100, 4)))["expression"]))
    for name in ("accuracy", "macro_f1", "kappa", "alpha", "auc", "aucpr"):
        assert values[f"skew_normalised.{name}"] == pytest.approx(values[name])


def test_a_class_that_the_model_does_not_know_is_never_answered() -> None:
    true, logits = drawn()
    logits[:, 3] = -np.inf
    tree = report(true, logits)
    assert tree["expression"]["recall"]["Fear"] == 0 and all(np.isfinite(value) for _, value in leaves(tree))
    calibration = calibration_report(true, logits, 2.0, 10)["calibration"]
    assert all(np.isfinite(value) for value in calibration.values()) and calibration["temperature"] == 2


def test_a_split_with_one_class_has_no_ranking_and_says_so_by_leaving_it_out() -> None:
    tree = report(np.zeros(20, int), drawn()[1][:20])
    assert "auc" not in tree["expression"] and all(np.isfinite(value) for _, value in leaves(tree))


def test_affect_counts_only_the_annotated_faces() -> None:
    generator = np.random.default_rng(0)
    true = generator.uniform(-1, 1, 200)
    predicted = np.clip(true + generator.normal(0, 0.2, 200), -1, 1)
    whole = affect_report("valence", true, predicted, 200, np.random.default_rng(0))
    gaps = affect_report("valence", np.append(true, [np.nan] * 9), np.append(predicted, [1.0] * 9), 200, np.random.default_rng(0))
    assert whole == gaps
    for name in ("rmse", "corr", "sagr", "ccc"):
        spread = whole["interval"]["valence"][name]
        assert spread["low"] < whole["valence"][name] < spread["high"]
    assert whole["floor"]["valence"]["ccc"] == 0 and whole["valence"]["ccc"] > 0.9


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    """Over 100 draws of 400 answers that are right 8 of 10 times, the 95 % interval must hold 0.8 in 87–100 % of them."""
    generator, held = np.random.default_rng(3), 0
    for _ in range(100):
        true = np.repeat(range(4), 100)
        predicted = np.where(generator.random(400) < 0.8, true, (true + 1) % 4)
        spread = expression_report("x", true, np.eye(4)[predicted], NAMES, 200, generator)["interval"]["x"]["accuracy"]
        held += spread["low"] <= 0.8 <= spread["high"]
    assert held >= 87


def test_a_resample_without_a_class_says_nothing_about_it() -> None:
    true = np.repeat([0, 1, 2, 3], [150, 150, 2, 1])
    tree = report(true, 9.0 * np.eye(4)[true])
    ends = tree["interval"]["expression"]
    assert {tree["expression"]["macro_f1"], ends["macro_f1"]["low"], ends["skew_normalised"]["macro_f1"]["low"]} == {1.0}
    assert ends["recall"]["Sad"] == {"low": 1.0, "high": 1.0}
    assert [set(ends[score]) for score in ("recall", "precision", "f1")] == 3 * [{"Neutral", "Happy", "Sad"}]


def test_macro_f1_of_resamples_is_scikit_learns_over_their_classes() -> None:
    generator = np.random.default_rng(8)
    true = np.repeat([0, 1, 2], [40, 20, 2])
    predicted = np.where(generator.random(62) < 0.3, generator.integers(0, 4, 62), true)
    ends = report(true, 9.0 * np.eye(4)[predicted])["interval"]["expression"]["macro_f1"]
    expected = []
    for _ in range(1000):
        rows = generator.integers(62, size=62)
        labels = [*np.unique(true[rows]), 3]  # a class without any test face counts 0, as in the value
        expected.append(metrics.f1_score(true[rows], predicted[rows], labels=labels, average="macro", zero_division=0))
    assert (ends["low"], ends["high"]) == pytest.approx(np.quantile(expected, [0.025, 0.975]), abs=0.03)
