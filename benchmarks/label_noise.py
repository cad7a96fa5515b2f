"""What label noise costs, by loss: `python -m benchmarks.label_noise RESULTS.jsonl --data demo=data --minutes 60`.

Wrong labels are injected into the training split, validation and test keep theirs; the network is `vgg16_small`, or another model
of params.yaml, from start weights with `--start`. Each finished training is one line of RESULTS.jsonl, and one that has its line is not
run again: a run that is cut short loses one training, and further runs, with other seeds, noise, methods or data, add lines. Without
`--data` nothing is trained. At the end it prints the table of all lines. A data set is a folder `data` of a clone in which `dvc repro crop
rebalance` ran.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affectnet.errors import exit_code
from affectnet.metrics.classification import confusion_matrix, scores_of_codes
from affectnet.models.checkpoint import save_model
from affectnet.models.dataset import FaceDataset, load_faces
from affectnet.models.device import configure_torch, select_device
from affectnet.models.forward import predict
from affectnet.params import parse, read_document
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, planned_rows
from affectnet.training.distributed import Group
from affectnet.training.fit import fit, model_metadata
from affectnet.training.losses.expression_loss import Classes
from affectnet.training.resume import ReadOnlyState
from affectnet.training.teacher import soft_targets
from affectnet.training.trainer import Trainer, learned_classes
from benchmarks.__main__ import commit
from benchmarks.label_errors import Codes, Line, Lines, classes_of, with_errors
from benchmarks.spread import mean_and_deviation
from stages.rebalance import RebalanceParams
from stages.train import TrainParams

BASELINE, BORN_AGAIN = "logit_adjusted", "born_again"

BALANCED = {"train.sampler": "balanced"}
"""For losses under which logit adjustment does not correct for the skew."""

METHODS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "label_smoothing": {"losses.logit_adjusted.label_smoothing": 0.1},
    "gce": {"loss": "gce", **BALANCED},
    "sce": {"loss": "sce", **BALANCED},
    "elr": {"loss": "elr", **BALANCED},
    "eac": {"loss": "eac"},
    BORN_AGAIN: {"train.targets": "soft"},  # its teacher is the baseline's training with the same labels
}
"""Changes of params.yaml. All correct for the skew, as the baseline does or by BALANCED: they differ in what they do about noise."""

KINDS = ("symmetric", "confused")
"""symmetric: each other expression equally often; confused: as often as the baseline confuses them on our validation split."""


@dataclass(frozen=True)
class Case:
    """One training: noise is none, or one of KINDS; share: of the training faces whose label is wrong; seed: of noise and training.

    image_px: side of the network's input; model: an entry of params.yaml; start: the name of the file of its start weights, or none.
    """

    data: str
    method: str
    noise: str
    share: float
    seed: int
    epochs: int
    image_px: int
    model: str
    start: str

    @property
    def teacher(self) -> str:
        """The file of the model that is the teacher of a student with the same labels."""
        labels, recipe = (self.data, self.noise, f"{self.share:g}"), (self.seed, self.epochs, self.image_px, self.model, self.start)
        return f"{'_'.join(map(str, labels + recipe))}.safetensors"


@dataclass(frozen=True)
class Data:
    """The splits of a data set, the expressions that are learned, and the rows of the plan."""

    faces: Path
    splits: dict[str, FaceDataset]
    classes: Classes
    rows: Codes


def grid(options: argparse.Namespace) -> Iterator[Case]:
    """The trainings, the clean baseline of each data set first: its confusions are those of `confused` noise."""
    recipe = options.epochs, options.image_px, options.model, Path(options.start).name
    noises = [("none", 0.0)] * (0 in options.shares) + [(kind, share) for kind in options.noise for share in options.shares if share]
    methods = sorted(options.methods, key=lambda method: (method != BASELINE, method == BORN_AGAIN))
    for name in options.data:
        yield Case(name, BASELINE, "none", 0.0, options.seeds[0], *recipe)
        for seed in options.seeds:
            for noise, share in noises:
                for method in methods:
                    yield Case(name, method, noise, share, seed, *recipe)


def run(options: argparse.Namespace, lines: Lines) -> None:
    """Trains what has no line yet, until the minutes are over."""
    until, models = time.monotonic() + 60 * options.minutes, options.results.with_suffix(".models")
    confusions: dict[str, Codes] = {}
    for case in grid(options):
        if time.monotonic() > until:
            return
        confusion = confusions.get(case.data, np.array([]))
        line = lines.once(asdict(case), partial(train, case, options.start, options.data[case.data], confusion, models))
        confusions.setdefault(case.data, np.array(line["confusion"]))
        print(f"{case}: macro-F1 {line['macro_f1']:.3f}, {line['seconds']:.0f} s", file=sys.stderr)


def _params(case: Case, start: str, teacher: Path) -> TrainParams:
    document = read_document()
    teachers = [str(teacher)] if case.method == BORN_AGAIN else None
    changes = {"model": case.model, "loss": BASELINE, "task": "expression", "train.epochs": case.epochs, "train.seed": case.seed}
    changes |= {
        f"models.{case.model}.image_px": case.image_px,
        f"models.{case.model}.weights": start,
        "train.precision": "auto",
        "train.patience": case.epochs,
        "train.teacher": teachers,
    }
    for dotted, value in {**changes, **METHODS[case.method]}.items():
        *sections, key = dotted.split(".")
        section = document
        for name in sections:
            section = section[name]
        section[key] = value
    return parse(document, "train", TrainParams)


def _load(folder: Path, params: TrainParams) -> Data:
    splits = {split: load_faces(folder / "faces", split, params.model.image_px, 1) for split in ("train", "validation", "test")}
    classes = learned_classes(CLASS_WEIGHTS.read(folder / "class_weights.parquet"), params.task)
    return Data(folder / "faces", splits, classes, planned_rows(folder / "plan.parquet"))


def train(case: Case, start: str, folder: Path, confusion: Codes, models: Path) -> Line:
    """The line of a training.

    start: its start weights, as in params.yaml; confusion: (k, k) counts of the clean baseline, empty for symmetric noise.
    """
    began, device = time.monotonic(), select_device("auto")
    configure_torch(device)
    params, group = _params(case, start, models / case.teacher), Group(device)
    data = _load(folder, params)
    codes, clean = data.classes.codes.numpy(), data.splits["train"].expression.numpy()
    chances = np.ones((len(codes), len(codes)))
    if case.noise == "confused":
        chances += confusion
    learned = np.isin(clean, codes)
    draws = np.random.default_rng([case.seed, round(1000 * case.share)])
    noisy = clean.copy()
    noisy[learned] = codes[with_errors(np.searchsorted(codes, clean[learned]), chances, case.share, draws)]
    faces, validation = replace(data.splits["train"], expression=torch.from_numpy(noisy)), data.splits["validation"]
    classes = classes_of(noisy, data.rows, parse(read_document(), "rebalance", RebalanceParams), params.task)
    soft = soft_targets(params, classes, data.faces, cache(lambda _: (faces, validation)), group)
    trainer = Trainer(params, group, classes, data.rows, faces, validation, soft.shares if soft else None)
    reached = fit(trainer, params.patience, params.epochs, ReadOnlyState(models), lambda _: None)
    if case.method == BASELINE:
        models.mkdir(exist_ok=True)
        metadata = model_metadata(trainer, params, reached, data.faces, False, {}, {})
        save_model(models / case.teacher, trainer.evaluated, metadata, "float16")
    trained = classes.codes.numpy()
    answers = {split: trained[_logits(trainer, one).argmax(1)] for split, one in {**data.splits, "train": faces}.items()}
    scored, _ = scores_of_codes(data.splits["test"].expression.numpy(), answers["test"], codes)
    wrong = noisy != clean
    known = np.isin(validation.expression.numpy(), codes)
    true, predicted = (np.searchsorted(codes, one[known]) for one in (validation.expression.numpy(), answers["validation"]))
    return {
        **asdict(case),
        "macro_f1": float(scored.macro_f1),
        "accuracy": float(scored.accuracy),
        "validation_macro_f1": reached.best_score,
        "best_epoch": reached.best_epoch,
        "wrong_labels": int(wrong.sum()),
        "memorised": float((answers["train"] == noisy)[wrong].mean()) if wrong.any() else None,
        "confusion": confusion_matrix(true, predicted, len(codes)).tolist(),
        "precision": trainer.precision,
        "seconds": round(time.monotonic() - began, 1),
        "commit": commit(),
    }


def _logits(trainer: Trainer, faces: FaceDataset) -> NDArray[np.float32]:
    return predict(trainer.evaluated, faces.images, trainer.device, len(trainer.classes), trainer.mean, trainer.std).logits


def table(lines: Sequence[Mapping[str, Any]], title: str, score: str) -> str:
    """Markdown: a row per method, a column per noise, mean ± sample standard deviation over seeds, with n where it is not three.

    lines: those with this title.
    """
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in lines:
        if _title(line) == title and line[score] is not None:
            values[line["method"], f"{100 * line['share']:g} %, {line['noise']}" if line["share"] else "none"].append(line[score])
    columns = sorted({noise for _, noise in values}, key=_kind_and_share)
    rows = [f"| {title}, {score} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    rows += [
        f"| `{method}` | {' | '.join(_cell(values.get((method, noise), [])) for noise in columns)} |"
        for method in METHODS
        if any(one == method for one, _ in values)
    ]
    return "\n".join(rows)


def _title(line: Mapping[str, Any]) -> str:
    """What the trainings of one table share."""
    started = "" if line["start"] == "none" else f" from {line['start']}"
    return f"{line['data']}, {line['model']}{started}, {line['epochs']} epochs, {line['image_px']} px"


def _kind_and_share(noise: str) -> tuple[str, float]:
    """Of a column's title, by which columns are sorted; none comes first."""
    share, _, kind = noise.partition(" %, ")
    return (kind, float(share)) if kind else ("", 0.0)


def _cell(values: Sequence[float]) -> str:
    return mean_and_deviation(values) + (f" (n = {len(values)})" if len(values) != 3 else "") if values else ""


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not (Path(folder) / "plan.parquet").is_file():
        raise argparse.ArgumentTypeError(f"{text}: not NAME=FOLDER of a folder data/ in which `dvc repro crop rebalance` ran")
    return name, Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_noise", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="file of JSON lines, which may hold those of earlier runs")
    parser.add_argument(
        "--data", type=_named_folder, nargs="+", default=[], metavar="NAME=FOLDER", help="data sets; without any, only the table"
    )
    parser.add_argument("--minutes", type=float, default=60, help="after which no further training begins")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--noise", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.1, 0.2, 0.3], help="of the training faces, 0–1")
    parser.add_argument("--seeds", nargs="+", type=int, default=[11, 12, 13])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--image-px", type=int, default=64, help="side of the network's input")
    parser.add_argument("--model", default="vgg16_small", choices=list(read_document()["models"]), help="an entry of params.yaml's models")
    parser.add_argument("--start", default="none", metavar="FILE", help="start weights, as models.<name>.weights of params.yaml")
    options = parser.parse_args()
    options.data = dict(options.data)
    lines = Lines(options.results)
    run(options, lines)
    for title in dict.fromkeys(map(_title, lines.rows)):
        print(*(f"\n{table(lines.rows, title, score)}" for score in ("macro_f1", "accuracy", "memorised")), sep="\n")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
