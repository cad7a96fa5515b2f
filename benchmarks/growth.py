"""How the cost of each data stage grows with the number of faces: drawn downloads of 1,000, 10,000 and 100,000 with `--full`.

`python -m benchmarks.growth PICTURE` draws the full one as an SVG (docs/growth.svg).
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.timing import ROOT, Process, Row, Scale, run_process

STAGES = ("acquire", "verify", "clean", "crop", "rebalance")
FACES: dict[Scale, tuple[int, ...]] = {"smallest": (128, 192), "small": (500, 2_000), "full": (1_000, 10_000, 100_000)}


def rows(folder: Path, scale: Scale) -> Iterator[Row]:
    """Time compared with linear growth, memory with none, from the smallest number of faces to the largest."""
    counts = FACES[scale]
    taken = measured(folder, counts)
    for stage in STAGES:
        least, most = taken[stage][counts[0]], taken[stage][counts[-1]]
        what = f"{stage}, {counts[0]:,} to {counts[-1]:,} faces"
        yield Row(what, "× s", {"ours": most.seconds / least.seconds, "linear": counts[-1] / counts[0]}, 0.9)
        yield Row(what, "× MB", {"ours": most.megabytes / least.megabytes, "flat": 1.0})


def measured(folder: Path, counts: tuple[int, ...]) -> dict[str, dict[int, Process]]:
    """Stage → number of faces → cost, in a project whose demo has that many."""
    costs: dict[str, dict[int, Process]] = {stage: {} for stage in STAGES}
    for count in counts:
        project = folder / str(count)
        write_project(project, count)
        for stage in STAGES:
            costs[stage][count] = run_process(["-m", f"stages.{stage}"], project)
        shutil.rmtree(project)
    return costs


def write_project(project: Path, count: int, smallest_px: int = 96, largest_px: int = 128) -> None:
    """params.yaml and dvc.yaml with a demo of `count` photographs of sides in px, an eighth of them in the validation list.

    Small by default, so that a hundred thousand are drawn within half an hour.
    """
    project.mkdir()
    shutil.copy(ROOT / "dvc.yaml", project)
    yaml = YAML()
    document = yaml.load(ROOT / "params.yaml")
    validation = count // 64 * 8
    sides = {"smallest_px": smallest_px, "largest_px": largest_px}
    document["datasets"]["demo"].update(training=count - validation, validation=validation, floor=10, **sides)
    document["verify"].update(tolerance=1.0)
    yaml.dump(document, project / "params.yaml")


def draw(taken: dict[str, dict[int, Process]], picture: Path) -> None:
    """Draws seconds and memory by the number of faces, on logarithmic axes, with a dashed line for linear growth."""
    import matplotlib  # noqa: PLC0415 (not needed to measure)

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for stage, by_count in taken.items():
        counts = list(by_count)
        axes[0].plot(counts, [process.seconds for process in by_count.values()], marker="o", label=stage)
        axes[1].plot(counts, [process.megabytes for process in by_count.values()], marker="o", label=stage)
    first, last = min(counts), max(counts)
    axes[0].plot([first, last], [1, last / first], linestyle="--", color="grey", label="linear")
    for axis, label in zip(axes, ("seconds", "MB, without workers"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="faces", ylabel=label)
        axis.grid(visible=True, which="both", alpha=0.2)
    axes[1].set_ylim(bottom=50, top=5000)
    axes[0].legend()
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        costs = measured(Path(name), FACES["full"])
    for stage, by_count in costs.items():
        for count, process in by_count.items():
            cost = f"{process.seconds:8.1f} s {process.megabytes:6.0f} MB"
            print(f"{stage:10} {count:>8,} faces {cost}")
    draw(costs, Path(sys.argv[1]))
