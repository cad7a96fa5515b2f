"""Soft targets: what teachers answer for the training faces, as the targets of another training."""

import hashlib
import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import TINY, curves, forget_training, refused, run_data_stages, run_stage
from model_files import metadata
from trees import soft_label, tree_folder, tree_plus

from affectnet.metrics.calibration import negative_log_likelihood
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.checkpoint import load_model, save_model
from affectnet.models.dataset import FaceDataset, load_faces
from affectnet.models.forward import predict
from affectnet.models.network import build
from affectnet.params import parse, read_document
from affectnet.predict.info import text
from affectnet.tables.face_shards import read_policy
from affectnet.tables.sampling_plan import CLASS_WEIGHTS
from affectnet.training.distributed import Group
from affectnet.training.losses.expression_loss import Classes
from affectnet.training.resume import TrainingState
from affectnet.training.targets import has_soft_label
from affectnet.training.teacher import soft_targets
from affectnet.training.trainer import learned_classes, training_targets
from stages.train import TrainParams

FACES, MODEL, CPU = Path("data/faces"), Path("models/model.safetensors"), torch.device("cpu")


def teacher(name: str, seed: int, **changes: Any) -> Path:
    """A model file with a drawn network. changes: of its metadata."""
    path = Path(name)
    training = {"epoch": 2, "score": 0.5}
    described = metadata(**{"training": training, "crop": read_policy(FACES, "train"), **changes})
    torch.manual_seed(seed)
    network = build(ModelParams.model_validate({"epochs": 1, **described.model}), described.outputs)
    network.get_submodule("classifier")[-1].weight.data.mul_(40)  # type: ignore[index]  # drawn answers are almost equal
    save_model(path, network, described)
    return path


def params(*teachers: Path, **changes: Any) -> TrainParams:
    document = read_document()
    document["models"]["vgg16_small"] = TINY
    document["train"].update({"epochs": 2, "batch": 16, "targets": "soft", "teacher": list(map(str, teachers)), **changes})
    return parse(document, "train", TrainParams)


@cache
def load(image_px: int) -> tuple[FaceDataset, FaceDataset]:
    return load_faces(FACES, "train", image_px, 1), load_faces(FACES, "validation", image_px, 1)


@pytest.fixture(autouse=True)
def _of_each_workspace() -> None:
    load.cache_clear()


def classes() -> Classes:
    """Those of the workspace, with a plan that shows each more often than the one before."""
    learned = learned_classes(CLASS_WEIGHTS.read(Path("data/class_weights.parquet")), params().task)
    return replace(learned, plan_counts=torch.arange(1, len(learned) + 1) ** 2)


def shares(*teachers: Path, **changes: Any) -> torch.Tensor:
    soft = soft_targets(params(*teachers, **changes), classes(), FACES, load, Group(CPU))
    assert soft is not None and len(soft.teachers) == len(teachers)
    return soft.shares


def brought(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The factors, one per expression, with which the mean probabilities are the shares of the labels."""
    factors = np.ones(8)
    for _ in range(2000):
        scaled = probabilities * factors
        factors *= np.bincount(labels, minlength=8) / len(labels) / (scaled / scaled.sum(1, keepdims=True)).mean(0)
    result: np.ndarray = factors / factors[0]
    return result


def expected(path: Path, views: tuple[bool, ...], softness: float) -> torch.Tensor:
    """By hand: the best temperature on a grid, after the shares of the labels, and these again after the temperature."""
    network, described = load_model(path)

    def logits(split: FaceDataset) -> np.ndarray:
        seen = [split.images.flip(2) if mirrored else split.images for mirrored in views]
        outputs = [predict(network, images, CPU, 8, described.mean, described.std).logits for images in seen]
        return np.asarray(np.mean(outputs, 0, np.float64))

    train, validation = load(32)
    z, labels = logits(train), train.expression.numpy()
    factors = brought(np.exp(z), labels)
    grid = np.geomspace(0.05, 20, 2000)
    of_validation, true = logits(validation) + np.log(factors), validation.expression.numpy()
    best = grid[np.argmin([negative_log_likelihood(of_validation / one, true) for one in grid])]
    chances = np.exp(z / best) * brought(np.exp(z / best), labels)
    return torch.softmax(torch.from_numpy(np.log(chances) / softness), 1).float()


def test_the_targets_are_the_calibrated_answers_of_the_teachers_with_the_shares_of_the_labels(prepared: Path) -> None:
    one, two = (teacher(f"{seed}.safetensors", seed) for seed in (1, 2))
    single = shares(one)
    torch.testing.assert_close(single, expected(one, (False,), 1.0), rtol=1e-2, atol=1e-3)
    assert float(single.max()) > 0.15
    other_pixels = {**read_policy(FACES, "train"), "resampling": "bicubic", "image_px": 96, "format": "png"}
    assert torch.equal(shares(teacher("pixels.safetensors", 1, crop=other_pixels)), single)
    flipped = shares(one, two, teacher_averaging="flip", teacher_temperature=2.0)
    mean = (expected(one, (False, True), 2.0) + expected(two, (False, True), 2.0)) / 2
    torch.testing.assert_close(flipped, mean, rtol=1e-2, atol=1e-3)


def test_a_teacher_that_was_trained_against_the_skew_gives_the_targets_of_one_that_was_not(prepared: Path) -> None:
    """Whatever balanced it, class weights, a sampler or its loss: that is one factor per expression."""
    plain = teacher("plain.safetensors", 1)
    network, described = load_model(plain)
    network.get_submodule("classifier")[-1].bias.data += torch.linspace(-1, 2, 8)  # type: ignore[index]
    save_model(Path("balanced.safetensors"), network, described)
    torch.testing.assert_close(shares(Path("balanced.safetensors")), shares(plain), rtol=2e-2, atol=2e-3)


def test_a_teacher_of_more_expressions_answers_for_those_that_are_learned(workspace: Path) -> None:
    run_data_stages(tree_folder(workspace / "root"))
    of_seven = shares(teacher("eight.safetensors", 1))
    assert of_seven.shape[1] == 7 and torch.allclose(of_seven.sum(1), torch.ones(len(of_seven)))


def test_without_a_teacher_the_soft_labels_of_the_data_are_learned_and_a_face_without_one_learns_its_label(workspace: Path) -> None:
    pointer = tree_plus(workspace / "root")
    files = sorted((workspace / "root").rglob("train_set/*/*.json"))
    for path in files[:3]:
        content = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in content.items() if name.lower()[:4] != "soft"}))
    run_data_stages(pointer)
    soft = soft_targets(params(), classes(), FACES, load, Group(CPU))
    faces = load(32)[0]
    labelled = has_soft_label(faces.soft_label) if faces.soft_label is not None else torch.empty(0)
    assert soft is not None and soft.teachers == {} and len(labelled) - 3 <= int(labelled.sum()) < len(labelled)
    targets = training_targets(params(), faces, classes(), soft.shares)
    for code, row in zip(faces.expression[labelled].tolist(), targets.expression[labelled].tolist(), strict=True):
        assert row == pytest.approx(soft_label(code))
    assert set(targets.expression[~labelled].flatten().tolist()) == {0.0, 1.0}
    missing = int((~labelled).sum())
    line = train(teacher=())
    assert f"; soft targets of the data for {len(faces) - missing} faces, {missing} without one learn their label" in line
    assert "teachers" not in load_model(MODEL)[1].training


def test_data_without_soft_labels_cannot_be_asked_for_them(prepared: Path) -> None:
    with refused("train.targets: mixed, but no training face has a soft label of an expression that is learned; choose hard, or name"):
        train(targets="mixed")


def train(*teachers: Path, **changes: Any) -> str:
    fields = {"model": TINY, "epochs": 2, "batch": 16, "targets": "soft", "teacher": list(map(str, teachers))}
    return run_stage("train", **{**fields, **changes})


def test_a_student_learns_from_its_teacher_the_same_twice_and_after_a_break_and_names_it(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(targets="hard")
    usual, hard = MODEL.read_bytes(), curves()
    before = json.loads(Path("metrics/fingerprint/weights.json").read_bytes())
    file = Path("teacher.safetensors")
    shutil.copy(MODEL, file)
    with refused(r"weights.json: records nothing, training reads teacher.safetensors of SHA-256 \w+; run `dvc repro`"):
        train(file)
    assert "teacher 1 teacher.safetensors, new" in run_stage("fingerprint", train={"teacher": str(file)})
    line, soft, logged = train(file), MODEL.read_bytes(), curves()
    count = len(load_faces(FACES, "train", 32, 1))
    assert f"; soft targets of 1 teacher for {count} faces, 0 without one learn their label" in line
    assert soft != usual and logged["train/loss"] != hard["train/loss"]
    forget_training()
    with monkeypatch.context() as broken:
        saved: list[int] = []
        save = TrainingState.save

        def interrupted(state: TrainingState, content: Any) -> None:
            save(state, content)
            saved.append(1)
            raise KeyboardInterrupt

        broken.setattr(TrainingState, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(file)
    assert train(file) == line and MODEL.read_bytes() == soft and curves() == logged and saved == [1]
    _, described = load_model(MODEL)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert described.training["teachers"] == [{"source": "file", "name": str(file), "version": None, "sha256": sha256}]
    assert sha256 in text(MODEL)
    train(file, targets="mixed", target_share=0.5)
    assert MODEL.read_bytes() not in {usual, soft}
    shutil.copy(MODEL, file)
    with refused(r"records teacher.safetensors of SHA-256 \w+, training reads teacher.safetensors of SHA-256 \w+; run `dvc repro`"):
        train(file)
    run_stage("fingerprint")
    assert json.loads(Path("metrics/fingerprint/weights.json").read_bytes()) == before


def test_what_is_no_teacher_is_one_line(prepared: Path) -> None:
    labels = metadata().labels
    Path("text.safetensors").write_text("not a model")
    with refused("train.teacher: gone.safetensors: missing; name a model file, such as a copy of models/model.safetensors"):
        shares(Path("gone.safetensors"))
    with refused("text.safetensors: not a safetensors file"):
        shares(Path("text.safetensors"))
    with refused("train.teacher: seven.safetensors: has no output for 1: Contempt, which training learns; choose another"):
        shares(teacher("seven.safetensors", 1, labels=labels[:-1]))
    with refused("train.teacher: affect.safetensors: has no output for 8: Neutral, "):
        shares(teacher("affect.safetensors", 1, labels=(), affect=True))
    with refused(r"data/faces: cropped with another policy than the training faces of crop.safetensors \(margin differ\)"):
        shares(teacher("crop.safetensors", 1, crop={**read_policy(FACES, "train"), "margin": 0.3}))
    with refused("train.teacher: models/model.safetensors: is the file that train writes, and DVC removes it first"):
        train(MODEL)
