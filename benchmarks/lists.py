"""clean compared with streaming the same list through plain pyarrow, and with plain pandas: seconds and memory.

`python -m benchmarks.lists CASE FOLDER` runs one case on a generated download; each runs in a process of its own.
"""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from affectnet.params import parse, read_document
from benchmarks.download import stream, write_inventory, write_lists
from benchmarks.timing import ROOT, Process, Row, Scale, run_process

LIST = "root/Manually_Annotated_file_lists/training.csv"
CASES = {"ours": "ours", "plain pyarrow": "pyarrow", "pandas": "pandas"}
MOST_MEGABYTES = 1000.0
SIZES: dict[Scale, tuple[int, int]] = {"smallest": (800, 1), "small": (20_000, 5), "full": (420_000, 5)}
"""Rows of the list, and rounds."""


def rows(folder: Path, scale: Scale) -> Iterator[Row]:
    count, rounds = SIZES[scale]
    write_lists(folder / "root", count).write(folder / "raw")
    write_inventory(folder / "inventory.parquet", folder / "root", count)
    taken: dict[str, list[Process]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, case in CASES.items():
            if name != "pandas" or scale != "full" or len(taken[name]) < 3:  # half a minute each
                taken[name].append(run_process(["-m", "benchmarks.lists", case, str(folder)], ROOT))
    seconds = {name: statistics.median(process.seconds for process in runs) for name, runs in taken.items()}
    memory = {name: max(process.megabytes for process in runs) for name, runs in taken.items()}
    of_list = f"clean, {count:,} rows"
    yield Row(of_list, "s", {name: seconds[name] for name in ("ours", "plain pyarrow")}, 0.5)
    yield Row(of_list, "s", {name: seconds[name] for name in ("ours", "pandas")}, 6.0 if scale == "full" else None)
    yield Row(f"{of_list}, memory", "MB", {"ours": memory["ours"], "limit": MOST_MEGABYTES}, 1.0)
    yield Row(f"{of_list}, memory", "MB", memory)


def run_case(case: str, folder: Path) -> None:
    if case == "pyarrow":
        stream(folder / LIST, folder / "streamed.parquet")
    elif case == "pandas":
        _pandas(folder)
    else:
        from stages.clean import CleanParams, run  # noqa: PLC0415 (the other cases do not need its imports)

        paths = {name: folder / f"{name}.parquet" for name in ("label_issues", "inventory", "annotations", "rejected")}
        params = parse(read_document(), "clean", CleanParams)
        print(run(params, folder / "raw", **paths, audit=folder / "audit.json", metrics=folder / "clean.json"))


def _pandas(folder: Path) -> None:
    import pandas as pd  # noqa: PLC0415 (the other cases do not need its import)

    frame = pd.read_csv(folder / LIST)
    points = frame.pop("facial_landmarks").str.split(";", expand=True).astype("float32").add_prefix("p")
    pd.concat([frame, points], axis=1).to_parquet(folder / "pandas.parquet")


if __name__ == "__main__":
    run_case(sys.argv[1], Path(sys.argv[2]))
