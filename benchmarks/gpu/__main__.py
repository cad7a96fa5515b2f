"""Everything that a machine with a GPU is to show: `python -m benchmarks.gpu --minutes 10 --out DIR`. See docs/benchmarks.md.

It needs Python 3.11 or newer, torch 2.11 or newer and the packages that the pipeline's stages import; no network, no DVC, no data
set. Each part writes `<DIR>/<part>.json` when it is done, and a part whose file is there, of this commit and this GPU, is not run again:
a run that was cut short continues. With --trainings FILE the rest of the minutes trains what the file lists; see
benchmarks/gpu/trainings.py.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from affectnet.errors import exit_code
from affectnet.files.atomic import write_json
from affectnet.models.device import select_device
from affectnet.running.parallel import cores
from benchmarks.__main__ import commit, processor
from benchmarks.gpu import correctness, speed, trainings
from benchmarks.timing import ROOT

Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, required=True, help="after which it ends, whatever is left to do")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, which may hold those of an earlier run")
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda; the processor only shows that the program runs")
    parser.add_argument("--smallest", action="store_true", help="sizes for a test of this program")
    parser.add_argument("--trainings", type=Path, help="YAML list of trainings for the rest of the minutes")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets that the list names")
    parser.add_argument("--jobs", type=int, default=4, help="trainings side by side")
    parser.add_argument("--only", nargs="*", help="these parts; without a name none, for the trainings only")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = select_device(arguments.device, "--device")
    parts = _parts(smallest=arguments.smallest)
    names = list(parts) if arguments.only is None else arguments.only
    if arguments.here:
        _run(device, {name: parts[name] for name in names}, arguments.out)
        return
    described, of = machine(device), _measured_by(device)
    write_json(arguments.out / "machine.json", described)
    print(json.dumps(described), flush=True)
    _run_in_processes(names, of, arguments, until)
    if arguments.trainings:
        trainings.run_list(arguments.trainings.resolve(), arguments.data.resolve(), arguments.out.resolve(), device, arguments.jobs, until)
    print(summary(arguments.out, names, of, arguments.trainings), flush=True)


def _parts(*, smallest: bool) -> dict[str, Callable[[torch.device], Result]]:
    return {**correctness.parts(smallest=smallest), **speed.parts(smallest=smallest)}


def machine(device: torch.device) -> Result:
    """What this ran on."""
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        **_measured_by(device),
        "GPU's memory, GB": round(gpu.total_memory / 1e9, 1) if gpu else None,
        "processor": processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def _measured_by(device: torch.device) -> Result:
    """The commit and the GPU, which each result has."""
    return {"commit": commit(), "GPU": torch.cuda.get_device_name(device) if device.type == "cuda" else None}


def _run_in_processes(names: Sequence[str], of: Result, arguments: argparse.Namespace, until: float) -> None:
    """Runs the parts without a result of this commit and GPU in one process; when it dies, the parts after that one get another."""
    left = [name for name in names if _read(arguments.out, name, of) is None]
    options = ["--minutes", "0", "--out", str(arguments.out), "--device", arguments.device, *["--smallest"] * arguments.smallest]
    command = [sys.executable, "-m", "benchmarks.gpu", "--here", *options, "--only"]
    while left and time.monotonic() < until:
        try:
            code = subprocess.run([*command, *left], cwd=ROOT, timeout=until - time.monotonic(), check=False).returncode
        except subprocess.TimeoutExpired:
            print("time is over", file=sys.stderr)
            return
        if not code:
            return
        left = [name for name in left if _read(arguments.out, name, of) is None]
        if left:
            write_json(_result(arguments.out, left[0]), {"failed": f"the process ended with exit code {code}", **of})
            left = left[1:]


def _run(device: torch.device, parts: dict[str, Callable[[torch.device], Result]], out: Path) -> None:
    of = _measured_by(device)
    for name, part in parts.items():
        began = time.perf_counter()
        try:
            result = part(device)
        except Exception as error:  # whatever it is, the other parts run
            traceback.print_exc()
            result = {"failed": f"{type(error).__name__}: {error}"}
        write_json(_result(out, name), {**result, **of, "seconds": round(time.perf_counter() - began, 2)})
        print(f"{name}: {json.dumps(result)}", flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _result(out: Path, name: str) -> Path:
    return out / f"{name}.json"


def _read(out: Path, name: str, of: Result) -> Result | None:
    """The result of a part; None without one of this commit and this GPU."""
    path = _result(out, name)
    result: Result = json.loads(path.read_text()) if path.exists() else {}
    return result if of.items() <= result.items() else None


def summary(out: Path, names: Sequence[str], of: Result, listed: Path | None) -> str:
    """One line: how many parts hold, which did not hold or failed, which have no result of this commit and GPU; and the trainings."""
    results = {name: _read(out, name, of) for name in names}
    bad = [name for name, result in results.items() if result and ("failed" in result or not result.get("holds", True))]
    absent = [name for name, result in results.items() if result is None]
    held = f"{len(names) - len(bad) - len(absent)} of {len(names)} parts hold" if names else ""
    said = [held, _named("not", bad), _named("not run", absent)]
    if listed:
        ended = trainings.ended(listed, out)
        said += [f"{sum(ended.values())} of {len(ended)} trainings ended", _named("not", [name for name in ended if not ended[name]])]
    return f"{out}: {'; '.join(filter(None, said))}"


def _named(what: str, names: Sequence[str]) -> str:
    return f"{what}: {', '.join(names)}" if names else ""


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
