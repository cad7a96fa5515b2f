"""Predictions and labels of the test split."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.metrics import calibration
from affectnet.models.checkpoint import ModelMetadata, load_model
from affectnet.models.dataset import FaceDataset, load_faces
from affectnet.models.device import select_device
from affectnet.models.forward import Averaging, Outputs, predict
from affectnet.params import Runtime
from affectnet.tables.face_shards import read_policy


@dataclass(frozen=True)
class Predictions:
    """n test faces: codes (k,) of the expressions that the model or the faces have; true (n,) positions among them;

    logits (n, k) float64, −∞ for an expression that the model does not know; true_affect (n, 2), NaN where not annotated;
    affect (n, 2), or (n, 0) for a model without. A model of only valence and arousal has no codes, true (0,) and logits (0, 0).
    """

    metadata: ModelMetadata
    codes: NDArray[np.int64]
    true: NDArray[np.int64]
    logits: NDArray[np.float64]
    true_affect: NDArray[np.float64]
    affect: NDArray[np.float64]

    @classmethod
    def from_outputs(
        cls, model: Path, metadata: ModelMetadata, outputs: Outputs, expression: NDArray[np.int64], true_affect: NDArray[np.float64]
    ) -> "Predictions":
        """Joins the model's outputs for n faces and their labels: expression (n,) codes, true_affect (n, 2), NaN where not annotated.

        Errors: UserError when an output is NaN or infinite.
        """
        outputs.require_finite(model)
        logits = np.full((len(expression), len(EXPRESSIONS)), -np.inf)
        logits[:, metadata.codes] = outputs.logits.numpy()
        faces = slice(None) if metadata.labels else slice(0)
        codes = np.union1d(metadata.codes, expression[faces])
        true = np.searchsorted(codes, expression[faces])
        return cls(metadata, codes, true, logits[faces, codes], true_affect, outputs.affect.numpy().astype(np.float64))

    def __len__(self) -> int:
        return len(self.affect)

    @property
    def names(self) -> list[str]:
        return [EXPRESSIONS[code] for code in self.codes]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(n, k), calibrated by the model's temperature."""
        return calibration.probabilities(self.logits, self.metadata.temperature)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) positions of the largest logits."""
        return self.logits.argmax(1) if self.logits.size else np.empty(0, np.int64)

    def without(self, name: str) -> "Predictions":
        """The faces of the other expressions, predicted as if the model did not know this one."""
        dropped = self.names.index(name)
        faces = self.true != dropped
        columns = np.arange(len(self.codes)) != dropped
        true = self.true[faces] - (self.true[faces] > dropped)
        affect, true_affect = self.affect[faces], self.true_affect[faces]
        return Predictions(self.metadata, self.codes[columns], true, self.logits[faces][:, columns], true_affect, affect)


def predict_split(model: Path, faces: Path, runtime: Runtime, averaging: Averaging) -> Predictions:
    """The model file's predictions on the test split. averaging: views per face over which outputs are averaged.

    The model file's temperature is that of one view; for an average it is fitted again, on our validation split.
    Errors: UserError as `load_model` and `Predictions.from_outputs`, and when the crop policy differs from that of the training faces.
    """
    device = select_device(runtime.device)
    network, metadata = load_model(model)
    _same_crops(model, metadata, faces)

    def outputs_for(split: FaceDataset) -> Outputs:
        return predict(network.to(device), split.images, device, len(metadata.labels), metadata.mean, metadata.std, averaging)

    test = load_faces(faces, "test", metadata.image_px, runtime.workers)
    outputs = outputs_for(test)
    if averaging != "none" and metadata.labels:
        validation = load_faces(faces, "validation", metadata.image_px, runtime.workers)
        metadata = replace(metadata, temperature=_temperature(metadata, outputs_for(validation), validation))
    affect = np.stack([test.valence.numpy(), test.arousal.numpy()], 1).astype(np.float64)
    return Predictions.from_outputs(model, metadata, outputs, test.expression.numpy(), affect)


def _temperature(metadata: ModelMetadata, outputs: Outputs, validation: FaceDataset) -> float:
    """Fitted on the faces whose expression the model knows; the model file's own if there are none."""
    expression = validation.expression.numpy()
    known = np.isin(expression, metadata.codes)
    if not known.any():
        return metadata.temperature
    columns = (expression[known, None] == metadata.codes).argmax(1)
    return calibration.fit_temperature(outputs.logits.numpy()[known], columns)


def _same_crops(model: Path, metadata: ModelMetadata, faces: Path) -> None:
    policy = read_policy(faces, "test")
    if policy != metadata.crop:
        differing = sorted(key for key in {*policy, *metadata.crop} if policy.get(key) != metadata.crop.get(key))
        raise UserError(
            f"{faces}: cropped with another policy than the training faces of {model} ({', '.join(differing)} differ); run `dvc repro`"
        )
