"""The model of the repository: its content, its card, and the shape and range of its predictions.

Its real score is one command over FER2013, which cannot be here (docs/experiments.md).
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from drawn import NAMES, face
from safetensors import safe_open

from affectnet.predict.defaults import DEFAULT, SHIPPED, model_file
from affectnet.predict.predictor import Predictor

ROOT = Path(__file__).parent.parent
MODEL, CARD = SHIPPED, SHIPPED.with_suffix(".md")
WEIGHTS = ROOT / "pretrained" / "fer2013.safetensors"
MOST_BYTES = 12_000_000


def test_it_answers_by_default_from_any_folder_and_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_file(None) == model_file(DEFAULT) == MODEL and MODEL.stat().st_size <= MOST_BYTES
    assert model_file("default.onnx") == Path("default.onnx")
    with safe_open(WEIGHTS, "np") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys() if name.endswith((".weight", ".bias"))}  # noqa: SIM118 (no mapping)
    assert kinds == {np.dtype(np.float16)}


def test_its_answers_are_seven_probabilities_a_face_and_never_contempt() -> None:
    predictor = Predictor.load()
    photos = predictor.predict_many([face(name, number, side=side) for number, name in enumerate(NAMES) for side in (48, 200)], "whole")
    names = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger")
    assert predictor.metadata.labels == names and not predictor.metadata.affect and len(photos) == 2 * len(NAMES)
    for (answer,) in photos:
        values = list(answer.probabilities.values())
        assert tuple(answer.probabilities) == names and sum(values) == pytest.approx(1, abs=1e-5) and min(values) >= 0
        assert answer.expression == max(answer.probabilities, key=lambda name: answer.probabilities[name])
        assert answer.valence is None and answer.arousal is None
    assert len({tuple(np.round(list(answer.probabilities.values()), 3)) for (answer,) in photos}) > len(NAMES)


def test_its_card_is_about_this_file_and_the_readme_has_its_scores() -> None:
    card, readme = CARD.read_text(), (ROOT / "README.md").read_text()
    for path in (MODEL, WEIGHTS):
        assert f"`{path.name}`, {path.stat().st_size:,} bytes, SHA-256 `{hashlib.sha256(path.read_bytes()).hexdigest()}`" in card
    for label, name in (("accuracy", "accuracy"), ("macro-F1", "macro-F1")):
        row = re.search(rf"^\| expression, {label} \| (.*) \|$", card, re.MULTILINE)
        assert row is not None and f"| {name} | {row[1]} |" in readme
