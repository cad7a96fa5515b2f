"""A confusion matrix as a picture: `python -m affectnet.figures metrics/evaluate/confusion.csv docs/demo_confusion.svg`."""

import csv
import sys
from pathlib import Path

import numpy as np

from affectnet.atomic import replacing
from affectnet.errors import UserError, exit_code
from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.scores import Counts, confusion_matrix

CELL, LEFT, TOP = 56, 110, 84


def read_confusion(path: Path) -> tuple[Counts, list[str]]:
    """(k, k) counts, actual by predicted, and the k names, from the table `actual,predicted` that evaluate writes.

    Errors: UserError when the file is missing or holds anything else.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            pairs = [(CODES[row["actual"]], CODES[row["predicted"]]) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dvc repro`") from None
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a table of actual and predicted expressions ({error!r})") from None
    if not pairs:
        raise UserError(f"{path}: holds no row")
    true, predicted = np.array(pairs).T
    seen = np.union1d(true, predicted)
    return confusion_matrix(true, predicted, len(EXPRESSIONS))[np.ix_(seen, seen)], [EXPRESSIONS[code] for code in seen]


def confusion_svg(counts: Counts, names: list[str]) -> str:
    """The matrix as SVG: each row is one actual expression, shaded by its share, with the number of faces."""
    side = CELL * len(names)
    extent = f"0 0 {LEFT + side + 40} {TOP + side + 12}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{extent}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT + side / 2}" y="18" text-anchor="middle" fill="#555">predicted</text>',
        f'<text x="18" y="{TOP + side / 2}" text-anchor="middle" fill="#555" transform="rotate(-90 18 {TOP + side / 2})">actual</text>',
    ]
    for row, name in enumerate(names):
        middle = CELL * row + CELL / 2
        parts.append(f'<text x="{LEFT - 8}" y="{TOP + middle + 4}" text-anchor="end">{name}</text>')
        parts.append(f'<text transform="translate({LEFT + middle + 4} {TOP - 8}) rotate(-45)">{name}</text>')
        for column, count in enumerate(counts[row].tolist()):
            share = count / max(counts[row].sum(), 1)
            x, y = LEFT + CELL * column, TOP + CELL * row
            red, green, blue = (round(255 + share * (dark - 255)) for dark in (8, 69, 148))
            parts.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="rgb({red},{green},{blue})" stroke="#ddd"/>')
            if count:
                ink = "#fff" if share > 0.5 else "#222"
                parts.append(f'<text x="{x + CELL / 2}" y="{y + CELL / 2 + 5}" text-anchor="middle" fill="{ink}">{count}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    if len(sys.argv) != 3:
        raise UserError("python -m affectnet.figures: wants two arguments, the confusion table and the SVG to write")
    svg = confusion_svg(*read_confusion(Path(sys.argv[1])))
    with replacing(Path(sys.argv[2])) as temporary:
        temporary.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
