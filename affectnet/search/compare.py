"""Whether two models differ by more than chance, on the same test faces: `python -m affectnet.search.compare main my-experiment`.

Each argument is a model file, or a Git revision or DVC experiment whose model is in the cache.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import dvc.api
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from affectnet.errors import UserError, exit_code
from affectnet.metrics.bootstrap import interval, resampled_faces
from affectnet.metrics.classification import scores
from affectnet.metrics.regression import DIMENSIONS, affect_scores
from affectnet.models.outputs import Averaging
from affectnet.params import Runtime, parse, read_document
from affectnet.reporting.predictions import Predictions
from affectnet.reporting.split_predictions import predict_split

Values = NDArray[np.float64]
MODEL = "models/model.safetensors"


@dataclass(frozen=True)
class Difference:
    """Second minus first of one score, with its 95 % interval and the two-sided p-value of the paired bootstrap."""

    name: str
    first: float
    second: float
    low: float
    high: float
    p: float


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Faces that only the first, and only the second predicts right, and the exact two-sided p-value (McNemar 1947).

    Under equal error rates the discordant faces fall to either side with probability 1/2: a binomial test. p is 1 without any.
    """
    only_first, only_second = int((first_right & ~second_right).sum()), int((~first_right & second_right).sum())
    discordant = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def paired_bootstrap(
    name: str, score: Callable[[NDArray[np.int64], int], Values], faces: int, draws: int, generator: np.random.Generator
) -> Difference:
    """The difference over resamples of the faces, the same for both models (Efron & Tibshirani 1993, ch. 16; Koehn 2004).

    score: (…, n) rows and which model (0 or 1) → (…) scores. The p-value is twice the smaller share of resamples on one side
    of no difference, of draws + 1, at most 1.
    """
    differences = np.concatenate([score(rows, 1) - score(rows, 0) for rows in resampled_faces(faces, draws, generator)])
    low, high = interval(differences)
    tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    whole = np.arange(faces)[None]
    first, second = (float(score(whole, model)[0]) for model in (0, 1))
    return Difference(name, first, second, float(low), float(high), min(1.0, 2 * (tail + 1) / (draws + 1)))


def differences(first: Predictions, second: Predictions, draws: int, generator: np.random.Generator) -> list[Difference]:
    """The differences in the scores that both models have."""
    compared: list[Difference] = []
    pair = (first, second)
    if first.metadata.labels and second.metadata.labels:
        classes = np.union1d(first.codes, second.codes)
        true = np.searchsorted(classes, first.codes[first.true])
        cells = [true * len(classes) + np.searchsorted(classes, one.codes[one.predicted]) for one in pair]
        for name in ("accuracy", "macro_f1"):
            score = partial(_expression_score, name, cells, len(classes))
            compared.append(paired_bootstrap(f"expression.{name}", score, len(first), draws, generator))
    for column, dimension in enumerate(DIMENSIONS if first.metadata.affect and second.metadata.affect else ()):
        annotated = np.isfinite(first.true_affect[:, column])
        true = first.true_affect[annotated, column]
        predicted = [one.affect[annotated, column] for one in pair]
        for name in ("ccc", "rmse"):
            compared.append(
                paired_bootstrap(f"{dimension}.{name}", partial(_affect_score, name, true, predicted), len(true), draws, generator)
            )
    return compared


def _expression_score(name: str, cells: list[NDArray[np.int64]], k: int, rows: NDArray[np.int64], model: int) -> Values:
    """cells: (n,) cell of each face in the model's k × k confusion matrix."""
    offset = np.arange(len(rows))[:, None] * k**2
    counts = np.bincount((cells[model][rows] + offset).ravel(), minlength=len(rows) * k**2)
    values: Values = getattr(scores(counts.reshape(len(rows), k, k)), name)
    return values


def _affect_score(name: str, true: Values, predicted: list[Values], rows: NDArray[np.int64], model: int) -> Values:
    values: Values = getattr(affect_scores(true[rows], predicted[model][rows]), name)
    return values


@contextmanager
def model_file(argument: str) -> Iterator[Path]:
    """The path of the model file that the argument names. Errors: UserError when it is neither a file nor a revision with one."""
    if Path(argument).is_file():
        yield Path(argument)
        return
    try:
        content = dvc.api.read(MODEL, rev=argument, mode="rb")
    except Exception as error:  # DVC has no common class of errors, from an unknown revision to a lost cache
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{argument}: neither a file nor a revision whose {MODEL} is in the cache: {reason}") from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        yield path


def report(first: Predictions, second: Predictions, names: tuple[str, str], draws: int, seed: int) -> str:
    """The comparison as lines of text. Errors: UserError when the models have no task in common."""
    scores_of_both = differences(first, second, draws, np.random.default_rng(seed))
    if not scores_of_both:
        raise UserError(f"{names[0]} and {names[1]}: one predicts only expressions, the other only valence and arousal; nothing to compare")
    lines = [f"{len(first):,} test faces; first: {names[0]}; second: {names[1]}", ""]
    lines.append(f"{'score':<22}{'first':>8}{'second':>8}{'second - first, 95 %':>28}{'p':>9}")
    for d in scores_of_both:
        difference = f"{d.second - d.first:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
        lines.append(f"{d.name:<22}{d.first:>8.3f}{d.second:>8.3f}{difference:>28}{d.p:>9.4f}")
    if first.metadata.labels and second.metadata.labels:
        true = first.codes[first.true]
        only_first, only_second, p = mcnemar(*(model.codes[model.predicted] == true for model in (first, second)))
        lines += ["", f"McNemar: only the first is right on {only_first:,} faces, only the second on {only_second:,}; exact p = {p:.4f}"]
    lines.append(f"p by paired bootstrap, {draws:,} resamples of the faces; it does not cover the spread between training seeds")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m affectnet.search.compare", description=__doc__)
    parser.add_argument("first", help="model file, Git revision or DVC experiment")
    parser.add_argument("second")
    parser.add_argument("--faces", type=Path, default=Path("data/faces"), help="shards whose test split is predicted")
    parser.add_argument("--draws", type=int, default=10_000, help="resamples of the faces")
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--averaging", choices=get_args(Averaging), default="none", help="views per face, as evaluate.averaging")
    options = parser.parse_args()
    runtime = parse(read_document(), "runtime", Runtime)
    with model_file(options.first) as first, model_file(options.second) as second:
        pair = [predict_split(path, options.faces, runtime, options.averaging) for path in (first, second)]
    print(report(pair[0], pair[1], (options.first, options.second), options.draws, options.seed))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
