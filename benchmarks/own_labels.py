"""From folders of photographs with three labels of one's own to a model, a report and a page: `python -m benchmarks.own_labels`.

It draws 1,000 photographs of people who are engaged, bored or confused, clones the project, and runs the command of docs/data.md there,
from the shipped model's weights, then `affectnet demo --site`. Run after `make install` and `make page`; prints the seconds of each stage.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from affectnet.errors import UserError, exit_code
from affectnet.running.parallel import in_order
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene
from benchmarks.__main__ import commit, processor
from benchmarks.timing import ROOT

SHOWN_BY = {"engaged": ("Happy", "Surprise"), "bored": ("Sad", "Neutral"), "confused": ("Disgust", "Fear")}
"""Drawn expressions of a person with each label."""

SMALLEST_PX, LARGEST_PX = 200, 400
QUALITY = 90

START = ("model=vgg16_48", "models.vgg16_48.weights=pretrained/fer2013.safetensors")
"""Switches that begin at the shipped model."""


def draw(root: Path, seed: int, number: int) -> Path:
    """Writes the photograph of this number, <root>/<label>/<number>.jpg; the labels take turns."""
    generator = np.random.default_rng([seed, number])
    labels = list(SHOWN_BY)
    label = labels[number % len(labels)]
    expression = str(generator.choice(SHOWN_BY[label]))
    scene = draw_scene(generator, SMALLEST_PX, LARGEST_PX)
    path = root / label / f"{number}.jpg"
    draw_photograph(draw_actions(expression, generator), generator, scene).image.save(path, quality=QUALITY)
    return path


def switches(root: Path) -> Iterator[str]:
    values = ("dataset=folder", f"datasets.folder.root={root}", f"labels=[{','.join(SHOWN_BY)}]", "datasets.folder.test_share=0.2", *START)
    for value in values:
        yield from ("-S", value)


def timed(command: Sequence[str], folder: Path) -> Iterator[tuple[str, float]]:
    """Runs the command, and yields each stage that it runs with its seconds. Errors: UserError with the end of what it printed."""
    print("+", shlex.join(command), file=sys.stderr)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    lines = []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as process:
        assert process.stdout is not None
        stage, began = "", time.perf_counter()
        for line in process.stdout:
            lines.append(line)
            if match := re.match(r"Running stage '(\w+)'", line):
                now = time.perf_counter()
                yield stage or "start", now - began
                stage, began = match[1], now
    yield stage or "whole", time.perf_counter() - began
    if process.returncode:
        raise UserError(f"{shlex.join(command)}: exit {process.returncode}\n{''.join(lines[-20:])}")


def measure(photographs: int, seed: int, folder: Path) -> None:
    root, clone = folder / "photographs", folder / "clone"
    for label in SHOWN_BY:
        (root / label).mkdir(parents=True)
    list(in_order(partial(draw, root, seed), range(photographs), workers=0))
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    print(f"{commit()}, {processor()}, {photographs} photographs\n\n| stage | s |\n|---|---|")
    began = time.perf_counter()
    for stage, seconds in timed(["dvc", "exp", "run", *switches(root)], clone):
        print(f"| {stage} | {seconds:.1f} |")
    for _, seconds in timed(["affectnet", "demo", "--model", str(clone / "models" / "model.onnx"), "--site", str(folder / "site")], ROOT):
        print(f"| page | {seconds:.1f} |")
    print(f"| all | {time.perf_counter() - began:.1f} |\n")
    scores = json.loads((clone / "metrics" / "evaluate.json").read_text())
    print(f"accuracy {scores['expression']['accuracy']:.3f}, macro-F1 {scores['expression']['macro_f1']:.3f}, {scores['faces']} test faces")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_labels", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options.photographs, options.seed, Path(folder))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
