"""A model file, opened for prediction by the engine for its kind: ONNX Runtime for ONNX, torch for safetensors."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.models.metadata import ModelMetadata
from affectnet.models.outputs import BATCH, Averaging, Outputs

Kind = Literal["onnx", "safetensors"]

HEADER = 9
"""Bytes that tell the kinds apart: safetensors begins with the length of its JSON, 8 bytes, and the JSON."""

PYTORCH = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""The first bytes of what torch.save writes: a ZIP archive, or in older files a pickle."""

IR_VERSION = b"\x08"
"""The first byte of an ONNX file: the field ir_version of its protobuf."""

MODEL_FILES = "give model.onnx, which `dvc repro export` writes, or model.safetensors"


class Engine(Protocol):
    """name: of the model file, in messages; device: where the network runs, such as `cpu` or `cuda:0`; weights: how many it has."""

    name: str
    metadata: ModelMetadata
    device: str
    weights: int

    def outputs(self, crops: NDArray[np.uint8], averaging: Averaging = "none", batch: int = BATCH) -> Outputs:
        """The network's outputs for (n, image_px, image_px, 3) uint8 RGB crops, in batches, averaged over the views of each crop."""
        ...


def open_engine(model: Path, device: str = "auto", description: str | None = None) -> Engine:
    """device: `auto` is a GPU where the engine sees one, else `cpu`, `cuda` or `cuda:1`; description: of an ONNX file of other authors.

    Errors: UserError when the file is missing or not a model of this pipeline, the device is missing, or torch is not installed and
    the file needs it.
    """
    if description is not None:
        from affectnet.engines.description import read_description  # noqa: PLC0415
        from affectnet.engines.foreign_onnx import ForeignOnnxEngine  # noqa: PLC0415

        return ForeignOnnxEngine(model, read_description(description), device)
    if file_kind(model) == "onnx":
        from affectnet.engines.onnx_engine import OnnxEngine  # noqa: PLC0415 (one of the two)

        return OnnxEngine(model, device)
    if find_spec("torch") is None:
        raise UserError(f"{model}: a safetensors file needs torch; pip install 'affectnet-pipeline[train]', or give its model.onnx")
    from affectnet.engines.torch_engine import TorchEngine  # noqa: PLC0415 (torch takes seconds)

    return TorchEngine.load(model, device)


def file_kind(model: Path) -> Kind:
    """By the file's first bytes; by its name where these are of neither kind.

    Errors: UserError when the file is missing, is PyTorch's, or has neither name.
    """
    try:
        with model.open("rb") as file:
            start = file.read(HEADER)
    except FileNotFoundError:
        raise UserError(f"{model}: missing; {MODEL_FILES}") from None
    except OSError as error:
        reraise_machine_fault(error, model)
        raise UserError(f"{model}: {error.strerror}; {MODEL_FILES}") from None
    if start.startswith(PYTORCH):
        raise UserError(f"{model}: a PyTorch file, which could run code when it is opened; {MODEL_FILES}")
    if start[8:] == b"{":
        return "safetensors"
    if start.startswith(IR_VERSION) or model.suffix == ".onnx":
        return "onnx"
    if model.suffix == ".safetensors":
        return "safetensors"
    raise UserError(f"{model}: neither an ONNX nor a safetensors file; {MODEL_FILES}")
