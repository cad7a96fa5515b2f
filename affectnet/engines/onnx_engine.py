"""An ONNX model file in ONNX Runtime, which a small installation has in place of torch."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from affectnet.errors import UserError, brief, first_line, reraise_machine_fault
from affectnet.models.metadata import METADATA_KEY, WEIGHTS_KEY, ModelMetadata, read_metadata
from affectnet.models.outputs import BATCH, CROP_SHARE, Averaging, Outputs
from affectnet.running.parallel import cores

Crops = NDArray[np.uint8]

CROPS, PROBABILITIES, AFFECT = "crops", "probabilities", "valence_arousal"
"""The file's input and outputs, see onnx_export.py."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

LEAST_PROBABILITY = np.finfo(np.float32).tiny
"""Smaller ones are 0 in float32, whose logarithm is infinite."""

FATAL_ONLY = 4
"""ONNX Runtime's severity for its log: a broken file is one line of ours, without its own."""


class OnnxEngine:
    """See affectnet.engines.engine.Engine."""

    def __init__(self, model: Path, device: str = "auto") -> None:
        """Errors: UserError when the file is not a model of this pipeline, or ONNX Runtime does not see the device."""
        self.name = str(model)
        self.session, self.device = open_session(_content(model), device, self.name)
        self.metadata = _metadata(model, self.session)
        self.weights = _weights(model, self.session)

    def outputs(self, crops: Crops, averaging: Averaging = "none", batch: int = BATCH) -> Outputs:
        """See Engine. Logits are those of the probabilities: the temperature times their logarithm."""
        parts = [self._mean(crops[first : first + batch], averaging) for first in range(0, len(crops), batch)]
        return Outputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _mean(self, crops: Crops, averaging: Averaging) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (n, k), and valence and arousal (n, 2) or (n, 0), averaged over the views."""
        views = [self._outputs(np.ascontiguousarray(view)) for view in VIEWS[averaging](crops)]
        logits, affect = (np.asarray(np.mean(arrays, axis=0), np.float32) for arrays in zip(*views, strict=True))
        return logits, affect

    def _outputs(self, crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        outputs = run_session(self.session, crops)
        empty = np.empty((len(crops), 0), np.float32)
        probabilities = outputs.get(PROBABILITIES, empty)
        logits = np.float32(self.metadata.temperature) * np.log(np.maximum(probabilities, LEAST_PROBABILITY))
        return logits, outputs.get(AFFECT, empty)


def open_session(content: bytes, device: str = "cpu", name: str = "model") -> tuple[Any, str]:
    """The file's content in ONNX Runtime, and the device it runs on.

    Its nodes run in sequence, on one thread per core, so that each run gives the same values. Files that the content refers to are
    not read. name: in messages. Errors: UserError when the content is not ONNX, or ONNX Runtime does not see the device.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = cores(), 1
    options.use_deterministic_compute = True
    options.log_severity_level = FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads would take the readers' processors
    providers = _providers(device)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers, enable_fallback=0)  # a fallback prints on stdout
    except Exception as error:  # ONNX Runtime has a class of error per reason
        reraise_machine_fault(error, name)
        raise UserError(f"{name}: not a readable ONNX file: {first_line(error)}") from None
    if session.get_providers()[0] == CUDA:
        return session, device if device.startswith("cuda:") else "cuda:0"
    if device not in {"auto", "cpu"}:
        raise UserError(f"device: {brief(device)}: ONNX Runtime cannot use the GPU; see that its CUDA libraries are installed, or use cpu")
    return session, "cpu"


def session(model: bytes | Path) -> Callable[[Crops], dict[str, NDArray[np.float32]]]:
    """The file, or its content, on the CPU: (n, h, w, 3) uint8 RGB of any h and w → its outputs by name."""
    content = model if isinstance(model, bytes) else _content(model)
    return partial(run_session, open_session(content)[0])


def run_session(session: Any, crops: Crops) -> dict[str, NDArray[np.float32]]:
    """(n, h, w, 3) uint8 RGB → the file's outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {CROPS: crops}), strict=True))


def _providers(device: str) -> list[Any]:
    """The execution providers to try, in order. Errors: UserError, which lists the devices, when none is the device."""
    cuda = CUDA in onnxruntime.get_available_providers()
    kind, _, number = device.partition(":")
    if device in {"auto", "cpu"} or (cuda and kind == "cuda" and (number or "0").isdecimal()):
        on_cuda = [(CUDA, {"device_id": number or "0"})] if cuda and device != "cpu" else []
        return [*on_cuda, CPU]
    available = "cpu, cuda" if cuda else "cpu; install onnxruntime-gpu for cuda"
    raise UserError(f"device: no device {brief(device)} here; ONNX Runtime sees {available}; use one of these, or auto")


def _content(model: Path) -> bytes:
    try:
        return model.read_bytes()
    except OSError as error:
        reraise_machine_fault(error, model)
        raise UserError(f"{model}: {error.strerror}; give the path of a model file") from None


def _metadata(model: Path, session: Any) -> ModelMetadata:
    """The file's metadata. Errors: UserError when its inputs and outputs are not those that the metadata says."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise UserError(
            f"{model}: not a model of this pipeline; for a file of others say what it expects, by --as NAME|FILE of predict or evaluate"
        )
    metadata = read_metadata(model, text)
    inputs = [(each.name, each.type, len(each.shape)) for each in session.get_inputs()]
    outputs = {each.name: each.shape[1:] for each in session.get_outputs()}
    expected = {PROBABILITIES: [len(metadata.labels)]} if metadata.labels else {}
    expected |= {AFFECT: [2]} if metadata.affect else {}
    if inputs != [(CROPS, "tensor(uint8)", 4)] or outputs != expected:
        raise UserError(f"{model}: its inputs and outputs, {inputs} and {outputs}, are not those of its metadata; export the model again")
    return metadata


def _weights(model: Path, session: Any) -> int:
    text = session.get_modelmeta().custom_metadata_map.get(WEIGHTS_KEY, "")
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"{model}: no number of weights in its metadata; export the model again")
    return int(text)


def _as_is(crops: Crops) -> Iterator[Crops]:
    yield crops


def _flip(crops: Crops) -> Iterator[Crops]:
    yield from (crops, crops[:, :, ::-1])


def _ten_crop(crops: Crops) -> Iterator[Crops]:
    """Four corners and the centre, each CROP_SHARE of a side, and their mirror images; the file resizes them to the network's input."""
    height, width = crops.shape[1:3]
    high, wide = round(CROP_SHARE * height), round(CROP_SHARE * width)
    bottom, right = height - high, width - wide
    for top, left in ((0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))):
        yield from _flip(crops[:, top : top + high, left : left + wide])


VIEWS: Final[dict[Averaging, Callable[[Crops], Iterator[Crops]]]] = {"none": _as_is, "flip": _flip, "ten_crop": _ten_crop}
