"""`dvc repro` with nothing to do, in the project's own folder, after `dvc repro`."""

import statistics
import subprocess
import time
from pathlib import Path

from benchmarks.timing import ROOT, Row

MOST_SECONDS = 2.0


def rows(folder: Path, full: bool) -> list[Row]:
    taken = []
    for _ in range(6):
        began = time.perf_counter()
        done = subprocess.run(["dvc", "repro"], cwd=ROOT, capture_output=True, text=True, check=True)
        taken.append(time.perf_counter() - began)
        assert "Running stage" not in done.stdout, "run `dvc repro` before `make bench`"
    return [Row("dvc repro, nothing to do", "s", {"ours": statistics.median(taken[1:]), "limit": MOST_SECONDS}, 1.0)]
