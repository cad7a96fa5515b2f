"""How many injected label errors an audit finds, and what training without them is worth.

Run from the project's folder after `dvc repro crop rebalance`: `python -m benchmarks.label_audit --out audit.jsonl`. In the lists
of training and validation a share of the labels is replaced, test keeps its own; then the audit of `make audit` ranks the training
labels, and the recipe of params.yaml is trained on all training faces, without the doubtful ones, and with the suggested labels. Each
finished training is a line of the file, and the same command continues an interrupted run; lines of another recipe, data set or code are
another table. On one core of an AMD EPYC two minutes per training at the shipped size.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from affectnet.errors import UserError, exit_code
from affectnet.files.cache_dir import cache_folder
from affectnet.metrics.classification import scores_of_codes
from affectnet.metrics.label_shares import with_label_shares
from affectnet.models.dataset import FaceDataset, load_faces
from affectnet.models.device import configure_torch
from affectnet.models.forward import predict
from affectnet.params import parse, read_document
from affectnet.search.audit.audit import ANNOTATED, FACES, PLANNED, WEIGHED, AuditParams, training_rows
from affectnet.search.audit.confident_learning import Judgement, judge
from affectnet.search.audit.folds import Codes, FoldParams, TrainingFaces, cut_folds, out_of_fold
from affectnet.tables.face_shards import shard_paths
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, planned_rows
from affectnet.training.distributed import Group
from affectnet.training.fit import fit
from affectnet.training.resume import TrainingState, training_state
from affectnet.training.trainer import Trainer, learned_classes
from benchmarks.label_errors import Line, Lines, classes_of, with_errors
from benchmarks.recipes import recipe_key
from benchmarks.spread import mean_and_deviation
from stages.rebalance import RebalanceParams

SHOWN = ("in_first_1x", "in_first_2x", "recall", "precision", "suggested_true", "accuracy", "macro_f1")


@dataclass(frozen=True)
class Bench:
    """What all runs share: the faces with the labels of the lists, and the recipe. groups: (n,) near duplicates in training."""

    training: FoldParams
    audit: AuditParams
    rebalance: RebalanceParams
    shared: TrainingFaces
    test: FaceDataset
    groups: Codes
    group: Group

    def recipe(self) -> str:
        """Key of all that decides the results of a share and a seed."""
        shards = [path for split in ("train", "validation", "test") for path in shard_paths(FACES, split)]
        others = {**self.rebalance.model_dump(), "folds": self.audit.folds, "audit seed": self.audit.seed}
        return recipe_key(self.training, self.group.device, [*shards, ANNOTATED, PLANNED, WEIGHED], others)


def errors(faces: FaceDataset, share: float, generator: np.random.Generator) -> Codes:
    """The labels of the faces, a share of them replaced by another label that occurs, all others equally probable."""
    present, columns = np.unique(faces.expression.numpy(), return_inverse=True)
    chances = np.ones((len(present), len(present)))
    wrong: Codes = present[with_errors(columns, chances, share, generator)]
    return wrong


def relabelled(faces: FaceDataset, labels: Codes) -> FaceDataset:
    return replace(faces, expression=torch.from_numpy(labels))


def training_faces(bench: Bench, labels: Codes, rows: Codes, validation: FaceDataset) -> TrainingFaces:
    """The training faces with these labels; the loss corrects for their shares, as it does when `rebalance` runs on them."""
    classes = classes_of(labels, rows, bench.rebalance, bench.training.task)
    return TrainingFaces(classes, rows, relabelled(bench.shared.faces, labels), validation)


def audited(bench: Bench, faces: TrainingFaces, name: str) -> Judgement:
    """The judgement of the audit; finished folds are kept in the cache folder under the name."""
    labels = faces.faces.expression.numpy()
    fold = cut_folds(labels, bench.groups, faces.faces.labels, bench.audit.folds, bench.audit.seed)
    folder = cache_folder("benchmark", name)
    predicted = out_of_fold(
        bench.training, bench.group, faces, fold, lambda number: folder / f"fold-{number}.npy", lambda number: state(f"{name} {number}")
    )
    return judge(labels, with_label_shares(labels, predicted))


def state(name: str) -> AbstractContextManager[TrainingState]:
    return training_state(hashlib.sha256(f"benchmark {name}".encode()).hexdigest())


def ranked_errors(judgement: Judgement, wrong: NDArray[np.bool_]) -> Line:
    """How many of the injected errors are among the first rows."""
    first = {f"in_first_{times}x": judgement.rank <= times * wrong.sum() for times in (1, 2)}
    return {"errors": int(wrong.sum()), **{name: float(wrong[rows].sum() / wrong.sum()) for name, rows in first.items()}}


def detected_errors(judgement: Judgement, confidence: float, wrong: NDArray[np.bool_], true: Codes) -> Line:
    """How many of the injected errors `clean.label_issues` would treat as such, and how many suggestions are the true label."""
    issues = judgement.doubtful(confidence)
    return {
        "issues": int(issues.sum()),
        "recall": float(wrong[issues].sum() / wrong.sum()),
        "precision": float(wrong[issues].sum() / max(issues.sum(), 1)),
        "suggested_true": float((judgement.suggested == true)[issues & wrong].mean()) if (issues & wrong).any() else 0.0,
    }


def score(bench: Bench, faces: TrainingFaces, seed: int) -> Line:
    """Accuracy and macro-F1 on test of one training with this seed."""
    params = bench.training.model_copy(update={"seed": seed})
    trainer = Trainer(params, bench.group, faces.classes, faces.rows, faces.faces, faces.validation)
    with state("score") as unfinished:
        unfinished.path.unlink(missing_ok=True)  # of another training
        reached = fit(trainer, params.patience, params.epochs, unfinished, lambda _: None)
    outputs = predict(trainer.evaluated, bench.test.images, bench.group.device, len(faces.classes), trainer.mean, trainer.std)
    codes = faces.classes.codes.numpy()
    scored, _ = scores_of_codes(bench.test.expression.numpy(), codes[outputs.logits.argmax(1)], codes)
    return {"accuracy": float(scored.accuracy), "macro_f1": float(scored.macro_f1), "epochs": reached.epoch, "faces": len(faces.rows)}


def run_seed(bench: Bench, lines: Lines, share: float, seed: int, confidences: Sequence[float]) -> None:
    """Injects errors with this seed, audits, and trains on all faces, and without the doubtful ones and with the suggested labels."""
    generator = np.random.default_rng(seed)
    true = bench.shared.faces.expression.numpy()
    labels, wrong_validation = (errors(faces, share, generator) for faces in (bench.shared.faces, bench.shared.validation))
    rows, validation = bench.shared.rows, relabelled(bench.shared.validation, wrong_validation)
    noisy = training_faces(bench, labels, rows, validation)
    recipe = bench.recipe()
    judgement = audited(bench, noisy, f"audit-{recipe}-{share:g}-{seed}")
    key = {
        "share": share,
        "seed": seed,
        "folds": bench.audit.folds,
        "epochs_at_most": bench.training.epochs,
        "batch": bench.training.batch,
        "image_px": bench.training.model.image_px,
        "recipe": recipe,
    }
    wrong = labels != true

    def once(part: str, result: Callable[[], Line]) -> None:
        print(lines.once({**key, "part": part}, result), flush=True)

    once("audit", partial(ranked_errors, judgement, wrong))
    for confidence in confidences:
        once(f"issues of at most {confidence:g}", partial(detected_errors, judgement, confidence, wrong, true))
    once("true labels", partial(score, bench, bench.shared, seed))
    once("keep", partial(score, bench, noisy, seed))
    for confidence in confidences:
        issues = judgement.doubtful(confidence)
        without = training_faces(bench, labels, rows[~issues[rows]], validation)
        suggested = training_faces(bench, np.where(issues, judgement.suggested, labels), rows, validation)
        for way, faces in (("reject", without), ("relabel", suggested)):
            once(f"{way} at most {confidence:g}", partial(score, bench, faces, seed))


def markdown(rows: Sequence[Line]) -> str:
    """A row per part: mean ± standard deviation over the seeds of each of its shares and scores."""
    table = ["| part | seeds | |", "|---|---|---|"]
    for part in dict.fromkeys(row["part"] for row in rows):
        of_part = [row for row in rows if row["part"] == part]
        names = [name for name in SHOWN if name in of_part[0]]
        shown = [f"{name} {mean_and_deviation([row[name] for row in of_part])}" for name in names]
        table.append(f"| {part} | {len(of_part)} | {', '.join(shown)} |")
    return "\n".join(table)


def tables(rows: Sequence[Line]) -> str:
    """A table per share and recipe; lines of earlier versions have no recipe."""
    shown = []
    for share, recipe in dict.fromkeys((row["share"], row.get("recipe")) for row in rows):
        alike = [row for row in rows if (row["share"], row.get("recipe")) == (share, recipe)]
        shown.append(f"\n{100 * share:g} % wrong labels, recipe {recipe or 'not recorded'}\n\n{markdown(alike)}")
    return "\n".join(shown)


def opened(options: argparse.Namespace) -> Bench:
    """The faces and the recipe of params.yaml, with the options' changes. Errors: UserError."""
    document = read_document()
    document["train"]["epochs"] = options.epochs or document["train"]["epochs"]
    document["train"]["batch"] = options.batch or document["train"]["batch"]
    document["train"]["precision"] = options.precision or document["train"]["precision"]
    if options.image_px:
        document["models"][document["model"]]["image_px"] = options.image_px
    training, audit = parse(document, "train", FoldParams), parse(document, "audit", AuditParams)
    rebalance = parse(document, "rebalance", RebalanceParams)
    audit = audit.model_copy(update={"folds": options.folds or audit.folds})
    device = torch.device("cpu")
    configure_torch(device)
    train, validation, test = (load_faces(FACES, split, training.model.image_px, 1) for split in ("train", "validation", "test"))
    classes = learned_classes(CLASS_WEIGHTS.read(WEIGHED), training.task)
    shared = TrainingFaces(classes, planned_rows(PLANNED), train, validation)
    groups = training_rows(ANNOTATED)["group"].to_numpy().astype(np.int64)
    if len(groups) != len(train):
        raise UserError(f"{FACES}: not the faces of {ANNOTATED}; run `dvc repro crop rebalance`")
    return Bench(training, audit, rebalance, shared, test, groups, Group(device))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_audit", description=__doc__)
    parser.add_argument("--share", type=float, default=0.1, help="of the labels of training and validation that are replaced")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13], help="of the errors and of the trainings")
    parser.add_argument("--confidence", type=float, nargs="+", default=[1.0, 0.1], help="of clean.label_confidence")
    parser.add_argument("--folds", type=int, help="in place of audit.folds")
    parser.add_argument("--epochs", type=int, help="in place of train.epochs")
    parser.add_argument("--batch", type=int, help="in place of train.batch")
    parser.add_argument("--image-px", type=int, help="in place of the model's image_px")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], help="in place of train.precision")
    parser.add_argument("--out", type=Path, required=True, help="file of finished parts, one JSON line each")
    options = parser.parse_args()
    bench, lines = opened(options), Lines(options.out)
    for seed in options.seeds:
        run_seed(bench, lines, options.share, seed, options.confidence)
    print(f"{len(bench.shared.faces):,} training faces")
    print(tables(lines.rows))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
