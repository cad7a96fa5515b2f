"""An ONNX file of other authors in ONNX Runtime, by its description: their labels, input and outputs, our crops and scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from affectnet.engines.description import DIMENSIONS, Description
from affectnet.engines.onnx_engine import LEAST_PROBABILITY, VIEWS, open_session
from affectnet.errors import UserError, first_line, reraise_machine_fault
from affectnet.expressions import EXPRESSIONS
from affectnet.models.metadata import ModelMetadata
from affectnet.models.outputs import BATCH, Averaging, Outputs

Values = NDArray[np.float32]

LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""Grey of red, green and blue: ITU-R BT.601, as Pillow's and OpenCV's."""

INPUT_TYPES: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}

TOLERANCE = 0.01
"""By how much probabilities may fail to sum to 1."""

SUM_TOLERANCE = 1e-3
"""By how much the values of a softmax do, in 16 bits, too."""


class ForeignOnnxEngine:
    """See affectnet.engines.engine.Engine."""

    def __init__(self, model: Path, description: Description, device: str = "auto") -> None:
        """Errors: UserError when the file is unreadable, or its inputs and outputs are not those of the description."""
        self.name, self.description, self.weights = str(model), description, 0
        try:
            content = model.read_bytes()
        except OSError as error:
            reraise_machine_fault(error, model)
            raise UserError(f"{model}: {error.strerror}; give the path of an ONNX file") from None
        self.session, self.device = open_session(content, device, self.name)
        self._input, self._type, self._batch = self._checked_input()
        self.metadata = _metadata(description)
        self._columns = _columns(description, self.metadata.labels)
        self._refuse_other_values()

    def outputs(self, crops: NDArray[np.uint8], averaging: Averaging = "none", batch: int = BATCH) -> Outputs:
        """See Engine. Logits of probabilities are their logarithm."""
        parts = [self._mean(crops[first : first + batch], averaging) for first in range(0, len(crops), batch)]
        return Outputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _mean(self, crops: NDArray[np.uint8], averaging: Averaging) -> tuple[Values, Values]:
        """Logits (n, k), and valence and arousal (n, 2) or (n, 0), averaged over the views."""
        side = self.description.image_px
        views = [self._split(self._values(_resized(view, side))) for view in VIEWS[averaging](crops)]
        logits, affect = (np.asarray(np.mean(arrays, axis=0), np.float32) for arrays in zip(*views, strict=True))
        return logits, affect

    def _split(self, values: Values) -> tuple[Values, Values]:
        logits = values[:, self._columns]
        if self.description.values == "probabilities" and self._columns:
            beyond = (logits < -TOLERANCE).any() or (logits.sum(1) > 1 + TOLERANCE).any()
            if beyond:
                raise UserError(f"{self.name}: values below 0, or that sum to more than 1, are no probabilities; try `values: logits`")
            logits = np.log(np.maximum(logits, LEAST_PROBABILITY))
        dimensions = _columns(self.description, DIMENSIONS) if self.metadata.affect else []
        return logits, np.clip(values[:, dimensions], -1, 1)

    def _refuse_other_values(self) -> None:
        """Errors: UserError when a black and a noisy picture do not run, or logits are probabilities, which would get a second softmax."""
        side, labels = self.description.image_px, self.description.labels
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        values = self._values(np.stack([np.zeros_like(noise), noise]))
        scores = values[:, [at for at, label in enumerate(labels) if label not in DIMENSIONS]]  # a softmax includes what null leaves out
        for shares in (scores, values[:, self._columns]):
            within = shares.shape[1] > 1 and bool(((shares >= 0) & (shares <= 1)).all())
            if self.description.values == "logits" and within and (np.abs(shares.sum(1) - 1) <= SUM_TOLERANCE).all():
                raise UserError(f"{self.name}: values from 0 to 1 that sum to 1 are no logits; try `values: probabilities`")

    def _values(self, crops: NDArray[np.uint8]) -> Values:
        """(n, side, side, 3) uint8 RGB → (n, labels) float32, the outputs one after the other."""
        tensor = self._tensor(crops)
        step = self._batch or len(crops)
        parts = [self._run(tensor[first : first + step]) for first in range(0, len(crops), step)]
        return np.concatenate(parts)

    def _run(self, tensor: NDArray[Any]) -> Values:
        faces = len(tensor)
        if self._batch and faces < self._batch:  # a file with a fixed batch
            tensor = np.concatenate([tensor, np.zeros((self._batch - faces, *tensor.shape[1:]), tensor.dtype)])
        names = self.description.outputs or [output.name for output in self.session.get_outputs()]
        try:
            outputs = self.session.run(names, {self._input: tensor})
        except Exception as error:  # ONNX Runtime has a class of error per reason
            reraise_machine_fault(error, self.name)
            raise UserError(f"{self.name}: does not run on its description: {first_line(error)}") from None
        flat = [np.asarray(output, np.float32).reshape(len(tensor), -1) for output in outputs]
        values = np.concatenate(flat, 1)[:faces]
        if values.shape[1] != len(self.description.labels):
            widths = ", ".join(f"{name} {array.shape[1]}" for name, array in zip(names, flat, strict=True))
            raise UserError(
                f"{self.name}: {values.shape[1]} values per face ({widths}), the description has {len(self.description.labels)} labels"
            )
        return values

    def _tensor(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        """The input as the description has it."""
        described = self.description
        pixels = crops.astype(np.float32)
        if described.channels == "grey":
            pixels = (pixels @ LUMA)[..., None]
        if described.channels == "bgr":
            pixels = pixels[..., ::-1]
        mean, std = (np.asarray(values, np.float32) for values in (described.mean, described.std))
        scaled = (pixels * np.float32(described.highest / 255) - mean) / std
        tensor = scaled.transpose(0, 3, 1, 2) if described.layout == "nchw" else scaled
        return np.ascontiguousarray(np.rint(tensor) if self._type is np.uint8 else tensor, self._type)

    def _checked_input(self) -> tuple[str, Any, int]:
        """Name, type and fixed batch (0: any) of the only input. Errors: UserError when it is not as described."""
        inputs = self.session.get_inputs()
        shown = ", ".join(f"{each.name} {each.shape} {each.type}" for each in inputs)
        if len(inputs) != 1 or inputs[0].type not in INPUT_TYPES or len(inputs[0].shape) != 4:
            raise UserError(f"{self.name}: its inputs are {shown}; a single one of images is expected")
        described = self.description
        side, depth = described.image_px, described.depth
        expected = [depth, side, side] if described.layout == "nchw" else [side, side, depth]
        batch, *shape = inputs[0].shape
        if any(isinstance(length, int) and length > 0 and length != want for length, want in zip(shape, expected, strict=True)):
            raise UserError(
                f"{self.name}: its input is {shown}; the description says {described.layout} of {expected}: layout, image_px or channels"
            )
        scaled = described.highest != 255 or any(described.mean) or any(value != 1 for value in described.std)
        if scaled and INPUT_TYPES[inputs[0].type] is np.uint8:
            raise UserError(f"{self.name}: its input is of whole numbers, {shown}; describe it by highest: 255, mean: 0 and std: 1")
        return inputs[0].name, INPUT_TYPES[inputs[0].type], batch if isinstance(batch, int) and batch > 0 else 0


def _metadata(description: Description) -> ModelMetadata:
    """As of a model file of ours, as far as the predictor asks."""
    return ModelMetadata(
        model={"architecture": "other"},
        labels=tuple(name for name in EXPRESSIONS if name in description.expressions),
        affect=description.affect,
        temperature=1.0,
        image_px=description.image_px,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        grey=description.channels == "grey",
        crop=description.crop.model_dump(),
        data="",
        training={},
        versions={},
        about={"source": description.source},
    )


def _columns(description: Description, names: Sequence[str]) -> list[int]:
    """Where the file's outputs have these."""
    positions: dict[str | None, int] = {name: position for position, name in enumerate(description.labels)}
    return [positions[name] for name in names]


def _resized(crops: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Views that are smaller than the input, as parts of a face are, in the input's size."""
    if crops.shape[1:3] == (side, side):
        return crops
    from affectnet.images.resize import resized  # noqa: PLC0415 (only for parts)

    return np.stack([resized(np.ascontiguousarray(crop), side, side) for crop in crops])
