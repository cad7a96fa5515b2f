"""The benchmark of injected label errors: which labels its trainings count, and which finished parts count as the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import ROOT

from affectnet.models.dataset import FaceDataset
from affectnet.params import parse, read_document
from affectnet.search.audit.audit import AuditParams
from affectnet.search.audit.confident_learning import Judgement
from affectnet.search.audit.folds import Codes, FoldParams, TrainingFaces
from affectnet.training.distributed import Group
from benchmarks import label_audit
from benchmarks.label_errors import Line, Lines, classes_of
from stages.rebalance import RebalanceParams

LABELS = np.repeat([0, 1, 2], [40, 16, 8])
PARTS = ("fold", "true labels", "keep", "reject", "relabel")


def faces(labels: Codes) -> FaceDataset:
    nothing = torch.full((len(labels),), torch.nan)
    return FaceDataset(torch.zeros(len(labels), 2, 2, 3, dtype=torch.uint8), torch.from_numpy(labels), nothing, nothing)


def bench(**changes: Any) -> label_audit.Bench:
    """64 faces of three labels, and params.yaml with class weights; changes: of its values, by dotted name."""
    document = read_document(ROOT / "params.yaml")
    for dotted, value in {"rebalance.weights": "inverse", **changes}.items():
        *sections, key = dotted.split(".")
        section = document
        for name in sections:
            section = section[name]
        section[key] = value
    training, audit = parse(document, "train", FoldParams), parse(document, "audit", AuditParams)
    rebalance = parse(document, "rebalance", RebalanceParams)
    rows = np.arange(len(LABELS))
    shared = TrainingFaces(classes_of(LABELS, rows, rebalance, training.task), rows, faces(LABELS), faces(LABELS))
    return label_audit.Bench(training, audit, rebalance, shared, faces(LABELS), rows, Group(torch.device("cpu")))


def test_each_training_corrects_for_the_labels_it_learns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[TrainingFaces] = []

    def judged(_: Any, noisy: TrainingFaces, *__: Any) -> Judgement:
        """Each wrong label is an issue, and the suggestion is the true one."""
        seen.append(noisy)
        labels = noisy.faces.expression.numpy()
        confidence = np.where(labels == LABELS, 1.0, 0.0)
        return Judgement(LABELS, confidence, 1 - confidence, labels != LABELS, np.arange(1, len(LABELS) + 1), np.eye(3))

    def scored(_: Any, trained: TrainingFaces, __: int) -> Line:
        seen.append(trained)
        return {"accuracy": 0.5}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(label_audit, "audited", judged)
    monkeypatch.setattr(label_audit, "score", scored)
    monkeypatch.setattr(label_audit.Bench, "recipe", lambda _: "one")
    label_audit.run_seed(bench(), Lines(tmp_path / "lines.jsonl"), 0.25, 11, [1.0])
    counts = {}
    for part, trained in zip(PARTS, seen, strict=True):
        counts[part] = np.bincount(trained.faces.expression.numpy()[trained.rows], minlength=3)
        assert trained.classes.plan_counts.tolist() == counts[part].tolist(), part
        assert trained.classes.weights.numpy() == pytest.approx(counts[part].max() / counts[part]), part
    assert counts["keep"].tolist() == counts["fold"].tolist() != counts["true labels"].tolist() == counts["relabel"].tolist()
    assert counts["reject"].sum() == 48


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files of the data set are any bytes."""
    monkeypatch.chdir(tmp_path)
    for name in ("faces/train-0.parquet", "annotations.parquet", "plan.parquet", "class_weights.parquet"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"any")
    monkeypatch.setattr(label_audit, "shard_paths", lambda folder, _: [folder / "train-0.parquet"])
    return tmp_path / "data"


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "plain"},
        {"optimizer": "sgd"},
        {"optimizers.adam.lr": 0.01},
        {"models.vgg16_small.width": 0.125},
        {"train.precision": "float32"},
        {"audit.seed": 4},
        {"rebalance.weights": "none"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("data")
def test_a_part_of_another_recipe_is_another_part(changes: dict[str, Any]) -> None:
    assert (
        bench(**changes).recipe() != bench(**{"train.precision": "bfloat16"}).recipe() == bench(**{"train.precision": "bfloat16"}).recipe()
    )


def test_other_faces_are_another_recipe_and_name_other_folds(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folds: list[str] = []

    def stopped(_: Any, __: Any, name: str) -> Judgement:
        folds.append(name)
        raise InterruptedError

    monkeypatch.setattr(label_audit, "audited", stopped)
    for content, share, seed in ((b"any", 0.25, 11), (b"any", 0.25, 12), (b"any", 0.5, 11), (b"other", 0.25, 11), (b"any", 0.25, 11)):
        (data / "faces" / "train-0.parquet").write_bytes(content)
        with pytest.raises(InterruptedError):
            label_audit.run_seed(bench(), Lines(tmp_path / "lines.jsonl"), share, seed, [1.0])
    assert len(set(folds)) == 4 and folds[0] == folds[-1]


def test_lines_without_a_recipe_are_shown_and_not_mixed_with_others() -> None:
    old = Lines(ROOT / "benchmarks" / "label_audit.jsonl").rows
    first, second = label_audit.tables([*old, {**old[0], "recipe": "0f", "in_first_2x": 0.5}]).strip().split("\n\n10 %")
    assert "in_first_2x 0.955 ± 0.006" in first and "recipe not recorded" in first
    assert second.startswith(" wrong labels, recipe 0f") and "| audit | 1 |" in second
