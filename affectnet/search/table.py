"""All experiments as a table that fits a terminal, with what differs between them: `make table`.

`dvc exp show` has every count, interval and class, and takes the metrics that Git holds for those of the params next to them.
"""

import argparse
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from affectnet.errors import UserError, exit_code
from affectnet.params import PARAMS_FILE, read_document, switches
from affectnet.reporting.model_facts import report_label
from affectnet.reporting.values import NOT_SHOWN, leaves, setting
from affectnet.search.revision import Revision

WIDEST = 160
"""Characters of a line at most."""

LONGEST_NAME = 28

SCORES = ("expression.accuracy", "expression.macro_f1", "valence.ccc", "arousal.ccc", "selection.score")
METRICS = "metrics/evaluate.json"
ALWAYS = "dataset"
"""The switch that each row shows: scores on other data are not comparable."""

OF_A_COPY = {*NOT_SHOWN, "expected"}
"""Params of a data set that say where a copy is and what it should hold, not which faces train or are scored."""

Row = dict[str, Any]


def rows(num: int) -> list[Row]:
    """One row per workspace, commit and experiment: name, created, params (dotted name → value), scores, fresh.

    fresh: whether the metrics were made by these params, data and weights. In Git they may be those of an earlier run.
    """
    from dvc.repo import Repo  # noqa: PLC0415 (a second)

    with Repo.open(None) as repo:
        shown = repo.experiments.show(num=num)
    table = []
    for state in shown:
        experiments = [run for group in state.experiments or [] for run in group.revs]
        table += [_row(one) for one in [state, *experiments]]
    return table


def _row(state: Any) -> Row:
    data = state.data
    name = state.name or ("workspace" if state.rev == "workspace" else state.rev[:7])
    if data is None:
        return {"name": name, "created": None, "params": {}, "scores": {}, "fresh": True}
    params = _leaves(data.params, str(PARAMS_FILE))
    revision = None if state.rev == "workspace" else state.rev
    created = data.timestamp and data.timestamp.strftime("%m-%d %H:%M")
    scores = {key: value for key, value in _leaves(data.metrics, METRICS).items() if key in SCORES}
    return {"name": name, "created": created, "params": params, "scores": scores, "fresh": fresh(_lock(revision), params)}


def _leaves(files: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Dotted name → value of one file; empty where it is missing or unreadable at this state."""
    content = (files.get(file) or {}).get("data")
    return dict(leaves(content)) if isinstance(content, Mapping) else {}


def _lock(revision: str | None) -> Mapping[str, Any]:
    """dvc.lock of the revision, or of the workspace; empty where there is none."""
    from ruamel.yaml import YAML  # noqa: PLC0415

    return YAML(typ="safe").load(Revision(revision, revision or "").text("dvc.lock") or "") or {}


def fresh(lock: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether the scores are of these params (dotted name → value), by what the lock recorded when the stages ran.

    Of `evaluate` and the stages behind it, each recorded param or section is the same now, and each read what the others wrote last.
    """
    stages = {name: stage or {} for name, stage in (lock.get("stages") or {}).items()}
    behind = _behind_scores(stages)
    for stage in behind:
        for key, value in ((stage.get("params") or {}).get(str(PARAMS_FILE)) or {}).items():
            now = {name: content for name, content in params.items() if name == key or name.startswith(f"{key}.")}
            if now and now != dict(leaves({key: value})):
                return False
    written: dict[tuple[str, str | None], set[str]] = {}
    for stage in stages.values():
        for file, md5 in _hashes(stage, "outs"):
            written.setdefault(file, set()).add(md5)
    return bool(lock) and all(md5 in written.get(file, {md5}) for stage in behind for file, md5 in _hashes(stage, "deps"))


def _behind_scores(stages: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`evaluate` and the stages whose outputs it or one of them reads; all of a lock without `evaluate`."""
    if "evaluate" not in stages:
        return list(stages.values())
    behind, waiting = {"evaluate"}, ["evaluate"]
    while waiting:
        read = {entry["path"] for entry in stages[waiting.pop()].get("deps") or ()}
        writers = {name for name, stage in stages.items() if any(entry["path"] in read for entry in stage.get("outs") or ())} - behind
        behind |= writers
        waiting += writers
    return [stages[name] for name in behind]


def _hashes(stage: Mapping[str, Any], entries: str) -> Iterator[tuple[tuple[str, str | None], str]]:
    """(path, kind of hash) and hash of each dep or output that has one; the kind, because an earlier DVC hashed the same file otherwise."""
    for entry in stage.get(entries) or ():
        if "md5" in entry:
            yield (entry["path"], entry.get("hash")), entry["md5"]


def lines(table: Sequence[Row], switch_names: Sequence[str], width: int) -> list[str]:
    """The table as text: switches that differ, the scores that any row has, and each row's own params that differ."""
    known = [name for name in switch_names if any(name in row["params"] for row in table)]
    differing = [name for name in known if name == ALWAYS or len({str(row["params"].get(name)) for row in table}) > 1]
    scores = [name for name in SCORES if any(row["fresh"] and name in row["scores"] for row in table)]
    settings = _settings(table, known)
    cells = [["experiment", "created", *map(_score_label, scores), *differing, "differs in"]]
    for row, differs in zip(table, settings, strict=True):
        values = [f"{row['scores'][name]:.3f}" if row["fresh"] and name in row["scores"] else "–" for name in scores]
        chosen = [_cut(str(row["params"].get(name, "–")), 18) for name in differing]
        cells.append([_cut(row["name"], LONGEST_NAME), row["created"] or "–", *values, *chosen, differs])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    text = ["  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in cells]
    if stale := sum(not row["fresh"] and bool(row["scores"]) for row in table):
        text.append(
            f"– in {stale} of {len(table)} rows: the scores in Git are of other params, data or weights; `dvc repro` makes new ones"
        )
    return [_cut(line, width) for line in text]


def _settings(table: Sequence[Row], switch_names: Sequence[str]) -> list[str]:
    """Per row its params that are not the same in each row that has them, of the entries that its switches select."""
    catalogues = switches(read_document())
    selected = [{f"{catalogues[name]}.{row['params'].get(name)}." for name in catalogues} for row in table]
    values: dict[str, set[str]] = {}
    for row, entries in zip(table, selected, strict=True):
        for name, value in _own(row, entries, catalogues.values()).items():
            values.setdefault(name, set()).add(str(value))
    moved = {name for name, different in values.items() if len(different) > 1}
    return [
        ", ".join(
            f"{name} {setting(value)}"
            for name, value in _own(row, entries, catalogues.values()).items()
            if name in moved and name not in switch_names
        )
        for row, entries in zip(table, selected, strict=True)
    ]


def _own(row: Row, entries: set[str], catalogues: Any) -> dict[str, Any]:
    """The row's params; of a catalogue only those of the selected entry, as `optimizers.lr`, and of a data set none that concern a copy."""
    kept: dict[str, Any] = {}
    for name, value in row["params"].items():
        section, _, rest = name.partition(".")
        if section in {"runtime", "search"}:
            continue
        if section not in set(catalogues):
            kept[name] = value
        elif any(name.startswith(entry) for entry in entries):
            inner = rest.partition(".")[2]
            if section != "datasets" or inner.partition(".")[0] not in OF_A_COPY:
                kept[f"{section}.{inner}"] = value
    return kept


def _score_label(name: str) -> str:
    group, _, key = name.partition(".")
    return "selection" if group == "selection" else report_label(group, key)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m affectnet.search.table", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num", type=int, default=1, help="commits whose experiments are shown; -1: all")
    options = parser.parse_args()
    if not Path("dvc.yaml").exists():
        raise UserError("dvc.yaml: not there; run from the clone's folder")
    names = [name for name, value in read_document().items() if isinstance(value, str)]
    print("\n".join(lines(rows(options.num), names, min(WIDEST, max(80, shutil.get_terminal_size((WIDEST, 24)).columns)))))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
