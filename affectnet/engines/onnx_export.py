"""The model as an ONNX file: preprocessing, network and calibration in one graph, label names and all else in its metadata.

Input `crops`: (n, h, w, 3) uint8 RGB of any n, h and w. Outputs: `probabilities` (n, k) float32 in the order of `labels`, and
`valence_arousal` (n, 2) float32 in −1 … 1, each where the model has them.
"""

import io
import json
import logging
import warnings
from collections.abc import Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper, parser
from torch import nn

from affectnet.errors import UserError, one_line
from affectnet.models.metadata import METADATA_KEY, WEIGHTS_KEY, ModelMetadata, metadata_text
from affectnet.models.network import weight_count

OPSET = 18
"""The first whose Resize averages over areas as Pillow's does."""

IR_VERSION = 10

LEAST_HALVED = 256
"""Elements of an array that is stored as float16; the constants of the preprocessing have fewer."""

PREPROCESS = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
preprocess (uint8[n, h, w, 3] crops) => (float[n, 3, {px}, {px}] pixels)
{{
    channels = Transpose <perm = [0, 3, 1, 2]> (crops)
    outer = Shape <start = 0, end = 2> (channels)
    side = Constant <value_ints = [{px}, {px}]> ()
    shape = Concat <axis = 0> (outer, side)
    resized = Resize <mode = "cubic", antialias = 1, cubic_coeff_a = -0.5, exclude_outside = 1> (channels, , , shape)
    levels = Cast <to = 1> (resized)
    centred = Sub (levels, mean)
    pixels = Div (centred, std)
}}
"""
"""The bicubic, antialiased resizing of Pillow, and the normalisation of affectnet/models/transforms.py, in units of 0–255."""

Pixels = NDArray[np.float32]


def export_network(network: nn.Module, metadata: ModelMetadata, pixels: Sequence[Pixels] = (), half: bool = False) -> bytes:
    """The file's content, the same for the same network, metadata and pixels.

    half: weights are stored as float16 and computed with as float32, which halves the file; pixels: batches (n, 3, px, px) float32
    of normalised training crops; with any, weights and activations become int8, with the ranges of these batches.
    Errors: UserError when torch cannot export the architecture.
    """
    # Optimised, batch normalisation is folded into the weights, which float16 would then round a second time.
    core = _core(network, metadata, optimize=not half)
    if pixels:
        core = _quantised(core, pixels)
    if half:
        _halve_weights(core.graph)
    core = compose.add_prefix(core, "network/")
    whole = compose.merge_models(_preprocess(metadata), core, io_map=[("pixels", "network/input")])
    whole = compose.merge_models(whole, _postprocess(metadata), io_map=[("network/raw", "outputs")])
    for node in whole.graph.node:
        node.ClearField("metadata_props")  # torch writes paths of this machine there
        node.ClearField("doc_string")
    whole.graph.ClearField("metadata_props")
    whole.graph.ClearField("value_info")
    whole.producer_name, whole.producer_version, whole.doc_string = "affectnet-pipeline", "", " ".join((__doc__ or "").split())
    helper.set_model_props(
        whole,
        {
            METADATA_KEY: metadata_text(metadata),
            "labels": json.dumps(metadata.labels),
            WEIGHTS_KEY: str(weight_count(network)),
        },
    )
    onnx.checker.check_model(whole, full_check=True)
    content: bytes = whole.SerializeToString(deterministic=True)
    return content


def _core(network: nn.Module, metadata: ModelMetadata, optimize: bool) -> onnx.ModelProto:
    """Only the network: `pixels` (n, 3, px, px) → `raw` (n, outputs)."""
    example = torch.zeros(2, 3, metadata.image_px, metadata.image_px)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                optimize=optimize,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["raw"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many classes, each with a long report
        reason = one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        raise UserError(f"model: torch cannot export {metadata.model['architecture']} to ONNX: {reason}") from None
    assert program is not None
    exported: onnx.ModelProto = program.model_proto
    exported.ir_version = IR_VERSION
    return exported


@contextmanager
def _quiet() -> Any:
    """Silences the exporter, which reports on stdout, by warnings and by logging."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _preprocess(metadata: ModelMetadata) -> onnx.ModelProto:
    model = parser.parse_model(PREPROCESS.format(ir=IR_VERSION, opset=OPSET, px=metadata.image_px))
    for name, values in (("mean", metadata.mean), ("std", metadata.std)):
        constant = np.asarray(values, np.float32).reshape(1, 3, 1, 1) * np.float32(255)
        model.graph.initializer.append(numpy_helper.from_array(constant, name))
    return model


def _postprocess(metadata: ModelMetadata) -> onnx.ModelProto:
    """(n, outputs) of the network → calibrated probabilities, and valence and arousal clipped to −1 … 1."""
    classes, nodes, outputs = len(metadata.labels), [], []
    constants: dict[str, Any] = {
        "temperature": np.float32(metadata.temperature),
        "first": np.array([0]),
        "after": np.array([classes]),
        "axis": np.array([1]),
    }
    constants |= {"end": np.array([metadata.outputs]), "least": np.float32(-1), "most": np.float32(1)}
    if classes:
        nodes += [
            helper.make_node("Slice", ["outputs", "first", "after", "axis"], ["logits"]),
            helper.make_node("Div", ["logits", "temperature"], ["calibrated"]),
            helper.make_node("Softmax", ["calibrated"], ["probabilities"], axis=1),
        ]
        outputs.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes]))
    if metadata.affect:
        nodes += [
            helper.make_node("Slice", ["outputs", "after", "end", "axis"], ["affect"]),
            helper.make_node("Clip", ["affect", "least", "most"], ["valence_arousal"]),
        ]
        outputs.append(helper.make_tensor_value_info("valence_arousal", TensorProto.FLOAT, ["n", 2]))
    used = {name for node in nodes for name in node.input}
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used]
    inputs = [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["n", metadata.outputs])]
    graph = helper.make_graph(nodes, "answers", inputs, outputs, initial)
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])


def _halve_weights(graph: onnx.GraphProto) -> None:
    """Stores weights of float32 as float16, each followed by a cast back, which ONNX Runtime computes once, when it opens the file."""
    for index, stored in enumerate(graph.initializer):
        weights = numpy_helper.to_array(stored)
        if weights.dtype == np.float32 and weights.ndim > 1 and weights.size >= LEAST_HALVED:
            name = f"{stored.name}/float16"
            cast = helper.make_node("Cast", [name], [stored.name], to=TensorProto.FLOAT)
            graph.initializer[index].CopyFrom(numpy_helper.from_array(weights.astype(np.float16), name))
            graph.node.insert(0, cast)


def _quantised(core: onnx.ModelProto, pixels: Sequence[Pixels]) -> onnx.ModelProto:
    """The network with int8 weights, one scale per channel, and uint8 activations in the ranges of these batches."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static  # noqa: PLC0415 (rarely used)
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(pixels)

        def get_next(self) -> dict[str, Pixels] | None:
            return next(({"input": batch} for batch in self.left), None)

    with TemporaryDirectory() as folder, _quiet():
        paths = [str(Path(folder) / name) for name in ("network.onnx", "prepared.onnx", "int8.onnx")]
        onnx.save(core, paths[0])
        quant_pre_process(paths[0], paths[1])
        quantize_static(
            *paths[1:],
            Batches(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(paths[2])
