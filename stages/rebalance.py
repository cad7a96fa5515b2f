"""Plans how often an epoch shows each training face, and computes the class weights. No image is copied."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from affectnet.errors import UserError
from affectnet.files.atomic import write_json
from affectnet.params import Section
from affectnet.running.run_stage import launch
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.labels import read_labels
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, PLAN

Counts = NDArray[np.int64]
Weights = NDArray[np.float64]


class RebalanceParams(Section):
    """Section `rebalance`."""

    seed: int = Field(ge=0)
    method: Literal["none", "downsample", "upsample", "both"]
    limit: int = Field(ge=1)
    target: int = Field(ge=0)
    weights: Literal["none", "inverse", "inverse_mean_1", "sqrt_inverse", "effective_number", "paper", "power"]
    exponent: float = Field(ge=0, le=2)
    beta: float = Field(gt=0, lt=1)

    @field_validator("target")
    @classmethod
    def _at_most_the_limit(cls, target: int, others: ValidationInfo) -> int:
        """Errors: ValueError when with `both` the target would undo the limit."""
        limit = others.data.get("limit")
        if others.data.get("method") == "both" and limit is not None and target > limit:
            raise PydanticCustomError(
                "undone", "above limit, {limit}, which it would undo; raise limit, or choose upsample", {"limit": limit}
            )
        return target


def planned_counts(counts: Counts, params: RebalanceParams) -> Counts:
    """Faces that an epoch shows per expression, (k,) from (k,) counts; an expression without faces stays at 0.

    downsample: at most `limit` (15,000 in Mollahosseini et al. 2017, section 5.2); upsample: at least `target`, where 0
    is the largest expression's count; both: first the limit, then the target.
    """
    planned = counts.copy()
    if params.method in {"downsample", "both"}:
        planned = np.minimum(planned, params.limit)
    if params.method in {"upsample", "both"}:
        planned = np.maximum(planned, params.target or planned.max(initial=0))
    return np.where(counts > 0, planned, 0)


def repeats_of(expression: NDArray[np.int8], planned: Counts, generator: np.random.Generator) -> Counts:
    """How often each face is shown, (n,): within an expression every face equally often, some of them, drawn at random, once more."""
    repeats = np.zeros(len(expression), np.int64)
    for code in np.flatnonzero(planned):
        rows = np.flatnonzero(expression == code)
        each, more = divmod(int(planned[code]), len(rows))
        repeats[rows] = each
        repeats[generator.permutation(rows)[:more]] += 1
    return repeats


def expression_weights(counts: Counts, method: str, beta: float, exponent: float = 0.5) -> Weights:
    """The weight per expression in the loss, (k,) from the (k,) counts of an epoch; 0 without faces.

    inverse: n_max / n_c (1 for the largest; HSEmotion, Savchenko 2021); inverse_mean_1: 1 / n_c scaled to mean 1;
    sqrt_inverse: 1 / √n_c scaled to mean 1; effective_number: (1 − β) / (1 − β^n_c) scaled to mean 1 (Cui et al. 2019,
    eq. 7); paper: n_min / n_c (1 for the rarest; the diagonal infogain matrix of Mollahosseini et al. 2017); power:
    (n_max / n_c)^exponent. Means are over the expressions that have faces.
    """
    present = counts > 0
    n = np.where(present, counts, 1).astype(np.float64)
    raw = {
        "none": np.ones_like(n),
        "inverse": n[present].max(initial=1) / n,
        "paper": n[present].min(initial=np.inf) / n,
        "power": (n[present].max(initial=1) / n) ** exponent,
        "inverse_mean_1": 1 / n,
        "sqrt_inverse": 1 / np.sqrt(n),
        "effective_number": (1 - beta) / (1 - beta**n),
    }[method]
    if method in {"inverse_mean_1", "sqrt_inverse", "effective_number"}:
        raw = raw / raw[present].mean()
    return np.where(present, raw, 0.0)


def run(params: RebalanceParams, annotations: Path, *, plan: Path, class_weights: Path, metrics: Path) -> str:
    """Writes the plan, the class weights and the counts; returns the summary line."""
    rows = ANNOTATIONS.read(annotations, ["split", "expression"])
    expression = rows.filter(pc.equal(rows["split"], "train"))["expression"].to_numpy()
    if not len(expression):
        raise UserError("data/annotations.parquet: the training split holds no face; see metrics/clean.json for why rows were rejected")
    names = read_labels(annotations)
    counts = np.bincount(expression, minlength=len(names))
    repeats = repeats_of(expression, planned_counts(counts, params), np.random.default_rng(params.seed))
    planned = np.bincount(expression, weights=repeats, minlength=len(names)).astype(np.int64)
    weights = expression_weights(planned, params.weights, params.beta, params.exponent)
    shown = np.flatnonzero(repeats)
    PLAN.write(plan, pa.table({"row": shown, "repeats": repeats[shown]}))
    codes = np.arange(len(names))
    CLASS_WEIGHTS.write(
        class_weights, pa.table({"expression": codes, "name": names, "count": counts, "planned": planned, "weight": weights})
    )
    write_json(
        metrics,
        {
            "faces": len(expression),
            "planned": int(planned.sum()),
            "imbalance": {"before": _imbalance(counts), "after": _imbalance(planned)},
            "before": dict(zip(names, counts.tolist(), strict=True)),
            "after": dict(zip(names, planned.tolist(), strict=True)),
            "weight": dict(zip(names, weights.tolist(), strict=True)),
        },
    )
    absent = [name for name, count in zip(names, counts, strict=True) if not count]
    missing = f"; no face of {', '.join(absent)}: weight 0" if absent else ""
    return f"rebalance: {params.method}, {len(expression):,} training faces, {planned.sum():,} per epoch, weights {params.weights}{missing}"


def _imbalance(counts: Counts) -> float:
    """The largest count divided by the smallest, over the expressions that have faces."""
    present = counts[counts > 0]
    return float(present.max() / present.min())


if __name__ == "__main__":
    launch(run)
