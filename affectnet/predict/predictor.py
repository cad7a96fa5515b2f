"""`Predictor`: a model file applied to the faces in photographs, from Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from affectnet.engines.engine import Engine, open_engine
from affectnet.errors import UserError, brief
from affectnet.images.crop import crop_face
from affectnet.images.crop_policy import Box, CropPolicy, Points
from affectnet.images.decode import Photograph, open_photograph
from affectnet.images.detection import Detector, detect, load_detector
from affectnet.images.opencv import opencv
from affectnet.images.pictures import Picture, file_content
from affectnet.images.resize import decode_face
from affectnet.metrics.calibration import probabilities
from affectnet.models.outputs import BATCH, Averaging, Outputs
from affectnet.predict.defaults import model_file


class FaceCrop(NamedTuple):
    """A face of a photograph as the network sees it, (image_px, image_px, 3) uint8 RGB, its box, and the name of the detector, if any."""

    box: Box
    pixels: NDArray[np.uint8]
    detector: str | None = None


Crops = list[FaceCrop]
"""The faces of one photograph."""

Where = Literal["detect", "whole"] | Sequence[Box] | NDArray[Any]
"""Where the faces are: `detect`, `whole` for the photograph as one face, or boxes (left, top, right, bottom) in px as displayed."""

FACES_HELP = "give 'detect', 'whole', or a list of boxes (left, top, right, bottom), one per face"


@dataclass(frozen=True)
class Face:
    """One face of a photograph.

    box: left, top, right, bottom in px of the photograph as displayed; expression: the most probable, None for a model without
    expressions; probabilities: by name, calibrated, in the model's label order; valence, arousal: −1 … 1, None for a model without them;
    detector: the name of the one that drew the box, None for a box of the caller and for a whole photograph.
    """

    box: Box
    expression: str | None
    probabilities: dict[str, float]
    valence: float | None
    arousal: float | None
    detector: str | None = None


class Predictor:
    """A model file, ready for photographs: faces are cropped and preprocessed like the model's training faces."""

    def __init__(self, engine: Engine, detector: Detector, averaging: Averaging = "flip") -> None:
        self.engine, self.detector, self.averaging = engine, detector, averaging
        self.metadata = engine.metadata
        self.policy = CropPolicy.model_validate(engine.metadata.crop)
        if self.policy.resampling == "area" or self.policy.align:
            opencv(f"{engine.name}: its crops")  # here, not at each photograph

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        device: object = "auto",
        detector: Detector | str | Path | None = None,
        averaging: Averaging = "flip",
        description: str | None = None,
    ) -> "Predictor":
        """model: an ONNX or safetensors file of this pipeline; None or `default` is the shipped model; device: `auto` is a GPU where there

        is one, else `cpu`, `cuda` or `cuda:1`; detector: a name or model file, or one of your own, libfacedetection by default;
        averaging: the views of each face over which the outputs are averaged; description: for an ONNX file of other authors, a name or
        file, see docs/answers.md. Errors: UserError when the file is not a model of this pipeline or as described, or the device or
        the detector is missing.
        """
        if averaging not in get_args(Averaging):
            raise UserError(f"averaging: {brief(averaging)} is unknown; choose one of {', '.join(get_args(Averaging))}")
        if detector is None or isinstance(detector, str | Path):
            detector = load_detector(detector)
        return cls(open_engine(model_file(model), str(device), description), detector, averaging)

    def predict(self, picture: Picture, faces: Where = "detect") -> list[Face]:
        """The faces of one photograph, the largest first, or in the order of the boxes. Errors: UserError when it is unreadable."""
        return self.predict_many([picture], [faces])[0]

    def predict_many(self, pictures: Sequence[Picture], faces: Sequence[Where] | Literal["detect", "whole"] = "detect") -> list[list[Face]]:
        """The faces of each photograph; the network sees all of them in batches. Errors: UserError as `predict`."""
        if isinstance(pictures, str | bytes | Path):
            raise UserError(f"pictures: one picture, {brief(pictures)}; give a list, or call predict")
        wheres: Sequence[Where] = [faces] * len(pictures) if isinstance(faces, str) else faces
        if len(wheres) != len(pictures):
            raise UserError(f"faces: for {len(wheres):,} of {len(pictures):,} photographs; give boxes, 'detect' or 'whole' for each")
        return self.predict_crops([self.crops(picture, where) for picture, where in zip(pictures, wheres, strict=True)])

    def predict_crops(self, photographs: Sequence[Crops]) -> list[list[Face]]:
        """The faces of each photograph by its crops. `crops` may run in threads, this in one."""
        crops = [crop.pixels for faces in photographs for crop in faces]
        predictions = iter(self._predict(np.stack(crops)) if crops else [])
        return [[Face(crop.box, *next(predictions), crop.detector) for crop in faces] for faces in photographs]

    def crops(self, picture: Picture, faces: Where = "detect", landmarks: Sequence[Points | None] | None = None) -> Crops:
        """The box of each face, and its crop as the network sees it.

        A detected box is first mapped to the one that annotators would have drawn, where the model has the detector's map.
        landmarks: (68, 2) px per box; used by a model whose training crops were aligned by them.
        """
        content, name = file_content(picture)
        photograph = open_photograph(content, name)
        boxes = self._boxes(photograph, faces)
        detector = self.detector.name if isinstance(faces, str) and faces == "detect" else None
        box_map = self.metadata.box_maps.get(detector or "")
        regions = [box_map.mapped(box) if box and box_map else box for box in boxes]
        points = landmarks if landmarks is not None else [None] * len(boxes)
        contents = (
            crop_face(content, region, landmark, self.policy, name).content for region, landmark in zip(regions, points, strict=True)
        )
        faces_px = (decode_face(crop, self.metadata.image_px) for crop in contents)
        width, height = map(float, photograph.dimensions)
        return [FaceCrop(box or (0.0, 0.0, width, height), pixels, detector) for box, pixels in zip(boxes, faces_px, strict=True)]

    def _boxes(self, photograph: Photograph, faces: Where) -> Sequence[Box | None]:
        if not isinstance(faces, str):
            return [_checked(box, photograph.dimensions, photograph.name) for box in _edges(faces)]
        if faces == "detect":
            return detect(photograph, self.detector)
        if faces == "whole":
            return [None]
        raise UserError(f"faces: {brief(faces)}; {FACES_HELP}")

    def outputs(self, crops: NDArray[np.uint8], batch: int = BATCH) -> Outputs:
        """The network's outputs for (n, image_px, image_px, 3) uint8 crops, in batches of `batch`."""
        return self.engine.outputs(crops, self.averaging, batch)

    def _predict(self, crops: NDArray[np.uint8]) -> list[tuple[str | None, dict[str, float], float | None, float | None]]:
        metadata = self.metadata
        outputs = self.outputs(crops).require_finite(self.engine.name)
        rows = probabilities(outputs.logits, metadata.temperature).tolist()
        affect = outputs.affect.tolist() if metadata.affect else [(None, None)] * len(crops)
        return [
            (
                metadata.labels[row.index(max(row))] if metadata.labels else None,
                dict(zip(metadata.labels, row, strict=True)),
                *dimensions,
            )
            for row, dimensions in zip(rows, affect, strict=True)
        ]


def _edges(boxes: Sequence[Box] | NDArray[Any]) -> list[Box]:
    """The boxes as numbers. Errors: UserError when they are not lists of four numbers."""
    try:
        edges = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):  # text, or boxes of different lengths
        raise UserError(f"faces: {brief(boxes)}; {FACES_HELP}") from None
    if edges.shape != (0,) and edges.shape[1:] != (4,):
        raise UserError(f"faces: numbers of shape {edges.shape}; {FACES_HELP}")
    return [(left, top, right, bottom) for left, top, right, bottom in edges.tolist()]


def _checked(box: Box, dimensions: tuple[int, int], name: str) -> Box:
    left, top, right, bottom = box
    if not (left < right and top < bottom and left < dimensions[0] and top < dimensions[1] and right > 0 and bottom > 0):
        raise UserError(
            f"{name}: box {tuple(box)} does not overlap the {dimensions[0]} × {dimensions[1]} px photograph; give left, top, right, bottom"
        )
    return box
