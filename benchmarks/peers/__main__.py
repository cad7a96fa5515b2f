"""Ours compared with fer and human on the same photographs, one core each: python -m benchmarks.peers FOLDER --aside DIR [--count N].

FOLDER holds one folder per expression, as for `affectnet evaluate`. The peers are installed into DIR, 8 GB with TensorFlow, if they are
not there. They get decoded pixels, so reading and decoding count only for ours. A photograph without a face is an error.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from affectnet.errors import UserError, exit_code
from affectnet.images.decode import open_photograph
from affectnet.predict.image_folder import Labelled, class_folders, photographs, with_labels
from benchmarks.timing import ROOT

HERE = Path(__file__).parent
FER = "fer==25.10.3"
NAMES = {
    "angry": "Anger",
    "disgust": "Disgust",
    "fear": "Fear",
    "happy": "Happy",
    "neutral": "Neutral",
    "sad": "Sad",
    "surprise": "Surprise",
}
"""The peers' names of the expressions."""

Result = dict[str, Any]
"""milliseconds, and faces: box and expression of each."""


@dataclass(frozen=True)
class Scores:
    """Shares of the photographs: with a face, with more than one, right; milliseconds: the median of one photograph."""

    detected: float
    several: float
    right: float
    milliseconds: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--aside", type=Path, required=True, metavar="DIR", help="where the peers are installed")
    parser.add_argument("--count", type=int, default=600, help="photographs, evenly spread; default 600")
    options = parser.parse_args()
    chosen = _chosen(options.folder, options.count)
    true = [photograph.label for photograph in chosen]
    install(options.aside.resolve())
    print(f"{len(chosen):,} photographs, one core each\n\n| | with a face | with several | accuracy | ms, median |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        listed = write_lists([photograph.path for photograph in chosen], Path(folder))
        for name, command in commands(options.aside.resolve(), listed).items():
            scores = _scores(results_of(command), true)
            print(f"| {name} | {scores.detected:.3f} | {scores.several:.3f} | {scores.right:.3f} | {scores.milliseconds:.1f} |", flush=True)


def _chosen(folder: Path, count: int) -> list[Labelled]:
    """Photographs of the seven expressions that all three know. Errors: UserError as `class_folders`, and when there is none."""
    folders = class_folders(folder, None, with_labels([]))
    known = [one for one in photographs(folders, print, lambda _: None) if one.label != "Contempt"]
    if not known:
        raise UserError(f"{folder}: no photograph of {', '.join(NAMES.values())}")
    return [known[at] for at in np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)]


def write_lists(paths: Sequence[str], folder: Path) -> Mapping[str, Path]:
    """Two lists: the files, and raw RGB pixels with height and width."""
    rows = []
    for number, path in enumerate(paths):
        pixels = open_photograph(Path(path).read_bytes(), path).pixels()
        colour = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)
        raw = folder / f"{number}.rgb"
        raw.write_bytes(colour.tobytes())
        rows.append((Path(path).resolve(), raw, *colour.shape[:2]))
    lists = {"files": folder / "files.tsv", "pixels": folder / "pixels.tsv"}
    lists["files"].write_text("".join(f"{path}\n" for path, *_ in rows), encoding="utf-8")
    lists["pixels"].write_text("".join(f"{raw}\t{height}\t{width}\n" for _, raw, height, width in rows), encoding="utf-8")
    return lists


def install(aside: Path) -> None:
    """Installs the peers into the folder, unless they are there."""
    if not (aside / "fer").exists():
        subprocess.run([sys.executable, "-m", "venv", aside / "fer"], check=True)
        subprocess.run([aside / "fer" / "bin" / "pip", "install", "--quiet", FER], check=True)
    if not (aside / "node_modules").exists():
        shutil.copy(HERE / "package.json", aside)
        subprocess.run(["npm", "install", "--silent", "--no-package-lock"], cwd=aside, check=True)


def commands(aside: Path, listed: Mapping[str, Path], whole: bool = False) -> dict[str, list[str]]:
    """whole: each photograph is one face, and no detector runs."""
    flags = ["whole"] if whole else []
    return {
        "ours": [sys.executable, "-m", "benchmarks.peers.ours_runner", str(listed["files"])],
        "fer 25.10.3": [str(aside / "fer" / "bin" / "python"), str(HERE / "fer_runner.py"), str(listed["pixels"]), *flags],
        "human 3.3.6, WebAssembly": ["node", str(HERE / "human_runner.mjs"), str(aside / "node_modules"), str(listed["pixels"]), *flags],
    }


def results_of(command: Sequence[str]) -> list[Result]:
    """The results of the photographs, by one core."""
    core = min(os.sched_getaffinity(0))
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = ["taskset", "--cpu-list", str(core), *command]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{command[3]}: failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _scores(results: Sequence[Result], true: Sequence[str]) -> Scores:
    counts = np.array([len(result["faces"]) for result in results])
    answers = [largest(result["faces"]) for result in results]
    right = [answer == name for answer, name in zip(answers, true, strict=True)]
    milliseconds = median(result["milliseconds"] for result in results[1:])  # the first loads and compiles
    return Scores(float((counts > 0).mean()), float((counts > 1).mean()), float(np.mean(right)), milliseconds)


def largest(faces: Sequence[Mapping[str, Any]]) -> str | None:
    """The expression of the largest face, by our names. Boxes are left, top, width, height."""
    if not faces:
        return None
    expression = str(max(faces, key=lambda face: face["box"][2] * face["box"][3])["expression"])
    return NAMES.get(expression.lower(), expression)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
