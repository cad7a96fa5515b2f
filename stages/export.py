"""Writes the model as an ONNX file, which needs neither this project nor torch, and compares its outputs with the model's."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from affectnet.engines.onnx_engine import Crops, session
from affectnet.engines.onnx_export import Pixels, export_network
from affectnet.errors import UserError
from affectnet.files.atomic import replacing, write_json
from affectnet.images.resize import open_crop
from affectnet.metrics.calibration import probabilities
from affectnet.metrics.regression import DIMENSIONS, affect_scores
from affectnet.models.checkpoint import load_model
from affectnet.models.dataset import FaceDataset, load_faces
from affectnet.models.forward import predict
from affectnet.models.metadata import ModelMetadata
from affectnet.models.outputs import Outputs
from affectnet.models.transforms import normalised
from affectnet.params import Runtime, Section
from affectnet.running.run_stage import launch
from affectnet.tables.contract import readable_parquet
from affectnet.tables.face_shards import CROP_AGAIN, open_shard, shard_paths

BATCH = 64

MOST_EQUAL_PIXELS = 1024
"""Validation faces on which the two are compared with the same resized pixels."""

Arrays = dict[str, NDArray[np.float64]]
"""Probabilities (n, k), and valence and arousal (n, 2), by the names of the file's outputs."""


class ExportParams(Section):
    """Section `export`."""

    precision: Literal["float32", "float16", "int8"]
    calibration_faces: int = Field(ge=8, le=65536)
    tolerance: float = Field(gt=0, le=1)
    most_lost: float = Field(ge=0, le=1)


def run(params: ExportParams, runtime: Runtime, faces: Path, model: Path, *, onnx: Path, metrics: Path) -> str:
    """Writes the file and how far its outputs differ; returns the summary line.

    Both predict our validation split, because int8 or not is a choice and test is used for none: torch as in evaluate, the file with the
    stored crops. Its resizing differs from Pillow's by one level in a few pixels, which a face at a boundary can turn into any difference:
    so `tolerance` bounds the largest difference where both get the same resized pixels, and the median one from stored crops.
    Errors: UserError, and no file, beyond `tolerance`, or when int8 lowers a score by more than `most_lost`.
    """
    network, metadata = load_model(model)
    calibration = _calibration(params, runtime, faces, metadata)
    content = export_network(network, metadata, calibration, half=params.precision == "float16")
    validation = load_faces(faces, "validation", metadata.image_px, runtime.workers)
    outputs = predict(network, validation.images, torch.device("cpu"), len(metadata.labels), metadata.mean, metadata.std)
    expected = _torch_arrays(outputs.require_finite(model), metadata)
    run_file = session(content)
    exported = _onnx_arrays(run_file, _crops(faces))
    if not all(np.isfinite(array).all() for array in exported.values()):
        raise UserError(f"{model}: outputs of its ONNX file are NaN or inf for some validation faces; train another model")
    rows = np.linspace(0, len(validation) - 1, min(len(validation), MOST_EQUAL_PIXELS)).round().astype(np.int64)
    resized = _onnx_arrays(run_file, validation.images.numpy()[rows])
    comparison = {
        "precision": params.precision,
        "bytes": len(content),
        "faces": len(validation),
        "difference": _difference(expected, exported),
        "difference_same_pixels": _difference({name: array[rows] for name, array in expected.items()}, resized),
        **_compared(expected, exported, validation, metadata),
    }
    write_json(metrics, comparison)
    _check(params, comparison, metrics)
    with replacing(onnx) as temporary:
        temporary.write_bytes(content)
    largest, from_crops = comparison["difference_same_pixels"]["largest"], comparison["difference"]["largest"]
    equal = f", {comparison['equal_answers']:.1%} name the same expression" if metadata.labels else ""
    return (
        f"export: {len(content) / 1e6:.1f} MB, {params.precision}; "
        f"on {len(validation):,} validation faces its outputs differ from torch's by at most {largest:.2g}, with its own resizing "
        f"{from_crops:.2g}{equal}"
    )


def _calibration(params: ExportParams, runtime: Runtime, faces: Path, metadata: ModelMetadata) -> list[Pixels]:
    """Batches of training faces, spread evenly over the split, as the network sees them; empty unless the file is int8."""
    if params.precision != "int8":
        return []
    images = load_faces(faces, "train", metadata.image_px, runtime.workers).images
    rows = torch.linspace(0, len(images) - 1, min(params.calibration_faces, len(images))).round().long()
    batches: list[Pixels] = [
        normalised(part, metadata.mean, metadata.std).contiguous().numpy() for part in torch.split(images[rows], BATCH)
    ]
    return batches


def _torch_arrays(outputs: Outputs, metadata: ModelMetadata) -> Arrays:
    """The model's outputs."""
    arrays = {"probabilities": probabilities(outputs.logits, metadata.temperature)} if metadata.labels else {}
    return arrays | ({"valence_arousal": outputs.affect.astype(np.float64)} if metadata.affect else {})


def _onnx_arrays(run_file: Callable[[Crops], dict[str, NDArray[np.float32]]], crops: Iterable[NDArray[np.uint8]]) -> Arrays:
    """The file's outputs for (h, w, 3) crops, which it resizes; consecutive crops of one shape form batches."""
    parts: list[dict[str, NDArray[np.float32]]] = []
    for _, group in groupby(crops, key=lambda crop: crop.shape):
        same = list(group)
        parts += [run_file(np.stack(same[first : first + BATCH])) for first in range(0, len(same), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in parts[0]}


def _crops(faces: Path) -> Iterator[NDArray[np.uint8]]:
    """(h, w, 3) RGB of each validation face, in the order of the shards."""
    for shard in shard_paths(faces, "validation"):
        with open_shard(shard) as file, readable_parquet(shard, CROP_AGAIN):
            for batch in file.iter_batches(BATCH, columns=["image.bytes"]):
                for image in batch["image"].field("bytes"):
                    yield np.asarray(open_crop(image.as_py()).convert("RGB"))


def _difference(expected: Arrays, exported: Arrays) -> dict[str, float]:
    """The largest and the median difference of an output."""
    differences = np.concatenate([np.abs(expected[name] - exported[name]).ravel() for name in expected])
    return {"largest": _short(differences.max()), "median": _short(np.median(differences))}


def _compared(expected: Arrays, exported: Arrays, validation: FaceDataset, metadata: ModelMetadata) -> dict[str, Any]:
    """Of metrics/export.json: the scores of both, and the share of equal predictions."""
    comparison: dict[str, Any] = {
        "scores": {name: _scores(arrays, validation, metadata) for name, arrays in (("torch", expected), ("onnx", exported))},
    }
    if metadata.labels:
        same = expected["probabilities"].argmax(1) == exported["probabilities"].argmax(1)
        comparison["equal_answers"] = float(same.mean())
    return comparison


def _scores(arrays: Arrays, validation: FaceDataset, metadata: ModelMetadata) -> dict[str, float]:
    """Accuracy, and the CCC of valence and arousal over the annotated faces, as far as the model has them."""
    scores = {}
    if metadata.labels:
        scores["accuracy"] = float(
            (metadata.codes(validation.labels)[arrays["probabilities"].argmax(1)] == validation.expression.numpy()).mean()
        )
    for column, (name, true) in enumerate(
        zip(DIMENSIONS, (validation.valence, validation.arousal), strict=True) if metadata.affect else ()
    ):
        annotated = true.isfinite().numpy()
        if annotated.sum() > 1:
            predicted = arrays["valence_arousal"][annotated, column]
            scores[f"{name}_ccc"] = float(affect_scores(true.numpy()[annotated], predicted).ccc)
    return scores


def _short(value: Any) -> float:
    """Two digits; the rest of a rounding error means nothing."""
    return float(f"{value:.1e}")


def _check(params: ExportParams, comparison: dict[str, Any], metrics: Path) -> None:
    """Errors: UserError when the file is too far from the model."""
    scores = comparison["scores"]
    if params.precision != "int8":
        largest, median = comparison["difference_same_pixels"]["largest"], comparison["difference"]["median"]
        if max(largest, median) > params.tolerance:
            raise UserError(
                f"{metrics}: the ONNX file's outputs differ by up to {largest:g} on the same pixels, and by {median:g} in the median from "
                f"stored crops, more than export.tolerance {params.tolerance:g} allows"
            )
        return
    for name, before in scores["torch"].items():
        after = scores["onnx"][name]
        if before - after > params.most_lost:
            raise UserError(
                f"{metrics}: {name} is {after:.3f} in int8 and {before:.3f} before, more lost than export.most_lost {params.most_lost:g} "
                "allows; raise export.calibration_faces, or choose export.precision float32"
            )


if __name__ == "__main__":
    launch(run)
