"""What the benchmarks of wrong labels share: the errors they inject, and the file of their finished parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affectnet.errors import UserError
from affectnet.files.atomic import write_text
from affectnet.training.losses.expression_loss import Classes
from affectnet.training.tasks import TaskParams
from affectnet.training.trainer import learned_classes
from stages.rebalance import RebalanceParams, expression_weights

Codes = NDArray[np.int64]
Line = dict[str, Any]


def with_errors(labels: Codes, chances: NDArray[np.float64], share: float, generator: np.random.Generator) -> Codes:
    """The labels, of which the share is wrong: a label c becomes d with the chance chances[c, d], never c.

    labels: (n,) columns of chances; chances: (k, k), of which only the proportions off the diagonal of a row count.
    """
    others = np.where(np.eye(len(chances), dtype=bool), 0.0, chances)
    others = others / others.sum(1, keepdims=True)
    wrong = labels.copy()
    for row in generator.permutation(len(labels))[: round(share * len(labels))]:
        wrong[row] = generator.choice(len(chances), p=others[labels[row]])
    return wrong


def classes_of(labels: Codes, rows: Codes, params: RebalanceParams, task: TaskParams) -> Classes:
    """The expressions of a training with these labels, counted and weighted as `rebalance` does. rows: of the plan, repeats included."""
    planned = np.bincount(labels[rows])
    weights = expression_weights(planned, params.weights, params.beta, params.exponent)
    return learned_classes(pa.table({"planned": planned, "weight": weights}), task)


class Lines:
    """The finished parts of a benchmark, one JSON line each: an interrupted run continues after the last.

    A last line that an interrupted run left incomplete is dropped. Errors: UserError for another file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        try:
            self.rows: list[Line] = [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError as error:
            raise UserError(f"{path}: not lines of JSON as this program writes them: {error}; name another file") from None

    def once(self, key: Line, compute: Callable[[], Line]) -> Line:
        """The row of this key, computed and written unless the file has it."""
        for row in self.rows:
            if key.items() <= row.items():
                return row
        row = {**key, **compute()}
        self.rows.append(row)
        write_text(self.path, "".join(f"{json.dumps(one)}\n" for one in self.rows))
        return row
