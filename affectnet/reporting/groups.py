"""Scores by group: the content of metrics/groups.json, and its dot plot."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import escape
from numpy.typing import NDArray
from pydantic import Field

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.groups import TESTED, Answers, Scores, bounds, group_floors, group_intervals, group_scores, largest_gaps
from affectnet.metrics.intervals import Tree
from affectnet.metrics.paired import holm
from affectnet.reporting.metric_report import Scoring
from affectnet.reporting.model_facts import score_label
from affectnet.reporting.predictions import Predictions
from affectnet.tables.groups import Grouping

Flat = Mapping[str, float | tuple[float, float]]
"""Scores, or their intervals, by flat name."""

MOST_GROUPS = 50
"""Groups of one grouping that are scored at most."""

NAMED_SMALL = 20
"""Groups with too few faces that are listed by name."""


class GroupScoring(Scoring):
    """Scoring, and the groups whose scores are compared; see params.yaml, section `evaluate`."""

    groups: list[str]
    least_group: int = Field(ge=2)


def group_report(params: GroupScoring, predictions: Predictions, groupings: Sequence[Grouping]) -> Tree:
    """The content of metrics/groups.json: per grouping the scores of its groups, and their largest gaps with a permutation test.

    Groups of fewer than `least_group` faces are counted, not scored. Holm's correction is over all gaps of all groupings.
    """
    if unequal := [grouping for grouping in groupings if len(grouping.group) != len(predictions)]:
        raise UserError(
            f"data/annotations.parquet: {len(unequal[0].group):,} test faces, but {len(predictions):,} are cropped; run `dvc repro`"
        )
    answers = Answers(predictions.names, predictions.true, predictions.predicted, predictions.true_affect, predictions.affect)
    present = [grouping for grouping in groupings if (grouping.group >= 0).any()]
    by = {grouping.name: _grouping_report(params, answers, grouping) for grouping in present}
    gaps = [gap for grouping in by.values() for gap in grouping["gap"].values()]
    for gap, corrected in zip(gaps, holm([gap["p"] for gap in gaps]), strict=True):
        gap["p_holm"] = corrected
    return {
        "faces": len(predictions),
        "least_group": params.least_group,
        "without_a_face": [grouping.name for grouping in groupings if grouping not in present],
        "machine_estimates": [grouping.name for grouping in present if grouping.estimated],
        "overall": _tree(_first(group_scores(answers, np.zeros(len(predictions), np.int64), 1, params.least_group))),
        "by": by,
    }


def _grouping_report(params: GroupScoring, answers: Answers, grouping: Grouping) -> Tree:
    counts = np.bincount(grouping.group[grouping.group >= 0], minlength=len(grouping.groups))
    large = np.flatnonzero(counts >= params.least_group)
    small = np.flatnonzero((counts > 0) & (counts < params.least_group))
    if len(large) > MOST_GROUPS:
        raise UserError(
            f"evaluate.groups: {grouping.name} has {len(large):,} groups of at least {params.least_group} faces, more than "
            f"{MOST_GROUPS}; name a coarser column, or raise evaluate.least_group"
        )
    names = [grouping.groups[at] for at in large]
    generator = np.random.default_rng(params.seed)
    chosen = np.isin(grouping.group, large)
    of_scored, group = answers.of(chosen), np.searchsorted(large, grouping.group[chosen])
    resamples = [group_intervals(of_scored.of(group == at), params.bootstrap, params.least_group, generator) for at in range(len(large))]
    values = group_scores(of_scored, group, len(large), params.least_group)
    gaps = largest_gaps(of_scored, group, resamples, params.least_group, generator) if len(large) > 1 else {}
    return {
        "faces": int(counts.sum()),
        "without_a_group": int((grouping.group < 0).sum()),
        "rows_without_a_face": grouping.unmatched,
        "small": {"groups": len(small), "faces": int(counts[small].sum())},
        "small_groups": [f"{grouping.groups[at]} ({counts[at]})" for at in small[:NAMED_SMALL]],
        "group": {
            name: {"n": int(counts[large[at]]), **_tree(_at(values, at)), "interval": _tree(bounds(resamples[at]))}
            for at, name in enumerate(names)
        },
        "gap": {
            name: {
                "value": gap.value,
                "low": gap.low,
                "high": gap.high,
                "p": gap.p,
                "highest": names[gap.highest],
                "lowest": names[gap.lowest],
            }
            for name, gap in gaps.items()
        },
    }


def subset_report(params: GroupScoring, predictions: Predictions, subset: Grouping) -> Tree:
    """For metrics/evaluate.json: under `by_subset`, `interval` and `floor` accuracy and macro-F1 of each subset of AffectNet+.

    Of all expressions and, where the model knows eight, without Contempt. Empty when no face has a subset, or the model has no
    expressions.
    """
    tree: Tree = {"by_subset": {}, "interval": {"by_subset": {}}, "floor": {"by_subset": {}}}
    for code, name in enumerate(subset.groups):
        faces = subset.group == code
        if not faces.any() or not len(predictions.codes):
            continue
        scored = _subset_scores(params, predictions, faces)
        for part, values in (("by_subset", 0), ("interval", 1), ("floor", 2)):
            of_part = {group: _tree(scores[values]) for group, scores in scored.items()}
            (tree if part == "by_subset" else tree[part])["by_subset"][name] = of_part
        tree["by_subset"][name]["faces"] = int(faces.sum())
    return tree if tree["by_subset"] else {}


def _subset_scores(params: GroupScoring, predictions: Predictions, faces: NDArray[np.bool_]) -> dict[str, tuple[Flat, Flat, Flat]]:
    """Of eight expressions and of seven, as `expression` and `expression_7`: scores, intervals and floors."""
    parts = {"expression": (predictions, faces)}
    if set(predictions.metadata.labels) == set(EXPRESSIONS) and "Contempt" in predictions.names:
        others = predictions.true != predictions.names.index("Contempt")
        parts["expression_7"] = (predictions.without("Contempt"), faces[others])
    scored: dict[str, tuple[Flat, Flat, Flat]] = {}
    for name, (of_part, chosen) in parts.items():
        if chosen.any():
            answers = Answers(of_part.names, of_part.true, of_part.predicted, of_part.true_affect, of_part.affect).of(chosen)
            values = _first(group_scores(answers, np.zeros(len(answers.true), np.int64), 1, params.least_group))
            resamples = group_intervals(answers, params.bootstrap, params.least_group, np.random.default_rng(params.seed))
            ends, floors = bounds(resamples), group_floors(answers)
            scored[name] = {key: values[key] for key in floors}, {key: ends[key] for key in floors}, dict(floors)
    return scored


def _at(values: Scores, group: int) -> dict[str, float]:
    return {name: float(of_groups[group]) for name, of_groups in values.items() if np.isfinite(of_groups[group])}


def _first(values: Scores) -> dict[str, float]:
    return _at(values, 0)


def _tree(flat: Flat) -> Tree:
    """Scores or intervals by flat name as a tree: `recall/Happy` → recall: Happy; an interval as low and high."""
    tree: Tree = {}
    for name, value in flat.items():
        *above, last = name.split("/")
        node = tree.setdefault(above[0], {}) if above else tree
        node[last] = {"low": value[0], "high": value[1]} if isinstance(value, tuple) else value
    return tree


def groups_line(report: Mapping[str, Any]) -> str:
    """One line for the summary of a stage: the largest gap of the first score by grouping."""
    parts = []
    for name, grouping in report["by"].items():
        for score in [score for score in TESTED if score in grouping["gap"]][:1]:
            gap = grouping["gap"][score]
            parts.append(f"{name} {score_label(score)} {gap['highest']} {gap['value']:.3f} above {gap['lowest']} (p {gap['p_holm']:.3f})")
    return "; ".join(parts)


ROW, HEAD, LEFT, PANEL, GUTTER, MARGIN = 20, 30, 190, 170, 44, 14
INK, QUIET, DOT, OVERALL = "#222", "#666", "#084594", "#c7702e"


@dataclass(frozen=True)
class _Panel:
    """One score's column of the plot: its left edge in px and the range of its axis."""

    name: str
    left: float
    low: float
    high: float

    def x(self, value: float) -> float:
        return self.left + PANEL * (value - self.low) / (self.high - self.low)


def groups_svg(report: Mapping[str, Any]) -> str | None:
    """A row per scored group, a panel per score: dot, 95 % interval, and a line at the score of all faces; None without two groups."""
    by = {name: grouping for name, grouping in report["by"].items() if len(grouping["group"]) > 1}
    scores = [name for name in TESTED if any(name in one for grouping in by.values() for one in grouping["group"].values())]
    if not scores:
        return None
    panels = [_panel(name, LEFT + number * (PANEL + GUTTER), by) for number, name in enumerate(scores)]
    height = HEAD + sum(ROW * (1.4 + len(grouping["group"])) for grouping in by.values()) + 30
    width = LEFT + len(panels) * (PANEL + GUTTER) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for panel in panels:
        parts += _frame(panel, report["overall"].get(panel.name), height - 30)
    top = HEAD + 6.0
    for name, grouping in by.items():
        parts.append(f'<text x="{MARGIN}" y="{top + 13:g}" fill="{INK}" font-weight="bold">{escape(name)}</text>')
        top += ROW
        for group, values in grouping["group"].items():
            parts += _row(str(group), values, panels, top)
            top += ROW
        top += 0.4 * ROW
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, left: float, by: Mapping[str, Any]) -> _Panel:
    """The axis covers all intervals, in steps of 0.1."""
    values = [values for grouping in by.values() for values in grouping["group"].values() if name in values]
    ends = [one["interval"].get(name, {"low": one[name], "high": one[name]}) for one in values]
    low, high = min(end["low"] for end in ends), max(end["high"] for end in ends)
    return _Panel(name, left, float(np.floor(low * 10) / 10), float(np.ceil(high * 10 + 1e-9) / 10))


def _frame(panel: _Panel, overall: float | None, bottom: float) -> Iterator[str]:
    yield f'<text x="{panel.left + PANEL / 2}" y="18" text-anchor="middle" fill="{INK}">{score_label(panel.name)}</text>'
    yield f'<rect x="{panel.left}" y="{HEAD}" width="{PANEL}" height="{bottom - HEAD:g}" fill="none" stroke="#ddd"/>'
    for value in (panel.low, (panel.low + panel.high) / 2, panel.high):
        yield f'<path d="M{panel.x(value):.1f} {HEAD}V{bottom:g}" stroke="#eee"/>'
        yield f'<text x="{panel.x(value):.1f}" y="{bottom + 16:g}" text-anchor="middle" fill="{QUIET}">{value:.3g}</text>'
    if overall is not None and panel.low <= overall <= panel.high:
        yield f'<path d="M{panel.x(overall):.1f} {HEAD}V{bottom:g}" stroke="{OVERALL}" stroke-dasharray="4 3"/>'


def _row(group: str, values: Mapping[str, Any], panels: Sequence[_Panel], top: float) -> Iterator[str]:
    middle = top + ROW / 2
    shown = group if len(group) <= 20 else f"{group[:19]}…"
    yield f'<text x="{MARGIN + 10}" y="{middle + 4:g}" fill="{INK}">{escape(shown)}</text>'
    yield f'<text x="{LEFT - 12}" y="{middle + 4:g}" text-anchor="end" fill="{QUIET}">{values["n"]:,}</text>'
    for panel in panels:
        if panel.name in values:
            if (ends := values["interval"].get(panel.name)) is not None:
                low, high = panel.x(ends["low"]), panel.x(ends["high"])
                yield f'<path d="M{low:.1f} {middle:g}H{high:.1f}" stroke="{DOT}" stroke-width="2"/>'
            yield f'<circle cx="{panel.x(values[panel.name]):.1f}" cy="{middle:g}" r="4" fill="{DOT}"/>'
