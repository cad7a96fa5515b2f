"""`dvc repro` with nothing to do, in the project's folder, after `dvc repro`."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from affectnet.errors import UserError
from benchmarks.timing import ROOT, Row, Scale

MOST_SECONDS = 2.0


def rows(folder: Path, scale: Scale) -> Iterator[Row]:
    taken = []
    for _ in range(2 if scale == "smallest" else 6):
        began = time.perf_counter()
        process = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=ROOT, capture_output=True, text=True, check=True)
        taken.append(time.perf_counter() - began)
        if process.stdout.count("Running stage") > 1:  # fingerprint always runs
            raise UserError("dvc repro: had something to do; run it before the benchmarks")
    yield Row("dvc repro, nothing to do", "s", {"ours": statistics.median(taken[1:]), "limit": MOST_SECONDS}, 1.0)
