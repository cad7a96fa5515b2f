"""Every benchmark, one table: `python -m benchmarks [--full] [NAME …]`, or `make bench`. See docs/benchmarks.md.

Small by default, under five minutes; `--full` has the sizes that the goals are about. Nothing else should run meanwhile.
"""

import argparse
import os
import platform
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path

from affectnet.errors import exit_code
from affectnet.parallel import cores
from benchmarks.timing import ROOT, table

NAMES = ("images", "lists", "training", "predict", "workers", "idle", "growth")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--full", action="store_true", help="the sizes that the goals are about")
    given = parser.parse_args()
    os.chdir(ROOT)
    found = []
    for name in given.names or NAMES:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            found += import_module(f"benchmarks.{name}").rows(Path(folder), given.full)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False).stdout.strip()
    print(f"{commit}, {cores()} cores, {processor()}, Python {platform.python_version()}{', full size' if given.full else ''}\n")
    print(table(found))


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
