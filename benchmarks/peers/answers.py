"""Answers of several programs for the same labelled photographs, as files for `affectnet compare`:

    python -m benchmarks.peers.answers TRUTH OUT --train TABLE_OR_FOLDER [--aside DIR]
    affectnet compare OUT/*.csv --truth TRUTH

Ours (the shipped model), the most frequent expression of the training list, a logistic regression on its pixels, and with --aside fer and
human, which are installed there. A photograph without a detected face gets no answer of a peer, and of ours that for the whole.
"""

import argparse
import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectnet import Predictor
from affectnet.errors import UserError, exit_code
from affectnet.expressions import EXPRESSIONS
from affectnet.images.resize import resize_face
from affectnet.metrics.calibration import probabilities
from affectnet.predict.answers.truth import Truth, read_truth
from benchmarks.peers.__main__ import commands, install, largest, results_of, write_lists
from benchmarks.pixels_baseline import SIDE, fitted, grey_pixels

Rows = Sequence[Mapping[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.answers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("truth", type=Path, help="as of `affectnet evaluate --truth`")
    parser.add_argument("out", type=Path, help="folder of the answers")
    parser.add_argument("--train", type=Path, required=True, help="labels to learn from, like the truth")
    parser.add_argument("--root", type=Path, help="where the photographs of tables lie; default: next to the table")
    parser.add_argument("--truth-labels", action="append", default=[], help="as of `affectnet evaluate`")
    parser.add_argument("--whole", action="store_true", help="each photograph is one face, already cropped")
    parser.add_argument("--aside", type=Path, metavar="DIR", help="where the peers are installed, 8 GB")
    options = parser.parse_args()
    truth, train = (read_truth(path, None, options.truth_labels, None) for path in (options.truth, options.train))
    options.out.mkdir(parents=True, exist_ok=True)
    paths, train_paths = (_paths(one, path, options.root) for one, path in ((truth, options.truth), (train, options.train)))
    if train.codes is None:
        raise UserError(f"{options.train}: no expressions to learn from")
    predictor = Predictor.load()
    crops = _crops(predictor, paths, options.whole)
    write(options.out / "ours.csv", truth.images, _ours(predictor, crops))
    most = EXPRESSIONS[int(np.bincount(train.codes).argmax())]
    write(options.out / "constant.csv", truth.images, [{"expression": most}] * len(paths))
    model = fitted(_small(_crops(predictor, train_paths, options.whole)), train.codes)
    chances = model.predict_proba(grey_pixels(_small(crops)))
    names = [EXPRESSIONS[code] for code in model.classes_]
    write(options.out / "pixels.csv", truth.images, [dict(zip(names, row.tolist(), strict=True)) for row in chances])
    if options.aside:
        _write_peers(options, truth.images, paths)


def write(path: Path, images: Sequence[str], answers: Rows) -> None:
    """A table of answers, and its number of rows on stdout."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["image", *answers[0]])
        writer.writeheader()
        writer.writerows({"image": image, **answer} for image, answer in zip(images, answers, strict=True))
    print(f"{path}: {len(answers):,} photographs", flush=True)


def _paths(labels: Truth, named: Path, root: Path | None) -> list[str]:
    folder = named if named.is_dir() else root or named.parent
    return [str(folder / image) for image in labels.images]


def _crops(predictor: Predictor, paths: Sequence[str], whole: bool) -> NDArray[np.uint8]:
    """(n, px, px, 3): the largest face of each photograph, or all of it."""

    def crop(path: str) -> NDArray[np.uint8]:
        faces = [] if whole else predictor.crops(path)
        return (faces or predictor.crops(path, "whole"))[0].pixels

    return np.stack([crop(path) for path in paths])


def _ours(predictor: Predictor, crops: NDArray[np.uint8]) -> Rows:
    chances = probabilities(predictor.outputs(crops).logits, predictor.metadata.temperature)
    return [dict(zip(predictor.metadata.labels, row.tolist(), strict=True)) for row in chances]


def _small(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([resize_face(Image.fromarray(crop), SIDE) for crop in crops])


def _write_peers(options: argparse.Namespace, images: Sequence[str], paths: Sequence[str]) -> None:
    install(options.aside.resolve())
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        asked = commands(options.aside.resolve(), write_lists(paths, Path(folder)), options.whole)
        for name, command in list(asked.items())[1:]:  # ours is asked above
            answers = [largest(result["faces"]) for result in results_of(command)]
            known = [answer if answer in EXPRESSIONS else None for answer in answers]
            write(options.out / f"{name.split()[0]}.csv", images, [{"expression": answer} for answer in known])


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
