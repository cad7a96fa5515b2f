"""verify and crop on all cores compared with one core: wall time of the whole stages."""

import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from affectnet.running.parallel import cores
from benchmarks.growth import write_project
from benchmarks.timing import Process, Row, Scale, run_process

STAGES = ("verify", "crop")
SIZES: dict[Scale, tuple[int, int, int]] = {"smallest": (500, 1, 96), "small": (600, 3, 350), "full": (8_000, 5, 350)}
"""Photographs, rounds, and side of a photograph, px."""


def rows(folder: Path, scale: Scale) -> Iterator[Row]:
    count, rounds, side = SIZES[scale]
    project = folder / "workers"
    write_project(project, count, smallest_px=side, largest_px=side)
    for stage in ("acquire", "verify", "clean"):
        run_process(["-m", f"stages.{stage}"], project)
    taken: dict[tuple[str, int], list[Process]] = {}
    for _ in range(rounds):
        for workers in (1, 0):
            _set_workers(project, workers)
            for stage in STAGES:
                _forget(project)
                taken.setdefault((stage, workers), []).append(run_process(["-m", f"stages.{stage}"], project))
    seconds = {case: statistics.median(process.seconds for process in runs) for case, runs in taken.items()}
    for stage in STAGES:
        yield Row(
            f"{stage}, {count:,} photographs of {side} px, {cores()} workers",
            "s",
            {"ours": seconds[stage, 0], f"one worker, by {cores()}": seconds[stage, 1] / cores()},
        )


def _set_workers(project: Path, workers: int) -> None:
    yaml = YAML()
    document = yaml.load(project / "params.yaml")
    document["runtime"]["workers"] = workers
    yaml.dump(document, project / "params.yaml")


def _forget(project: Path) -> None:
    """Removes the hashes that verify has stored of files it has read."""
    shutil.rmtree(project / ".dvc", ignore_errors=True)
