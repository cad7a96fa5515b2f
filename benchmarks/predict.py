"""Prediction on the CPU, by torch and by ONNX Runtime: one face (latency) and a batch of 64 (throughput).

Both get the same uint8 crops at the network's input size and give calibrated probabilities; weights are random, because speed does not
depend on them. The third candidate is all of `Predictor.predict` for one drawn photograph of 350 px, with reading and face detection.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affectnet.engines.engine import open_engine
from affectnet.engines.onnx_engine import session
from affectnet.engines.onnx_export import export_network
from affectnet.engines.torch_engine import TorchEngine
from affectnet.expressions import EXPRESSIONS
from affectnet.images.detection import load_detector
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.network import build
from affectnet.params import read_document
from affectnet.predict.defaults import model_file
from affectnet.predict.predictor import FaceCrop, Predictor
from benchmarks.images import write_photographs
from benchmarks.timing import Row, Scale, medians

FACES = (1, 64)
ROUNDS: dict[Scale, int] = {"smallest": 1, "small": 11, "full": 21}


def rows(folder: Path, scale: Scale) -> Iterator[Row]:
    (photograph,) = write_photographs(folder / "photographs", 350, 1)
    for name in ("vgg16_small", "vgg16") if scale == "full" else ("vgg16_small",):
        yield from _rows_of(name, photograph, scale)


def _rows_of(name: str, photograph: Path, scale: Scale) -> Iterator[Row]:
    document: dict[str, Any] = read_document()
    model = ModelParams.model_validate({**document["models"][name], "weights": "none"})
    metadata = replace(open_engine(model_file(None)).metadata, model=model.network, labels=EXPRESSIONS, image_px=model.image_px)
    network = build(model, len(EXPRESSIONS)).eval()
    predictor = Predictor(TorchEngine(network, metadata, torch.device("cpu")), load_detector())
    run_file = session(export_network(network, metadata))
    generator = np.random.default_rng(1)
    for count in FACES:
        crops = generator.integers(0, 256, (count, model.image_px, model.image_px, 3), dtype=np.uint8)
        whole = (0.0, 0.0, 1.0, 1.0)
        cases = {
            "torch": partial(predictor.predict_crops, [[FaceCrop(whole, pixels) for pixels in crops]]),
            "ONNX Runtime": partial(run_file, crops),
        }
        if count == 1:
            cases["from file to prediction by torch"] = partial(predictor.predict, photograph)
        repeats = 1 if scale == "smallest" else max(1, 16 // count)
        taken = medians({case: partial(_repeated, work, repeats) for case, work in cases.items()}, ROUNDS[scale])
        rates = {case: count * repeats / seconds for case, seconds in taken.items()}
        yield Row(f"predict, {name}, batch of {count}", "faces/s", rates)


def _repeated(work: Any, times: int) -> None:
    for _ in range(times):
        work()
