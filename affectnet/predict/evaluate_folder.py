"""Predictions for photographs in one folder per expression: read in threads, scored in batches, each counted."""

import itertools
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectnet.errors import UserError, many
from affectnet.images.crop import is_its_own_crop
from affectnet.images.decode import open_photograph, read_photograph
from affectnet.images.resize import decode_face, resize_face
from affectnet.models.outputs import Averaging, Outputs
from affectnet.predict.batch import problem, without_warnings
from affectnet.predict.image_folder import ClassFolders, Labelled, photographs, vocabulary
from affectnet.predict.paths import Log
from affectnet.predict.predictor import Predictor
from affectnet.reporting.predictions import Predictions
from affectnet.running.parallel import cores, in_order


@dataclass
class Count:
    """How many photographs were scored or unreadable. without: those without a face, scored whole; several: those of which the largest

    face was scored; other: files that are not photographs, or in ignored folders.
    """

    scored: int = 0
    without: int = 0
    several: int = 0
    unreadable: int = 0
    other: int = 0

    def photographs(self, folders: ClassFolders, log: Log) -> Iterator[Labelled]:
        """Each photograph of the folders; counts the other files, and counts and logs unreadable folders."""

        def unreadable(problem: str) -> None:
            self.unreadable += 1
            log(problem)

        def other(_: str) -> None:
            self.other += 1

        return photographs(folders, unreadable, other)

    def __str__(self) -> str:
        parts = [f"{many(self.scored, 'photograph')} scored"]
        parts += [f"{self.without:,} of them whole, without a detected face"] if self.without else []
        parts += [f"{self.several:,} by the largest of several faces"] if self.several else []
        parts += [f"{self.unreadable:,} unreadable", *([f"{many(self.other, 'other file')} skipped"] if self.other else [])]
        return ", ".join(parts)


@dataclass(frozen=True)
class Crop:
    """A photograph's face, (image_px, image_px, 3) uint8, and its label; faces: how many were detected, None without a detector."""

    pixels: NDArray[np.uint8]
    label: str
    faces: int | None


def predict_folder(predictor: Predictor, inputs: Iterable[Labelled], cropped: bool, batch: int, count: Count, log: Log) -> Predictions:
    """Predictions and labels of the photographs; memory holds the crops of one batch, and the predictions.

    cropped: each photograph is a face already cropped, and is used as it is when it has the form of the model's crops, else whole.
    count: is updated; log: gets one line for each that cannot be read. Errors: UserError when none can be read, and as
    `Predictions.from_outputs`.
    """
    labels = vocabulary(predictor.metadata.labels)
    codes: list[int] = []
    logits: list[NDArray[np.float32]] = []
    affect: list[NDArray[np.float32]] = []
    crops = in_order(partial(_crop, predictor, cropped), inputs, cores(), "thread")
    with without_warnings(), closing(_counted(crops, count, log)) as readable:
        while batch_crops := list(itertools.islice(readable, batch)):
            outputs = predictor.outputs(np.stack([crop.pixels for crop in batch_crops]), batch)
            logits.append(outputs.logits)
            affect.append(outputs.affect)
            codes += [labels.index(crop.label) for crop in batch_crops]
    if not codes:
        raise UserError(f"no photograph could be read, {count.unreadable:,} unreadable, {count.other:,} other files; nothing to score")
    outputs = Outputs(np.concatenate(logits), np.concatenate(affect))
    true_affect = np.full((len(codes), 2), np.nan)
    return Predictions.from_outputs(predictor.engine.name, predictor.metadata, outputs, labels, np.array(codes, np.int64), true_affect)


def caveats(predictions: Predictions, averaging: Averaging) -> list[str]:
    """Lines about what limits the scores."""
    lines = []
    if averaging != "none" and predictions.metadata.training:
        lines.append(
            f"the temperature of {predictions.metadata.temperature:.3g} was fitted without averaging, which the calibration error shows"
        )
    labels = predictions.metadata.labels
    counts = dict(zip(predictions.names, np.bincount(predictions.true, minlength=len(predictions.names)).tolist(), strict=True))
    unknown = [f"{count:,} of {name}" for name, count in counts.items() if name not in labels]
    absent = [name for name, count in counts.items() if not count]
    if len(labels) < len(counts):
        lines.append(f"the model knows {len(labels)} expressions: {', '.join(labels)}")
    if unknown:
        lines.append(
            f"photographs of expressions that the model does not know count as errors, {', '.join(unknown)}; --labels leaves them out"
        )
    if absent:
        lines.append(f"no photograph of {', '.join(absent)}: macro-F1 counts 0 for each")
    return lines


def _counted(crops: Iterable[Crop | UserError], count: Count, log: Log) -> Generator[Crop, None, None]:
    for crop in crops:
        if isinstance(crop, UserError):
            count.unreadable += 1
            log(str(crop))
            continue
        count.scored += 1
        count.without += crop.faces == 0
        count.several += (crop.faces or 0) > 1
        yield crop


def _crop(predictor: Predictor, cropped: bool, photograph: Labelled) -> Crop | UserError:
    path = Path(photograph.path)
    try:
        if cropped:
            return Crop(_as_cropped(predictor, path), photograph.label, None)
        faces = predictor.crops(path)
        largest, *_ = faces or predictor.crops(path, "whole")
        return Crop(largest.pixels, photograph.label, len(faces))
    except Exception as error:  # decoders raise any class of error over broken bytes
        return problem(photograph.path, error)


def _as_cropped(predictor: Predictor, path: Path) -> NDArray[np.uint8]:
    """The pixels of a photograph that is a crop already; one of another form is cropped whole by the model's policy."""
    content = read_photograph(path)
    photograph = open_photograph(content, str(path))
    if not is_its_own_crop(photograph, predictor.policy):
        (whole,) = predictor.crops(path, "whole")
        return whole.pixels
    if photograph.plain_format in {"jpeg", "png"}:
        return decode_face(content, predictor.metadata.image_px)
    return resize_face(Image.fromarray(photograph.pixels()), predictor.metadata.image_px)
