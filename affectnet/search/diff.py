"""What a branch changes, for a pull request: `make diff BASE=main` writes diff/diff.md and diff/confusion.svg.

It reads the metrics, params and dvc.lock of both sides from Git, so that it needs neither secrets nor the data set. Whether a difference
is beyond chance is tested on the same faces where the predictions of both sides are in the working folder or the cache.
"""

import argparse
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affectnet.errors import UserError, exit_code
from affectnet.files.atomic import replacing_folder, write_text
from affectnet.metrics.classification import confusion_matrix
from affectnet.metrics.paired import Difference
from affectnet.reporting.metric_report import headlines
from affectnet.reporting.svg import difference_svg
from affectnet.reporting.values import NOT_SHOWN, leaves, setting, shown, without_folders
from affectnet.search.paired_predictions import PREDICTIONS_FILE, Paired, compare_predictions
from affectnet.search.revision import Revision
from affectnet.search.table import fresh

CONFUSION = "metrics/evaluate/confusion.csv"
MOST_CONFUSIONS = 8
"""Cells of the confusion matrix in the table, the most changed first."""

PIPE = "&#124;"
"""In a cell of a table."""

Rows = Sequence[Sequence[str]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m affectnet.search.diff", description=__doc__)
    parser.add_argument("--base", default="main", help="Git revision or DVC experiment to compare with")
    parser.add_argument("--head", help="Git revision or DVC experiment; without it the working folder as it is")
    parser.add_argument("--out", type=Path, default=Path("diff"), help="folder that is written")
    parser.add_argument("--draws", type=int, default=10_000, help="resamples of the faces")
    parser.add_argument("--seed", type=int, default=23)
    options = parser.parse_args()
    if options.draws < 100:
        raise UserError(f"--draws: {options.draws}, at least 100 are needed")
    base, head = Revision.named(options.base), Revision(None) if options.head is None else Revision.named(options.head)
    with replacing_folder(options.out) as folder:
        warnings = [not_current(side) for side in (base, head)]
        drawing = None if any(warnings) else confusion_difference(base, head)
        if drawing is not None:
            write_text(folder / "confusion.svg", drawing[0])
        rows = None if drawing is None else drawing[1]
        write_text(folder / "diff.md", report(base, head, warnings, rows, options.draws, options.seed))
    print(f"diff: {base.title} to {head.title}: {options.out / 'diff.md'}")


def report(base: Revision, head: Revision, warnings: Sequence[str], confusions: Rows | None, draws: int, seed: int) -> str:
    """The page in Markdown. warnings: `not_current` of each side. Errors: UserError when a side has no scores."""
    before, after = base.metrics("evaluate"), head.metrics("evaluate")
    for side, document in ((base, before), (head, after)):
        if not document:
            raise UserError(f"metrics/evaluate.json: {side.title} has none; run `dvc repro` there and commit its metrics")
    params = [base.document("params.yaml"), head.document("params.yaml")]
    before, after = ({} if warning else document for warning, document in zip(warnings, (before, after), strict=True))
    parts = [f"# {base.title} → {head.title}", "", *(line for warning in warnings if warning for line in (warning, ""))]
    parts += _scores(base, head, before, after, draws, seed) if before or after else ()
    parts += _section("Params", ("param", base.title, head.title), changed_params(*params))
    if any(warnings):
        return "\n".join(parts)
    parts += _section("Rows of the data set", ("what `clean` counts", base.title, head.title, "change"), changed_counts(base, head))
    if confusions is not None:
        header = ("actual", "predicted", base.title, head.title, "points")
        parts += _section("Confusions", header, confusions)
        parts += ["![Change of each cell of the confusion matrix, in points of its row](confusion.svg)", ""]
    parts += _section("Sizes", ("output", base.title, head.title), changed_sizes(base, head))
    parts += ["Times are not compared: they depend on the machine, and the pipeline's outputs do not.", ""]
    return "\n".join(parts)


def not_current(side: Revision) -> str:
    """A line that the metrics of the side are not of its params; empty where they are, or no dvc.lock says of which they are."""
    lock = side.document("dvc.lock")
    if not lock or fresh(lock, dict(leaves(side.document("params.yaml")))):
        return ""
    reason = f"The metrics of {side.title} are of other params, data or weights"
    return f"{reason}, so none of its scores, counts and sizes are shown; `dvc repro` renews them."


def _scores(base: Revision, head: Revision, before: Mapping[str, Any], after: Mapping[str, Any], draws: int, seed: int) -> Iterator[str]:
    """The lines about the test faces and the scores. before, after: metrics/evaluate.json; empty for a side whose scores are not shown."""
    faces = [shown(side["faces"]) if side else "–" for side in (before, after)]
    yield f"Test faces: {' and '.join(faces)}. Intervals: 95 %, bootstrap over the test faces."
    yield ""
    paired = Paired([], "Not tested: one side has no scores of its params.")
    if before and after:
        paired = compare_predictions(base.tracked(PREDICTIONS_FILE), head.tracked(PREDICTIONS_FILE), draws, seed)
    by_name = {row.name: row for row in paired.differences}
    rows = []
    for name, group, key in headlines({**before, **after}):
        row = by_name.get(f"{group}.{key}")
        tested = (_ends(row), f"{row.p:.4f}", _verdict(row)) if row else ("", "", "not tested")
        first, second = [side[row.name] for side in paired.scores] if row else [_score(side, group, key) for side in (before, after)]
        change = f"{second['value'] - first['value']:+.3f}" if first and second else ""
        rows.append((name, *map(_with_interval, (first, second)), change, *tested))
    yield from _table(("score", base.title, head.title, "change", "95 %", "p", "beyond chance?"), rows)
    yield paired.note
    yield ""


def _ends(row: Difference) -> str:
    return "too few faces differ" if row.low is None or row.high is None else f"{row.low:+.3f} – {row.high:+.3f}"


def _verdict(row: Difference) -> str:
    return "yes" if row.low is not None and row.high is not None and (row.low > 0 or row.high < 0) else "no"


def _score(report: Mapping[str, Any], group: str, key: str) -> dict[str, float] | None:
    """Value, low and high; None where the side has no such score."""
    if group not in report:
        return None
    return {"value": report[group][key], **report["interval"][group][key]}


def _with_interval(score: Mapping[str, float] | None) -> str:
    return "–" if score is None else f"{score['value']:.3f} ({score['low']:.3f} – {score['high']:.3f})"


def changed_params(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(dotted name, value before, value after) of each param that differs, without the paths of a machine and how stages run."""
    flat = [dict(leaves(document)) for document in (before, after)]
    texts = [{name: setting(without_folders(value)) for name, value in params.items()} for params in flat]
    names = [name for name in {**flat[0], **flat[1]} if name.rpartition(".")[2] not in NOT_SHOWN and not name.startswith("runtime.")]
    differing = [name for name in names if any(name not in params for params in flat) or flat[0][name] != flat[1][name]]
    return [(f"`{name}`", texts[0].get(name, "–"), texts[1].get(name, "–")) for name in differing]


def changed_counts(base: Revision, head: Revision) -> list[tuple[str, str, str, str]]:
    """(count, before, after, change) of each number of metrics/clean.json that differs."""
    before, after = (dict(leaves(side.metrics("clean"))) for side in (base, head))
    names = [name for name in {**before, **after} if before.get(name, 0) != after.get(name, 0)]
    counts = [(name, int(before.get(name) or 0), int(after.get(name) or 0)) for name in names]
    return [(name.replace(".", ", "), f"{first:,}", f"{second:,}", f"{second - first:+,}") for name, first, second in counts]


def changed_sizes(base: Revision, head: Revision) -> list[tuple[str, ...]]:
    """(output, bytes before, bytes after) of each output of a stage whose size differs, and the epochs of the training."""
    rows: list[tuple[str, ...]] = []
    before, after = _sizes(base), _sizes(head)
    for path in {**before, **after}:
        if before.get(path) != after.get(path):
            rows.append((f"`{path}`", *(f"{side[path]:,} bytes" if path in side else "–" for side in (before, after))))
    epochs = [side.metrics("evaluate").get("selection", {}).get("epoch") for side in (base, head)]
    return rows + ([("epoch of the model", *map(str, epochs))] if epochs[0] != epochs[1] else [])


def _sizes(side: Revision) -> dict[str, int]:
    stages = side.document("dvc.lock").get("stages", {})
    return {out["path"]: out.get("size", 0) for stage in stages.values() for out in stage.get("outs", ())}


def confusion_difference(base: Revision, head: Revision) -> tuple[str, Rows] | None:
    """The change of the shares of each actual expression's faces, as SVG, and its largest cells; None where a side has no matrix."""
    tables = [_confusions(side) for side in (base, head)]
    if any(table is None or table.empty for table in tables):
        return None
    columns = [table[column] for table in tables if table is not None for column in ("actual", "predicted")]
    names = list(pd.unique(pd.concat(columns)))
    codes = {name: code for code, name in enumerate(names)}
    matrices = [
        confusion_matrix(table["actual"].map(codes).to_numpy(), table["predicted"].map(codes).to_numpy(), len(names))
        for table in tables
        if table is not None
    ]
    shares = [matrix / np.maximum(matrix.sum(1, keepdims=True), 1) for matrix in matrices]
    points = 100 * (shares[1] - shares[0])
    cells = sorted(np.argwhere(points != 0).tolist(), key=lambda cell: -abs(points[cell[0], cell[1]]))[:MOST_CONFUSIONS]
    rows = [
        (names[a], names[p], *(f"{matrix[a, p]:,} of {matrix[a].sum():,}" for matrix in matrices), f"{points[a, p]:+.1f}") for a, p in cells
    ]
    return difference_svg(points, names), rows


def _confusions(side: Revision) -> pd.DataFrame | None:
    text = side.text(CONFUSION)
    if text is None:
        return None
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if not {"actual", "predicted"} <= set(table.columns):
        raise UserError(f"{CONFUSION} of {side.title}: no columns actual and predicted")
    return table


def _section(title: str, header: Sequence[str], rows: Rows) -> list[str]:
    return [f"## {title}", "", *(_table(header, rows) if rows else ["The same on both sides.", ""])]


def _table(header: Sequence[str], rows: Rows) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', PIPE) for cell in row)} |"
    yield ""


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
