"""Mean and spread over seeds of the experiments that DVC knows: `python -m benchmarks.spread [expression.macro_f1]`.

Experiments that differ only in `train.seed` are one line; a line is named by the params in which the lines differ. The
spread is the sample standard deviation; `n` is the number of seeds. Of several experiments of one seed the last that DVC shows
counts, which the line says.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from affectnet.errors import UserError, exit_code
from affectnet.reporting.values import leaves

METRICS, PARAMS, SEED = "metrics/evaluate.json", "params.yaml", "train.seed"
Params = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Line:
    """One setting: the params in which it differs from the others, and a score for each seed; repeated: (seed, experiments) of several."""

    params: Params
    values: tuple[float, ...]
    repeated: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        named = ", ".join(f"{name} {value}" for name, value in self.params)
        repeated = "".join(f"; seed {seed}: {count} experiments, the last counts" for seed, count in self.repeated)
        return f"{mean_and_deviation(self.values)} (n = {len(self.values)})  {named}{repeated}"


def mean_and_deviation(values: Sequence[float]) -> str:
    """`0.812 ± 0.010`, mean and sample standard deviation; the mean only when there is one value."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def lines(shown: list[dict[str, Any]], score: str) -> list[Line]:
    """The settings, best mean first, from the parsed output of `dvc exp show --json`."""
    groups: dict[Params, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for commit in shown:
        for experiment in commit.get("experiments") or []:
            data = experiment["revs"][0]["data"]
            if not data or METRICS not in data["metrics"]:
                continue
            params: dict[str, Any] = {}
            for name, value in leaves(data["params"][PARAMS]["data"]):
                params[name] = str(value) if isinstance(value, list | dict) else value  # hashable
            scores = dict(leaves(data["metrics"][METRICS]["data"]))
            if score in scores:
                seed = params.pop(SEED)
                groups[tuple(sorted(params.items()))][seed].append(scores[score])
    shared = set.intersection(*(set(params) for params in groups)) if groups else set()
    settings = [
        Line(
            tuple(item for item in params if item not in shared),
            tuple(values[seed][-1] for seed in sorted(values)),
            tuple((seed, len(values[seed])) for seed in sorted(values) if len(values[seed]) > 1),
        )
        for params, values in groups.items()
    ]
    return sorted(settings, key=lambda line: -mean(line.values))


def main() -> None:
    score = sys.argv[1] if len(sys.argv) > 1 else "expression.macro_f1"
    output = subprocess.run(["dvc", "exp", "show", "--json"], capture_output=True, text=True, check=True).stdout
    settings = lines(json.loads(output), score)
    if not settings:
        raise UserError(f"no experiment has {score}; run some with `dvc exp run`")
    print(f"{score}, mean ± standard deviation over seeds")
    print(*settings, sep="\n")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
