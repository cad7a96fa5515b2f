"""Contact sheets of test faces: which faces, and each as a small JPEG within a page. What they hold is the data set's: never for Git."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from affectnet.errors import UserError
from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.images.data_uri import data_address
from affectnet.models.checkpoint import ModelMetadata
from affectnet.models.dataset import decode_face
from affectnet.reporting import gradcam
from affectnet.tables.contract import readable_parquet
from affectnet.tables.face_shards import AGAIN, open_shard, shard_paths

THUMB_PX, QUALITY = 112, 85
HEAT = 0.6
"""Share of the heat's colour where it is hottest; where there is none the face is as it is."""


@dataclass(frozen=True)
class Shown:
    """One face of a sheet: where it is from, the answer, and pictures as addresses that hold their own bytes; heat may be lacking."""

    image: str
    list: str
    row: int
    actual: str
    predicted: str
    confidence: float
    probabilities: tuple[tuple[str, float], ...]
    picture: str
    heat: str | None


@dataclass(frozen=True)
class Answered:
    """The answers of n test faces: codes and confidence (n,), probabilities (n, 8)."""

    actual: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @classmethod
    def of(cls, table: pa.Table) -> "Answered":
        """From a table of answers that has expressions."""
        flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        actual, predicted = (table[name].to_numpy().astype(np.int64) for name in ("expression", "predicted"))
        return cls(actual, predicted, table["confidence"].to_numpy().astype(np.float64), flat.reshape(-1, 8).astype(np.float64))

    def surest(self, wanted: NDArray[np.bool_], most: int) -> list[int]:
        """The rows of the wanted faces, the most confident first, at most so many."""
        rows = np.flatnonzero(wanted)
        return rows[np.argsort(-self.confidence[rows], kind="stable")][:most].tolist()  # type: ignore[no-any-return]

    def examples(self, each: int) -> dict[str, tuple[list[int], list[int]]]:
        """Of each expression that the faces have: rows that were answered right, and rows that were not, the surest first."""
        right = self.actual == self.predicted
        return {
            EXPRESSIONS[code]: (self.surest((self.actual == code) & right, each), self.surest((self.actual == code) & ~right, each))
            for code in np.unique(self.actual)
        }

    def confusions(self, each: int) -> list[tuple[str, str, int, list[int]]]:
        """(actual, predicted, how many, the surest rows), the most frequent pair first."""
        wrong = np.flatnonzero(self.actual != self.predicted)
        pairs, counts = np.unique(np.stack([self.actual[wrong], self.predicted[wrong]], 1), axis=0, return_counts=True)
        found = [
            (EXPRESSIONS[a], EXPRESSIONS[p], int(n), self.surest((self.actual == a) & (self.predicted == p), each))
            for (a, p), n in zip(pairs.tolist(), counts, strict=True)
        ]
        return sorted(found, key=lambda pair: -pair[2])


def show(
    faces: Path,
    answered: Answered,
    rows: Sequence[int],
    metadata: ModelMetadata,
    network: torch.nn.Module | None,
    place: gradcam.Place | None,
) -> dict[int, Shown]:
    """The test faces of these rows, by row; with a network and a place of its maps each with the heat of its answer.

    Errors: UserError when the shards do not hold the faces that were answered.
    """
    found: dict[int, Shown] = {}
    for row, content, image, listed, number, expression in _read(faces, len(answered.actual), sorted(set(rows))):
        if expression != answered.actual[row]:
            raise UserError(f"{faces}: test face {row + 1:,} is none that was answered; run `dvc repro evaluate`")
        pixels, heat = decode_face(content, metadata.image_px), None
        answer = EXPRESSIONS[answered.predicted[row]]
        if network is not None and place is not None and answer in metadata.labels:
            (hot,) = gradcam.maps(
                network, place, torch.from_numpy(pixels.copy())[None], [metadata.labels.index(answer)], metadata.mean, metadata.std
            )
            heat = data_address(heated(decode_face(content, THUMB_PX), hot.numpy()), "JPEG", quality=QUALITY)
        found[row] = Shown(
            *(image, listed, number, EXPRESSIONS[expression], answer, float(answered.confidence[row])),
            tuple((name, float(answered.probabilities[row, CODES[name]])) for name in EXPRESSIONS),
            data_address(decode_face(content, THUMB_PX), "JPEG", quality=QUALITY),
            heat,
        )
    return found


def heated(face: NDArray[np.uint8], hot: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The (px, px, 3) RGB face in grey, with the map of 0–1 over it in colour, blue to red."""
    large = cv2.resize(hot, face.shape[1::-1], interpolation=cv2.INTER_LINEAR).clip(0, 1)
    colour = cv2.applyColorMap((255 * large).round().astype(np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1]
    share = HEAT * large[:, :, None]
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[:, :, None]
    mixed: NDArray[np.uint8] = ((1 - share) * grey + share * colour).round().astype(np.uint8)
    return mixed


def _read(faces: Path, count: int, rows: Sequence[int]) -> Iterator[tuple[int, bytes, str, str, int, int]]:
    """Row, JPEG or PNG, the photograph's path, list, number there and expression of these rows of the test split, in order."""
    shards = shard_paths(faces, "test")
    held = 0
    for shard in shards:
        with open_shard(shard) as file:
            held += file.metadata.num_rows
    if held != count:
        raise UserError(f"{faces}: {held:,} test faces, {count:,} were answered; run `dvc repro evaluate`")
    wanted, first = np.asarray(rows, np.int64), 0
    for shard in shards:
        with open_shard(shard) as file:
            for group in range(file.metadata.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                here = wanted[(wanted >= first) & (wanted < last)]
                if len(here):
                    with readable_parquet(shard, AGAIN):
                        table = file.read_row_group(group, columns=["image", "expression", "list", "row"]).take(pa.array(here - first))
                    for row, found in zip(here.tolist(), table.to_pylist(), strict=True):
                        image = found["image"]
                        yield row, image["bytes"], image["path"], found["list"], found["row"], found["expression"]
                first = last
