"""A model file's predictions on the test split."""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from affectnet.images.crop_policy import CropPolicy
from affectnet.metrics import calibration
from affectnet.models.checkpoint import load_model
from affectnet.models.dataset import FaceDataset, load_faces
from affectnet.models.device import select_device
from affectnet.models.forward import predict
from affectnet.models.metadata import ModelMetadata, refuse_other_crops
from affectnet.models.outputs import Averaging, Outputs
from affectnet.params import Runtime
from affectnet.reporting.predictions import Predictions
from affectnet.tables.face_shards import read_policy


def predict_split(model: Path, faces: Path, runtime: Runtime, averaging: Averaging) -> Predictions:
    """The predictions of a safetensors file on the test split. averaging: views per face over which outputs are averaged.

    Errors: UserError as `load_model` and `predictions_of_split`.
    """
    device = select_device(runtime.device)
    network, metadata = load_model(model)

    def outputs_for(images: torch.Tensor) -> Outputs:
        return predict(network.to(device), images, device, len(metadata.labels), metadata.mean, metadata.std, averaging)

    return predictions_of_split(model, metadata, outputs_for, faces, runtime.workers, averaging)


def predictions_of_split(
    model: Path,
    metadata: ModelMetadata,
    outputs_for: Callable[[torch.Tensor], Outputs],
    faces: Path,
    workers: int,
    averaging: Averaging,
    fields: Collection[str] = CropPolicy.model_fields,
) -> Predictions:
    """The predictions of an open model on the test split. outputs_for: (n, px, px, 3) uint8 RGB → its outputs, averaged over the views.

    fields: of the crop policy, those that must be equal to the faces'.
    The model file's temperature is that of one view; for an average it is fitted again, on our validation split.
    Errors: UserError as `Predictions.from_outputs`, and when the crop policy differs from that of the training faces.
    """
    refuse_other_crops(model, metadata, faces, read_policy(faces, "test"), fields)
    test = load_faces(faces, "test", metadata.image_px, workers)
    outputs = outputs_for(test.images)
    if averaging != "none" and metadata.labels:
        validation = load_faces(faces, "validation", metadata.image_px, workers)
        metadata = replace(metadata, temperature=_temperature(metadata, outputs_for(validation.images), validation))
    affect = np.stack([test.valence.numpy(), test.arousal.numpy()], 1).astype(np.float64)
    return Predictions.from_outputs(model, metadata, outputs, test.labels, test.expression.numpy(), affect)


def _temperature(metadata: ModelMetadata, outputs: Outputs, validation: FaceDataset) -> float:
    """Fitted on the faces whose expression the model knows; the model file's own if there are none."""
    expression = validation.expression.numpy()
    codes = metadata.codes(validation.labels)
    known = np.isin(expression, codes)
    if not known.any():
        return metadata.temperature
    columns = (expression[known, None] == codes).argmax(1)
    return calibration.fit_temperature(outputs.logits[known], columns)
