"""Mean and spread over seeds of the experiments that DVC knows: `python -m benchmarks.spread [expression.macro_f1]`.

Experiments that differ in `train.seed` alone are one line; a line is named by the params in which the lines differ. The
spread is the sample's standard deviation, and says how far another seed may fall from the mean; `n` is the number of seeds.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from affectnet.errors import UserError, exit_code

METRICS, PARAMS, SEED = "metrics/evaluate.json", "params.yaml", "train.seed"
Params = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Line:
    """One setting: the params in which it differs from the others, and a score for each seed."""

    params: Params
    values: tuple[float, ...]

    def __str__(self) -> str:
        spread = f" ± {stdev(self.values):.3f}" if len(self.values) > 1 else ""
        return f"{mean(self.values):.3f}{spread} (n = {len(self.values)})  {', '.join(f'{name} {value}' for name, value in self.params)}"


def flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of each leaf; lists as text, so that all values can be compared."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", str(value) if isinstance(value, list) else value


def lines(shown: list[dict[str, Any]], score: str) -> list[Line]:
    """The settings, best mean first, from the parsed output of `dvc exp show --json`."""
    groups: dict[Params, dict[int, float]] = defaultdict(dict)
    for commit in shown:
        for experiment in commit.get("experiments") or []:
            data = experiment["revs"][0]["data"]
            if not data or METRICS not in data["metrics"]:
                continue
            params = dict(flat(data["params"][PARAMS]["data"]))
            found = dict(flat(data["metrics"][METRICS]["data"]))
            if score in found:
                seed = params.pop(SEED)
                groups[tuple(sorted(params.items()))][seed] = found[score]
    shared = set.intersection(*(set(params) for params in groups)) if groups else set()
    found_lines = [
        Line(tuple(item for item in params if item not in shared), tuple(values[seed] for seed in sorted(values)))
        for params, values in groups.items()
    ]
    return sorted(found_lines, key=lambda line: -mean(line.values))


def main() -> None:
    score = sys.argv[1] if len(sys.argv) > 1 else "expression.macro_f1"
    output = subprocess.run(["dvc", "exp", "show", "--json"], capture_output=True, text=True, check=True).stdout
    found = lines(json.loads(output), score)
    if not found:
        raise UserError(f"no experiment has {score}; run some with `dvc exp run`")
    print(f"{score}, mean ± standard deviation over seeds")
    print(*found, sep="\n")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
