"""Copies the demo's result into README.md: `python -m tools.demo_result`, or `make readme`, after `dvc repro` with the shipped params.

Writes docs/demo_result.json from metrics/evaluate.json and metrics/evaluate/confusion.csv, the rows of README's table, and
docs/demo_confusion.svg. The tests compare README with this record, because users commit other results in metrics/.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from affectnet.errors import UserError, exit_code
from affectnet.files.atomic import write_json, write_text
from affectnet.reporting.plot_tables import read_confusion
from affectnet.reporting.svg import confusion_svg

SECTION = re.compile(r"^## The demo's result\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
SCORES = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
"""Key in metrics/evaluate.json → label in README's table."""


def read_result(folder: Path) -> dict[str, Any]:
    """The record of the result in metrics/: scores with intervals and floors, and the confusion matrix."""
    metrics = json.loads((folder / "metrics" / "evaluate.json").read_text(encoding="utf-8"))
    counts, names = read_confusion(folder / "metrics" / "evaluate" / "confusion.csv")
    scores = {
        name: {
            "value": metrics["expression"][name],
            **metrics["interval"]["expression"][name],
            "floor": metrics["floor"]["expression"][name],
        }
        for name in SCORES
    }
    return {"faces": metrics["faces"], "scores": scores, "confusion": {"names": names, "counts": counts.tolist()}}


def table_rows(record: dict[str, Any]) -> dict[str, str]:
    """First cell → row of README's table."""
    return {
        label: "| {} | {value:.3f} | {low:.3f} – {high:.3f} | {floor:.3f} |".format(label, **record["scores"][name])
        for name, label in SCORES.items()
    }


def picture(record: dict[str, Any]) -> str:
    """The confusion matrix as SVG."""
    return confusion_svg(np.array(record["confusion"]["counts"]), record["confusion"]["names"])


def copy_result(folder: Path) -> None:
    """Writes record, rows and picture. Errors: UserError when README has no such section or row."""
    record, readme = read_result(folder), (folder / "README.md").read_text(encoding="utf-8")
    section = SECTION.search(readme)
    if section is None:
        raise UserError(f'{folder / "README.md"}: no section "The demo\'s result"; write one with a table of the scores')
    text = section.group()
    for label, row in table_rows(record).items():
        text, replaced = re.subn(rf"^\| {label} \|.*$", row, text, flags=re.MULTILINE)
        if replaced != 1:
            raise UserError(f"{folder / 'README.md'}: {replaced} rows '{label}' in \"The demo's result\"; one is needed")
    write_text(folder / "README.md", readme[: section.start()] + text + readme[section.end() :])
    write_json(folder / "docs" / "demo_result.json", record)
    write_text(folder / "docs" / "demo_confusion.svg", picture(record))


def main() -> None:
    copy_result(Path.cwd())
    print("README.md, docs/demo_result.json and docs/demo_confusion.svg show the result in metrics/")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
