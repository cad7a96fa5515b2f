"""Contact sheets of faces: which faces, and each as a small JPEG within a page. They show the data set, and so never enter Git."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from affectnet.errors import UserError
from affectnet.images.data_uri import data_uri
from affectnet.images.resize import decode_face
from affectnet.models.metadata import ModelMetadata
from affectnet.reporting import gradcam
from affectnet.tables.contract import readable_parquet
from affectnet.tables.face_shards import CROP_AGAIN, open_shard, shard_paths

THUMBNAIL_PX, THUMBNAIL_QUALITY = 112, 85
MAP_OPACITY = 0.6
"""Of a Grad-CAM map where it is 1; where it is 0 the face is as it is."""


@dataclass(frozen=True)
class SheetFace:
    """One face of a sheet: its source, label and prediction, and the face and its Grad-CAM map, if any, as `data:` URIs."""

    image: str
    list: str
    row: int
    actual: str
    predicted: str
    confidence: float
    probabilities: tuple[tuple[str, float], ...]
    picture: str
    overlay: str | None


@dataclass(frozen=True)
class FacePredictions:
    """Labels and predictions of n test faces: codes and confidence (n,), probabilities (n, k) by code, the labels of the k codes."""

    labels: tuple[str, ...]
    actual: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @classmethod
    def of(cls, table: pa.Table, labels: tuple[str, ...]) -> "FacePredictions":
        """From a table of predictions that has expressions."""
        flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        actual, predicted = (table[name].to_numpy().astype(np.int64) for name in ("expression", "predicted"))
        confidence = table["confidence"].to_numpy().astype(np.float64)
        return cls(labels, actual, predicted, confidence, flat.reshape(len(table), -1).astype(np.float64))

    def most_confident(self, mask: NDArray[np.bool_], most: int) -> list[int]:
        """The rows of the `most` faces of the mask with the highest confidence, highest first; all where there are fewer."""
        rows = np.flatnonzero(mask)
        return rows[np.argsort(-self.confidence[rows], kind="stable")][:most].tolist()  # type: ignore[no-any-return]

    def examples(self, each: int) -> dict[str, tuple[list[int], list[int]]]:
        """Per expression that the faces have: rows predicted right, and rows predicted wrong, the most confident first."""
        right = self.actual == self.predicted
        return {
            self.labels[code]: (
                self.most_confident((self.actual == code) & right, each),
                self.most_confident((self.actual == code) & ~right, each),
            )
            for code in np.unique(self.actual)
        }

    def confusions(self, each: int) -> list[tuple[str, str, int, list[int]]]:
        """(actual, predicted, how many, the most confident rows), the most frequent pair first."""
        wrong = np.flatnonzero(self.actual != self.predicted)
        pairs, counts = np.unique(np.stack([self.actual[wrong], self.predicted[wrong]], 1), axis=0, return_counts=True)
        confusions = [
            (self.labels[a], self.labels[p], int(n), self.most_confident((self.actual == a) & (self.predicted == p), each))
            for (a, p), n in zip(pairs.tolist(), counts, strict=True)
        ]
        return sorted(confusions, key=lambda confusion: -confusion[2])


def sheet_faces(
    faces: Path,
    predictions: FacePredictions,
    rows: Sequence[int],
    metadata: ModelMetadata,
    network: torch.nn.Module | None,
    layer: gradcam.Layer | None,
) -> dict[int, SheetFace]:
    """Row → face of the test split; with a network and a layer each with the Grad-CAM map of its prediction.

    Errors: UserError when the shards do not hold the faces of the predictions.
    """
    sheet: dict[int, SheetFace] = {}
    remedy = "run `dvc repro evaluate`"
    for row, content, image, listed, number, expression in stored_faces(faces, "test", len(predictions.actual), sorted(set(rows)), remedy):
        if expression != predictions.actual[row]:
            raise UserError(f"{faces}: test face {row + 1:,} is not the one that was predicted; {remedy}")
        predicted = predictions.labels[predictions.predicted[row]]
        face = decode_face(content, THUMBNAIL_PX)
        overlay = None
        if network is not None and layer is not None and predicted in metadata.labels:
            pixels = torch.from_numpy(decode_face(content, metadata.image_px).copy())[None]
            output = metadata.labels.index(predicted)
            (heat,) = gradcam.heat_maps(network, layer, pixels, [output], metadata.mean, metadata.std)
            overlay = data_uri(with_map(face, heat.numpy()), "JPEG", quality=THUMBNAIL_QUALITY)
        sheet[row] = SheetFace(
            image=image,
            list=listed,
            row=number,
            actual=predictions.labels[expression],
            predicted=predicted,
            confidence=float(predictions.confidence[row]),
            probabilities=tuple(zip(predictions.labels, predictions.probabilities[row].tolist(), strict=True)),
            picture=data_uri(face, "JPEG", quality=THUMBNAIL_QUALITY),
            overlay=overlay,
        )
    return sheet


def with_map(face: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The (px, px, 3) RGB face in grey under the map of 0–1 in colour, blue to red."""
    large = cv2.resize(heat, face.shape[1::-1], interpolation=cv2.INTER_LINEAR).clip(0, 1)
    colour = cv2.applyColorMap((255 * large).round().astype(np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1]
    opacity = MAP_OPACITY * large[:, :, None]
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[:, :, None]
    mixed: NDArray[np.uint8] = ((1 - opacity) * grey + opacity * colour).round().astype(np.uint8)
    return mixed


def stored_faces(faces: Path, split: str, count: int, rows: Sequence[int], remedy: str) -> Iterator[tuple[int, bytes, str, str, int, int]]:
    """Row, JPEG or PNG, the photograph's path, list, number there and expression of these rows of a split, in order.

    Errors: UserError, with the remedy, when the split does not have `count` faces.
    """
    shards = shard_paths(faces, split)
    stored = 0
    for shard in shards:
        with open_shard(shard) as file:
            stored += file.metadata.num_rows
    if stored != count:
        raise UserError(f"{faces}: {stored:,} {split} faces, but {count:,} predictions; {remedy}")
    requested = np.asarray(rows, np.int64)
    first = 0
    for shard in shards:
        with open_shard(shard) as file:
            for group in range(file.metadata.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                inside = requested[(requested >= first) & (requested < last)]
                if len(inside):
                    with readable_parquet(shard, CROP_AGAIN):
                        table = file.read_row_group(group, columns=["image", "expression", "list", "row"]).take(pa.array(inside - first))
                    for row, face in zip(inside.tolist(), table.to_pylist(), strict=True):
                        image = face["image"]
                        yield row, image["bytes"], image["path"], face["list"], face["row"], face["expression"]
                first = last
