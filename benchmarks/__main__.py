"""Every benchmark, one table: `python -m benchmarks [--full | --smallest] [NAME …]`, or `make bench`. See docs/benchmarks.md.

Small by default, under five minutes; `--full` has the sizes of the goals. Nothing else should run at the same time.
"""

import argparse
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from affectnet.errors import exit_code
from affectnet.running.parallel import cores
from benchmarks.timing import ROOT, Failure, Row, Scale, heading, line

NAMES = ("images", "lists", "training", "predict", "workers", "idle", "growth")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=f"of {', '.join(NAMES)}; all by default")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--full", action="store_const", const="full", dest="scale", help="the sizes of the goals")
    scale.add_argument("--smallest", action="store_const", const="smallest", dest="scale", help="enough to see that everything runs")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    size = f", {arguments.scale}" if arguments.scale else ""
    print(f"{commit()}, {cores()} cores, {processor()}, Python {platform.python_version()}{size}\n\n{heading()}", flush=True)
    failures = 0
    for row in measured(arguments.names or NAMES, arguments.scale or "small"):
        print(line(row.cells), flush=True)
        failures += isinstance(row, Failure)
    if failures:
        raise SystemExit(1)


def measured(names: Sequence[str], scale: Scale) -> Iterator[Row | Failure]:
    """The rows of these parts as they are measured; a part that fails ends with a row that says so."""
    for name in names:
        try:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                yield from import_module(f"benchmarks.{name}").rows(Path(folder), scale)
        except Exception as error:  # the other parts are still measured
            yield Failure(name, error)


def commit() -> str:
    """The commit that runs, `-dirty` where files differ from it; empty outside a repository."""
    return subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def processor() -> str:
    """The CPU's name and its vector instructions: `AMD EPYC with AVX-512, bfloat16`."""
    info = Path("/proc/cpuinfo")
    fields = dict(reversed([line.partition(":")[::2] for line in info.read_text().splitlines()])) if info.exists() else {}
    values = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(values.get("flags", "").split())
    kinds = {"AVX-512": "avx512f", "AVX2": "avx2"}
    vectors = [next((kind for kind, flag in kinds.items() if flag in flags), "")]
    vectors += ["bfloat16"] if flags & {"avx512_bf16", "amx_bf16"} else []
    return " with ".join(filter(None, [values.get("model name", platform.processor()), ", ".join(filter(None, vectors))]))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
