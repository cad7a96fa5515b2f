"""Predictions for photographs in one folder per expression: read in threads, scored in batches, each counted."""

import itertools
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.images.crop import is_its_own_crop
from affectnet.images.decode import open_photograph, read_photograph
from affectnet.models.dataset import decode_face, resize_face
from affectnet.models.forward import Averaging, Outputs
from affectnet.predict.batch import many, problem, without_warnings
from affectnet.predict.image_folder import ClassFolders, Labelled, photographs
from affectnet.predict.paths import Told
from affectnet.predict.predictor import Predictor
from affectnet.reporting.predictions import Predictions
from affectnet.running.parallel import cores, in_order


@dataclass
class Count:
    """What became of the photographs. without: those in which no face was found, scored whole; several: those in which the

    largest of several faces was scored; other: files that are no photographs, or in folders that are not used.
    """

    scored: int = 0
    without: int = 0
    several: int = 0
    unreadable: int = 0
    other: int = 0

    def photographs(self, folders: ClassFolders, tell: Told) -> Iterator[Labelled]:
        """Each photograph of the folders; what is none is counted, and a folder that cannot be read told, too."""

        def unreadable(problem: str) -> None:
            self.unreadable += 1
            tell(problem)

        def other(_: str) -> None:
            self.other += 1

        return photographs(folders, unreadable, other)

    def __str__(self) -> str:
        parts = [f"{many(self.scored, 'photograph')} scored"]
        parts += [f"{self.without:,} of them whole, no face being found"] if self.without else []
        parts += [f"{self.several:,} by the largest of several faces"] if self.several else []
        parts += [f"{self.unreadable:,} unreadable", *([f"{many(self.other, 'other file')} passed over"] if self.other else [])]
        return ", ".join(parts)


@dataclass(frozen=True)
class Seen:
    """A photograph as the network sees it, (image_px, image_px, 3) uint8; faces: how many were found, None when none was looked for."""

    pixels: NDArray[np.uint8]
    code: int
    faces: int | None


def predict_folder(
    model: Path, predictor: Predictor, inputs: Iterable[Labelled], cropped: bool, batch: int, count: Count, tell: Told
) -> Predictions:
    """The model's answers for the photographs, beside the truth; memory holds the crops of one batch, and the answers.

    cropped: each photograph is a face already cut, and is taken as it is when it has the form of the model's crops, else whole.
    count: is added to; tell: gets one line for each that cannot be read. Errors: UserError when none can be read, and as
    `Predictions.from_outputs`.
    """
    codes: list[int] = []
    logits, affect = [], []
    read = in_order(partial(_seen, predictor, cropped), inputs, cores(), "thread")
    with without_warnings(), closing(_counted(read, count, tell)) as sound:
        while some := list(itertools.islice(sound, batch)):
            outputs = predictor.outputs(np.stack([one.pixels for one in some]), batch)
            logits.append(outputs.logits)
            affect.append(outputs.affect)
            codes += [one.code for one in some]
    if not codes:
        raise UserError(f"no photograph could be read, {count.unreadable:,} unreadable, {count.other:,} other files; nothing to score")
    none = np.full((len(codes), 2), np.nan)
    return Predictions.from_outputs(
        model, predictor.metadata, Outputs(torch.cat(logits), torch.cat(affect)), np.array(codes, np.int64), none
    )


def caveats(found: Predictions, averaging: Averaging) -> list[str]:
    """What a reader of the scores is to know, a line each."""
    lines = []
    if averaging != "none":
        lines.append(f"the temperature of {found.metadata.temperature:.3g} was fitted without averaging, which the calibration error shows")
    known, counts = found.metadata.labels, np.bincount(found.true, minlength=len(found.names)).tolist()
    unknown = [f"{count:,} of {name}" for name, count in zip(found.names, counts, strict=True) if name not in known]
    absent = [name for name, count in zip(found.names, counts, strict=True) if not count]
    if len(known) < len(EXPRESSIONS):
        lines.append(f"the model knows {len(known)} expressions: {', '.join(known)}")
    if unknown:
        lines.append(
            f"photographs of expressions that the model does not know count as errors, {', '.join(unknown)}; --labels leaves them out"
        )
    if absent:
        lines.append(f"no photograph of {', '.join(absent)}: macro-F1 counts 0 for each, as for a class that is never right")
    return lines


def _counted(read: Iterable[Seen | UserError], count: Count, tell: Told) -> Generator[Seen, None, None]:
    for one in read:
        if isinstance(one, UserError):
            count.unreadable += 1
            tell(str(one))
            continue
        count.scored += 1
        count.without += one.faces == 0
        count.several += (one.faces or 0) > 1
        yield one


def _seen(predictor: Predictor, cropped: bool, given: Labelled) -> Seen | UserError:
    try:
        if cropped:
            return Seen(_as_cropped(predictor, Path(given.path)), given.code, None)
        found = predictor.crops(Path(given.path))
        (_, pixels), *_ = found or predictor.crops(Path(given.path), "whole")
        return Seen(pixels, given.code, len(found))
    except Exception as error:  # a decoder that stumbles over broken bytes raises what it likes
        return problem(given.path, error)


def _as_cropped(predictor: Predictor, path: Path) -> NDArray[np.uint8]:
    """The photograph as the network sees a crop that is stored in it; one of another form is framed whole as the model file says."""
    content = read_photograph(path)
    photograph = open_photograph(content, str(path))
    if not is_its_own_crop(photograph, predictor.policy):
        ((_, pixels),) = predictor.crops(path, "whole")
        return pixels
    if photograph.plain_format in {"jpeg", "png"}:
        return decode_face(content, predictor.metadata.image_px)
    return resize_face(Image.fromarray(photograph.pixels()), predictor.metadata.image_px)
