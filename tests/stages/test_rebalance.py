import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectnet.errors import UserError
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, PLAN
from stages.rebalance import RebalanceParams, expression_weights, planned_counts, repeats_of, run

RELEASED = np.array([74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750])
"""Training faces by expression in the 2017 and 2021 releases."""


def params(**changes: Any) -> RebalanceParams:
    return RebalanceParams.model_validate(
        {"seed": 1, "method": "none", "limit": 15000, "target": 0, "weights": "inverse", "beta": 0.9999, "exponent": 0.5, **changes}
    )


def annotations(path: Path, expressions: list[int], split: str = "train") -> Path:
    count = len(expressions)
    columns: dict[str, Any] = {name: [None] * count for name in ANNOTATIONS.schema.names}
    columns |= {
        "image": [f"{n}.jpg" for n in range(count)],
        "list": ["l"] * count,
        "row": list(range(1, count + 1)),
        "group": list(range(count)),
    }
    columns |= {"split": [split] * count, "expression": expressions}
    ANNOTATIONS.write(path, pa.table(columns, schema=ANNOTATIONS.schema))
    return path


def test_the_papers_limit_leaves_its_88021_images() -> None:
    assert planned_counts(RELEASED, params(method="downsample")).sum() == 88_021


def test_upsampling_to_the_largest_gives_eight_times_happy() -> None:
    assert planned_counts(RELEASED, params(method="upsample")).tolist() == [134_415] * 8


def test_both_first_limits_then_raises() -> None:
    assert planned_counts(np.array([9, 5, 1, 0]), params(method="both", limit=6, target=3)).tolist() == [6, 5, 3, 0]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("inverse", [1.80, 1, 5.28, 9.54, 21.07, 35.34, 5.40, 35.84]),
        ("inverse_mean_1", [0.125, 0.069, 0.366, 0.662, 1.463, 2.453, 0.375, 2.487]),
        ("sqrt_inverse", [0.403, 0.301, 0.692, 0.930, 1.382, 1.790, 0.700, 1.802]),
        ("effective_number", [0.573, 0.572, 0.621, 0.757, 1.214, 1.809, 0.624, 1.830]),
        ("paper", [0.0501, 0.0279, 0.1473, 0.2661, 0.5880, 0.9861, 0.1507, 1]),
        ("none", [1] * 8),
    ],
)
def test_weights_of_the_released_counts(method: str, expected: list[float]) -> None:
    assert expression_weights(RELEASED, method, 0.9999) == pytest.approx(expected, abs=0.006)


counts = st.lists(st.integers(0, 60), min_size=8, max_size=8).filter(any)


@given(counts, st.sampled_from(["inverse_mean_1", "sqrt_inverse", "effective_number"]))
def test_normalised_weights_average_to_one_over_the_expressions_that_exist(drawn: list[int], method: str) -> None:
    weights = expression_weights(np.array(drawn), method, 0.999)
    assert weights[np.array(drawn) > 0].mean() == pytest.approx(1)
    assert (weights[np.array(drawn) == 0] == 0).all()


@given(counts, st.sampled_from(["none", "downsample", "upsample", "both"]), st.integers(1, 40), st.integers(0, 40), st.integers(0, 9))
def test_a_plan_meets_its_counts_and_repeats_fairly(drawn: list[int], method: str, limit: int, target: int, seed: int) -> None:
    expression = np.repeat(np.arange(8, dtype=np.int8), drawn)
    target = min(target, limit) if method == "both" else target
    planned = planned_counts(np.array(drawn), params(method=method, limit=limit, target=target))
    repeats = repeats_of(expression, planned, np.random.default_rng(seed))
    assert np.bincount(expression, repeats, 8).astype(int).tolist() == planned.tolist()
    for code in np.unique(expression):
        assert np.ptp(repeats[expression == code]) <= 1
    if method == "downsample":
        assert planned.max() <= limit


def test_a_target_that_undoes_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="above limit, 100, which it would undo; raise limit, or choose upsample"):
        params(method="both", limit=100, target=500)
    for method in ("none", "upsample", "downsample"):
        assert params(method=method, limit=100, target=500).target == 500


@pytest.mark.parametrize(("exponent", "same"), [(0.0, "none"), (1.0, "inverse")])
def test_the_power_goes_from_no_weights_to_the_inverse(exponent: float, same: str) -> None:
    assert expression_weights(RELEASED, "power", 0.5, exponent) == pytest.approx(expression_weights(RELEASED, same, 0.5))
    half = expression_weights(RELEASED, "power", 0.5, 0.5)
    assert half == pytest.approx(np.sqrt(expression_weights(RELEASED, "inverse", 0.5)))


def test_the_stage_writes_plan_weights_and_counts_and_names_what_is_absent(tmp_path: Path) -> None:
    table = annotations(tmp_path / "a.parquet", [0] * 6 + [1] * 3)
    said = run(
        params(method="upsample"), table, plan=tmp_path / "p.parquet", class_weights=tmp_path / "w.parquet", metrics=tmp_path / "m.json"
    )
    assert "no face of Sad, Surprise, Fear, Disgust, Anger, Contempt: weight 0" in said
    assert PLAN.read(tmp_path / "p.parquet").to_pydict() == {"row": list(range(9)), "repeats": [1] * 6 + [2] * 3}
    assert CLASS_WEIGHTS.read(tmp_path / "w.parquet")["planned"].to_pylist() == [6, 6, 0, 0, 0, 0, 0, 0]
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["imbalance"] == {"before": 2.0, "after": 1.0} and content["planned"] == 12


def test_validation_and_test_faces_are_not_changed(tmp_path: Path) -> None:
    table = annotations(tmp_path / "a.parquet", [0, 1], split="test")
    with pytest.raises(UserError, match="training split holds no face"):
        run(params(), table, plan=tmp_path / "p", class_weights=tmp_path / "w", metrics=tmp_path / "m")
