"""Ranks the training faces by how doubtful their labels are: `python -m affectnet.search.audit`, or `make audit`.

Networks are trained with the recipe of params.yaml, each on all folds of the training split but one, and predict the fold that they
did not see. Confident learning then says which labels are doubtful. Written are data/label_issues.parquet, which
`clean.label_issues` may use, data/audit.html with the doubtful faces, and the counts in metrics/audit.json. Nothing else changes: no
label and no file. Ctrl-C, and the same command continues.
"""

import argparse
import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from affectnet.errors import UserError
from affectnet.files.atomic import write_json, write_text
from affectnet.files.cache_dir import cache_folder
from affectnet.files.metrics import read_metrics
from affectnet.metrics.label_shares import with_label_shares
from affectnet.models.dataset import load_faces
from affectnet.models.device import configure_torch, select_device, select_precision
from affectnet.params import Runtime, Section, parse, read_document
from affectnet.reporting.templates import fill
from affectnet.running.provenance import named_weights
from affectnet.search.audit.confident_learning import Judgement, Probabilities, judge
from affectnet.search.audit.folds import Codes, FoldParams, TrainingFaces, cut_folds, out_of_fold
from affectnet.search.audit.page import page_values
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.face_shards import shard_paths
from affectnet.tables.label_issues import LABEL_ISSUES, LABEL_ISSUES_FILE
from affectnet.tables.labels import labels_metadata, read_labels
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, planned_rows
from affectnet.training.distributed import Group
from affectnet.training.resume import resume_key, training_state
from affectnet.training.trainer import learned_classes

FACES, ANNOTATED = Path("data/faces"), Path("data/annotations.parquet")
PLANNED, WEIGHED = Path("data/plan.parquet"), Path("data/class_weights.parquet")
START_WEIGHTS, CLEANED = Path("metrics/fingerprint/weights.json"), Path("metrics/clean.json")
ISSUES, METRICS, PAGE = Path(LABEL_ISSUES_FILE), Path("metrics/audit.json"), Path("data/audit.html")
TEMPLATE = Path("stages/templates/audit.html")


class AuditParams(Section):
    """Section `audit`."""

    folds: int = Field(ge=2, le=100)
    seed: int = Field(ge=0)
    examples: int = Field(ge=0, le=50)


class CleanParams(Section):
    """Of section `clean`, what decides which of the issues it would use."""

    model_config = ConfigDict(extra="ignore")
    label_confidence: float = Field(ge=0, le=1)


def audit(params: AuditParams, clean: CleanParams, training: FoldParams, runtime: Runtime) -> str:
    """Trains the folds, judges the labels and writes the table, the counts and the page; returns the summary line."""
    if not training.task.expressions:
        raise UserError("params.yaml: task: the network learns no expression, so no label can be audited; choose expression or both")
    training = training.model_copy(update={"targets": "hard", "teacher": ()})  # a teacher may have learned the held-out labels
    weights = named_weights(training.model.architecture, training.model.weights)
    if weights.source == "file":
        print(
            f"audit: the folds start from {weights.name}; if it has learned these faces, it knows the held-out labels and doubts few of "
            "them: choose none or published weights",
            file=sys.stderr,
        )
    refuse_audited_data(CLEANED)
    annotated = training_rows(ANNOTATED)
    labels, groups = (annotated[name].to_numpy().astype(np.int64) for name in ("expression", "group"))
    names = read_labels(ANNOTATED)
    fold = cut_folds(labels, groups, names, params.folds, params.seed)
    probabilities = with_label_shares(labels, _out_of_fold(params, training, runtime, labels, fold))
    judgement = judge(labels, probabilities)
    LABEL_ISSUES.write(ISSUES, issues_table(annotated, labels, fold, judgement), labels_metadata(names))
    counts = issue_counts(names, labels, probabilities, judgement, params.folds)
    write_json(METRICS, counts)
    write_text(PAGE, fill(TEMPLATE, page_values(FACES, names, labels, probabilities, judgement, counts, params.examples)))
    used = int(judgement.doubtful(clean.label_confidence).sum())
    return (
        f"audit: {counts['issues']:,} of {counts['faces']:,} training labels are doubtful; {PAGE} shows them, {ISSUES} lists them; "
        f"`dvc exp run -S clean.label_issues=reject` trains without {used:,} of them, those of at most clean.label_confidence "
        f"{clean.label_confidence:g}"
    )


def refuse_audited_data(cleaned: Path) -> None:
    """Errors: UserError when `clean` used an earlier audit: the faces that it rejected or relabelled would not be judged again."""
    if "label_issues" in read_metrics(cleaned):
        raise UserError(
            "params.yaml: clean.label_issues: the training split was made by an earlier audit, which would be judged in place of the data; "
            "set it to keep and run `make audit` again"
        )


def training_rows(annotations: Path) -> pa.Table:
    """The rows of the training split, in the order of its shards."""
    rows = ANNOTATIONS.read(annotations, ["image", "list", "row", "split", "expression", "group"])
    return rows.filter(pc.equal(rows["split"], "train"))


def _out_of_fold(params: AuditParams, training: FoldParams, runtime: Runtime, labels: Codes, fold: Codes) -> NDArray[np.float32]:
    """(n, k) out-of-fold probabilities of the training faces."""
    device = select_device(runtime.device)
    configure_torch(device)
    classes = learned_classes(CLASS_WEIGHTS.read(WEIGHED), training.task)
    train, validation = (load_faces(FACES, split, training.model.image_px, runtime.workers) for split in ("train", "validation"))
    if not np.array_equal(train.expression.numpy(), labels):
        raise UserError(f"{FACES}: not the faces of {ANNOTATED}; run `dvc repro crop rebalance`")
    shared = TrainingFaces(classes, planned_rows(PLANNED), train, validation)
    decisive = {**training.model_dump(), "precision": select_precision(training.precision, device), "device": device.type}
    shards = [*shard_paths(FACES, "train"), *shard_paths(FACES, "validation")]
    key = resume_key({**decisive, **params.model_dump(exclude={"examples"})}, [*shards, PLANNED, WEIGHED, START_WEIGHTS])[:16]
    folder = cache_folder("audit", key)
    predicted = out_of_fold(
        training,
        Group(device),
        shared,
        fold,
        kept=lambda number: folder / f"fold-{number}.npy",
        state=lambda number: training_state(hashlib.sha256(f"{key} {number}".encode()).hexdigest()),
    )
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return predicted


def issues_table(annotated: pa.Table, labels: Codes, fold: Codes, judgement: Judgement) -> pa.Table:
    """data/label_issues.parquet, sorted by rank."""
    columns = {
        "label": labels,
        "suggested": judgement.suggested,
        "confidence": judgement.confidence,
        "suggested_confidence": judgement.suggested_confidence,
        "rank": judgement.rank,
        "is_issue": judgement.is_issue,
        "fold": fold,
    }
    table = pa.table({**{name: annotated[name] for name in ("image", "list", "row")}, **columns})
    return table.take(pa.array(np.argsort(judgement.rank)))


def issue_counts(names: Sequence[str], labels: Codes, probabilities: Probabilities, judgement: Judgement, folds: int) -> dict[str, Any]:
    """metrics/audit.json: counts, and the estimated share of wrong labels, 1 − the diagonal of the estimated joint."""
    pairs: dict[str, dict[str, int]] = {}
    where = np.flatnonzero(judgement.is_issue)
    by_code, counts = np.unique(np.stack([labels[where], judgement.suggested[where]], 1), axis=0, return_counts=True)
    for (label, suggested), count in zip(by_code.tolist(), counts.tolist(), strict=True):
        pairs.setdefault(names[label], {})[names[suggested]] = count
    return {
        "faces": len(labels),
        "folds": folds,
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
        "issues": len(where),
        "estimated_wrong_share": float(1 - np.trace(judgement.joint) / max(len(labels), 1)),
        "pairs": pairs,
    }


def main() -> None:
    argparse.ArgumentParser(prog="python -m affectnet.search.audit", description=__doc__).parse_args()
    document = read_document()
    sections = (("audit", AuditParams), ("clean", CleanParams), ("train", FoldParams), ("runtime", Runtime))
    params, clean, training, runtime = (parse(document, section, kind) for section, kind in sections)
    print(audit(params, clean, training, runtime))  # type: ignore[arg-type]
