"""Macro-F1 on test of a logistic regression on 32×32 grey pixels of the same crops: the score of the demo without a network.

Run from the project's folder after `dvc repro`: `python -m benchmarks.pixels_baseline`. About ten seconds.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.classification import confusion_matrix, scores
from affectnet.models.dataset import load_faces

SIDE = 32
GREY = np.array([0.299, 0.587, 0.114])
"""Luma of ITU-R BT.601, as Pillow's mode L."""


def pixels_macro_f1(faces: Path) -> float:
    """Trained on our training split with balanced class weights, scored on test."""
    train, test = (load_faces(faces, split, SIDE, 0) for split in ("train", "test"))
    model = fitted(train.images.numpy(), train.expression.numpy())
    return float(
        scores(confusion_matrix(test.expression.numpy(), model.predict(grey_pixels(test.images.numpy())), len(EXPRESSIONS))).macro_f1
    )


def fitted(images: NDArray[np.uint8], expression: NDArray[np.integer]) -> Pipeline:
    """The regression, trained on (n, SIDE, SIDE, 3) uint8 RGB faces and their (n,) codes, each class with the same weight."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, class_weight="balanced", max_iter=500))
    return model.fit(grey_pixels(images), expression)


def grey_pixels(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, SIDE²) grey levels."""
    return np.asarray((images @ GREY).reshape(len(images), -1))


if __name__ == "__main__":
    pixels = pixels_macro_f1(Path("data/faces"))
    network = json.loads(Path("metrics/evaluate.json").read_text(encoding="utf-8"))["expression"]["macro_f1"]
    print(f"macro-F1 on test: pixels {pixels:.3f}, network {network:.3f}, {100 * (network - pixels):.1f} points between them")
