"""Every score compared with plain loops from the definitions, over 1,000 random cases, degenerate ones included."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import pearsonr
from sklearn import metrics
from tally import Tally

from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.calibration import fit_temperature, negative_log_likelihood, reliability
from affectnet.metrics.intervals import affect_report, calibration_report, expression_report
from affectnet.metrics.paired import mcnemar
from affectnet.reporting.plot_tables import RECALLS, interpolated_precision

WHAT, EQUAL = "metrics against independent code", "equal"
KINDS = (
    "any",
    "a class without faces",
    "a single answer",
    "a single class",
    "all right",
    "none right",
    "one face",
    "ties",
    "an unknown class",
)


def case(seed: int) -> tuple[list[int], np.ndarray, int]:
    """True columns, logits, and the number of classes."""
    generator, kind = np.random.default_rng(seed), KINDS[seed % len(KINDS)]
    k = int(generator.integers(2, 9))
    n = 1 if kind == "one face" else int(generator.integers(2, 40))
    classes = {"a class without faces": k - 1, "a single class": 1}.get(kind, k)
    true = generator.integers(0, classes, n)
    logits = generator.normal(0, 2, (n, k)) + generator.uniform(0, 3) * np.eye(k)[true]
    if kind == "a single answer":
        logits[:, int(generator.integers(k))] += 50
    elif kind == "all right":
        logits[np.arange(n), true] += 50
    elif kind == "none right":
        logits[np.arange(n), true] -= 50
    elif kind == "ties":
        logits = np.round(logits / 3)
    elif kind == "an unknown class" and k > 2:
        logits[:, k - 1] = -np.inf
    return true.tolist(), logits, k


def probabilities(row: Sequence[float]) -> list[float]:
    top = max(row)
    shares = [math.exp(value - top) for value in row]
    return [share / sum(shares) for share in shares]


def counted(true: Sequence[int], predicted: Sequence[int], k: int, weight: Sequence[float]) -> dict[str, Any]:
    """The scores that depend only on the answers, of weighted faces."""
    faces, total = list(zip(true, predicted, weight, strict=True)), sum(weight)
    recall, precision, f1 = [], [], []
    for c in range(k):
        hit = sum(w for t, p, w in faces if t == p == c)
        missed = sum(w for t, p, w in faces if t == c != p)
        false = sum(w for t, p, w in faces if p == c != t)
        recall.append(hit / (hit + missed) if hit + missed else 0.0)
        precision.append(hit / (hit + false) if hit + false else 0.0)
        f1.append(2 * hit / (2 * hit + missed + false) if hit + missed + false else 0.0)
    agreed = sum(w for t, p, w in faces if t == p) / total
    chance = sum(sum(w for t, _, w in faces if t == c) * sum(w for _, p, w in faces if p == c) for c in range(k)) / total**2
    values = [(c, w) for t, p, w in faces for c in (t, p)]
    mass = [sum(w for c, w in values if c == one) for one in range(k)]
    expected = sum(mass[a] * mass[b] for a, b in product(range(k), repeat=2) if a != b) / (2 * total * (2 * total - 1))
    return {
        "accuracy": agreed,
        "macro_f1": sum(f1) / k,
        "kappa": (agreed - chance) / (1 - chance) if chance < 1 - 1e-12 else 0.0,
        "alpha": 1 - (1 - agreed) / expected if expected > 1e-12 else 0.0,
        "recall": recall,
        "precision": precision,
        "f1": f1,
    }


def ranked(true: Sequence[int], shares: Sequence[Sequence[float]], k: int, weight: Sequence[float]) -> tuple[float, float] | None:
    """Mean AUC and AUC-PR over the classes with positives and negatives, from every pair and every threshold."""
    auc, aucpr = [], []
    for c in range(k):
        positive = [(row[c], w) for t, row, w in zip(true, shares, weight, strict=True) if t == c]
        negative = [(row[c], w) for t, row, w in zip(true, shares, weight, strict=True) if t != c]
        if not positive or not negative:
            continue
        right = sum(v * w * ((a > b) + (a == b) / 2) for a, v in positive for b, w in negative)
        mass = sum(v for _, v in positive)
        auc.append(right / (mass * sum(w for _, w in negative)))
        area = 0.0
        for threshold in {a for a, _ in positive}:
            hit, false = (sum(w for a, w in side if a >= threshold) for side in (positive, negative))
            area += sum(w for a, w in positive if a == threshold) / mass * hit / (hit + false)
        aucpr.append(area)
    return (sum(auc) / len(auc), sum(aucpr) / len(aucpr)) if auc else None


def equal_weights(true: Sequence[int]) -> list[float]:
    """Weights of the faces that give each class with faces the same mass, with an unchanged total."""
    return [len(true) / (len(set(true)) * true.count(t)) for t in true]


def close(value: Any, expected: Any) -> bool:
    return bool(np.allclose(value, expected, rtol=1e-7, atol=1e-9))


def test_scores_of_expressions(tally: Tally) -> None:
    for seed in range(450):
        true, logits, k = case(seed)
        names = list(EXPRESSIONS[:k])
        report = expression_report("x", np.array(true), softmax(logits, axis=1), names, 2, np.random.default_rng(0))
        scores, floor = report["x"], report["floor"]["x"]
        shares = softmax(logits, axis=1).tolist()  # bit-identical, because ties in rankings depend on the last bit
        assert close(shares, [probabilities(row) for row in logits.tolist()])
        predicted = [row.index(max(row)) for row in shares]
        ones = [1.0] * len(true)
        for tree, weight in ((scores, ones), (scores["skew_normalised"], equal_weights(true))):
            expected = counted(true, predicted, k, weight)
            for name in ("accuracy", "macro_f1", "kappa", "alpha"):
                assert close(tree[name], expected[name]), (seed, name, tree[name], expected[name])
            ranking = ranked(true, shares, k, weight)
            assert (ranking is None) == ("auc" not in tree)
            assert ranking is None or close([tree["auc"], tree["aucpr"]], ranking), (seed, ranking)
            best = [counted(true, [c] * len(true), k, weight) for c in range(k)]
            for name in ("accuracy", "macro_f1", "kappa", "alpha"):
                floors = floor if tree is scores else floor["skew_normalised"]
                assert close(floors[name], max(one[name] for one in best)), (seed, name)
        expected = counted(true, predicted, k, ones)
        for name in ("recall", "precision", "f1"):
            assert close([scores[name][one] for one in names], expected[name]), (seed, name)
        tally(WHAT, EQUAL)


def test_scores_of_expressions_that_scikit_learn_has(tally: Tally) -> None:
    for seed in range(1000, 1060):
        true, logits, k = case(seed)
        scores = expression_report("x", np.array(true), softmax(logits, axis=1), list(EXPRESSIONS[:k]), 2, np.random.default_rng(0))["x"]
        predicted = logits.argmax(1)
        assert close(scores["accuracy"], metrics.accuracy_score(true, predicted))
        assert close(scores["macro_f1"], metrics.f1_score(true, predicted, labels=range(k), average="macro", zero_division=0))
        assert close(scores["skew_normalised"]["accuracy"], np.mean([np.mean(predicted[np.array(true) == c] == c) for c in set(true)]))
        tally(WHAT, EQUAL)


AFFECT_KINDS = ("any", "a constant truth", "a constant answer", "both constant", "the truth", "its opposite", "gaps", "zeros", "two faces")


def test_scores_of_valence_and_arousal(tally: Tally) -> None:
    for seed in range(200):
        generator, kind = np.random.default_rng(seed), AFFECT_KINDS[seed % len(AFFECT_KINDS)]
        n = 2 if kind == "two faces" else int(generator.integers(3, 40))
        true = np.round(generator.uniform(-1, 1, n), 3)
        answer = np.clip(true * generator.uniform(-1, 1) + generator.normal(0, 0.3, n), -1, 1).astype(np.float32).astype(np.float64)
        if kind in {"a constant truth", "both constant"}:
            true[:] = 0.25
        if kind in {"a constant answer", "both constant"}:
            answer[:] = float(generator.choice([0.0, 0.25, -1.0]))
        if kind in {"the truth", "its opposite"}:
            answer = true * (1 if kind == "the truth" else -1)
        if kind == "gaps":
            true[generator.permutation(n)[: n // 2]] = np.nan
        if kind == "zeros":
            true[::2], answer[::3] = 0, 0
        report = affect_report("valence", true, answer, 2, np.random.default_rng(0))
        pairs = [(t, p) for t, p in zip(true.tolist(), answer.tolist(), strict=True) if not math.isnan(t)]
        m, t_mean, p_mean = len(pairs), math.fsum(t for t, _ in pairs) / len(pairs), math.fsum(p for _, p in pairs) / len(pairs)
        t_var, p_var = (
            math.fsum((v - mean) ** 2 for v in values) / m for values, mean in zip(zip(*pairs, strict=True), (t_mean, p_mean), strict=True)
        )
        cov = math.fsum((t - t_mean) * (p - p_mean) for t, p in pairs) / m
        spread = t_var + p_var + (t_mean - p_mean) ** 2
        varied = t_var > 1e-20 and p_var > 1e-20
        signs = [math.copysign(1, v) if v else 0 for pair in pairs for v in pair]
        expected = {
            "rmse": math.sqrt(math.fsum((p - t) ** 2 for t, p in pairs) / m),
            "corr": pearsonr(*zip(*pairs, strict=True)).statistic if varied else 0.0,
            "ccc": 2 * cov / spread if spread > 1e-20 else 0.0,
            "sagr": sum(a == b for a, b in zip(signs[::2], signs[1::2], strict=True)) / m,
        }
        for name, value in expected.items():
            assert report["valence"][name] == pytest.approx(value, rel=1e-6, abs=1e-9), (seed, kind, name)
        floor = report["floor"]["valence"]
        assert floor["rmse"] == pytest.approx(math.sqrt(t_var)) and floor["corr"] == floor["ccc"] == 0
        assert floor["sagr"] == pytest.approx(max(signs[::2].count(sign) for sign in (-1, 0, 1)) / m)
        tally(WHAT, EQUAL)


def test_calibration(tally: Tally) -> None:
    for seed in range(100):
        true, logits, _ = case(seed)
        generator = np.random.default_rng(seed)
        temperature, bins = float(generator.uniform(0.2, 5)), int(generator.integers(2, 20))
        report = calibration_report(np.array(true), logits, temperature, bins)["calibration"]
        for suffix, scale in (("", temperature), ("_uncalibrated", 1.0)):
            shares = [probabilities([value / scale for value in row]) for row in logits.tolist()]
            answers = [(max(row), row.index(max(row)) == t) for row, t in zip(shares, true, strict=True)]
            error = 0.0
            for b in range(bins):
                inside = [(sure, right) for sure, right in answers if b / bins < sure <= (b + 1) / bins]
                if inside:
                    gap = sum(right for _, right in inside) / len(inside) - sum(sure for sure, _ in inside) / len(inside)
                    error += len(inside) / len(answers) * abs(gap)
            logs = [
                max(row) / scale + math.log(sum(math.exp((value - max(row)) / scale) for value in row)) - row[t] / scale
                for row, t in zip(logits.tolist(), true, strict=True)
                if math.isfinite(row[t])
            ]
            assert close(report[f"ece{suffix}"], error), (seed, report, error)
            assert close(report[f"nll{suffix}"], sum(logs) / len(logs)) if logs else f"nll{suffix}" not in report, seed
        tally(WHAT, EQUAL)


def test_a_confidence_on_the_bound_of_two_bins_is_in_the_lower_one() -> None:
    """Guo et al. 2017, eq. 1: bins are open below and closed above. Eighths, which a float holds exactly."""
    sure = np.arange(9) / 8
    for bins in (2, 4, 8):
        expected = [sum(b / bins < value <= (b + 1) / bins or value == b == 0 for value in sure.tolist()) for b in range(bins)]
        assert reliability(sure, np.ones(9, bool), bins).count.tolist() == expected


def test_the_temperature_is_the_best_of_a_fine_grid(tally: Tally) -> None:
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 400))
    for seed in range(40):
        true, logits, _ = case(seed * len(KINDS) + seed % 8)
        temperature = fit_temperature(logits, np.array(true))
        best = min(negative_log_likelihood(logits / scale, np.array(true)) for scale in grid)
        assert 0.05 <= temperature <= 20
        assert negative_log_likelihood(logits / temperature, np.array(true)) <= best + 1e-3 * (1 + best), seed
        tally(WHAT, EQUAL)


def test_precision_by_recall(tally: Tally) -> None:
    for seed in range(100):
        generator = np.random.default_rng(seed)
        n, levels = int(generator.integers(1, 40)), int(generator.integers(1, 20))
        positive, score = generator.random(n) < (seed % 5) / 4, generator.integers(0, levels, n) / levels
        curve = []
        for threshold in sorted(set(score.tolist())):
            chosen = [bool(p) for p, s in zip(positive, score, strict=True) if s >= threshold]
            curve.append((sum(chosen) / max(int(positive.sum()), 1), sum(chosen) / len(chosen)))
        expected = [max((precision for recall, precision in curve if recall >= at - 1e-12), default=0.0) for at in RECALLS]
        assert close(interpolated_precision(positive, score), expected), seed
        tally(WHAT, EQUAL)


def test_mcnemar(tally: Tally) -> None:
    for seed in range(50):
        generator = np.random.default_rng(seed)
        first, second = generator.random((2, int(generator.integers(1, 40)))) < generator.choice([0.0, 0.3, 0.7, 1.0], (2, 1))
        one, other = (
            sum(a and not b for a, b in zip(first, second, strict=True)),
            sum(b and not a for a, b in zip(first, second, strict=True)),
        )
        n = one + other
        expected = min(1.0, 2 * sum(math.comb(n, i) for i in range(min(one, other) + 1)) / 2**n) if one != other else 1.0
        result = mcnemar(first, second)
        assert result[:2] == (one, other) and close(result[2], expected)
        tally(WHAT, EQUAL)


def test_a_model_that_knows_no_expression_of_test_has_no_likelihood_there() -> None:
    logits = np.array([[1.0, 0.0, -np.inf]] * 3)
    report = calibration_report(np.array([2, 2, 2]), logits, 2.0, 5)["calibration"]
    assert set(report) == {"temperature", "ece", "ece_uncalibrated"} and report["ece_uncalibrated"] == pytest.approx(1 / (1 + math.exp(-1)))
