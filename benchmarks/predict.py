"""Answers on the processor, by torch and by ONNX Runtime: one face (latency) and 64 faces at once (throughput).

Both get the same uint8 crops at the network's input and give calibrated probabilities; weights are drawn, since speed does not depend
on them. The third candidate is the whole of `Predictor.predict` for one drawn photograph of 350 px: file to answer, Haar's search included.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affectnet.detection import haar
from affectnet.expressions import EXPRESSIONS
from affectnet.modelfile import FORMAT, Card
from affectnet.network import ModelParams, build
from affectnet.onnxfile import export_network, session
from affectnet.params import parse, read_document
from affectnet.predictor import Predictor
from affectnet.preprocessing import MEAN, STD
from benchmarks.images import write_photographs
from benchmarks.timing import Row, medians
from stages.crop import CropParams

FACES = (1, 64)


def rows(folder: Path, full: bool) -> list[Row]:
    (photograph,) = write_photographs(folder / "photographs", 350, 1)
    names = ("vgg16_small", "vgg16") if full else ("vgg16_small",)
    return [row for name in names for row in _of_model(name, photograph, 21 if full else 11)]


def _of_model(name: str, photograph: Path, rounds: int) -> list[Row]:
    document: dict[str, Any] = read_document()
    params = {**document["models"][name], "weights": "none"}
    model = ModelParams.model_validate(params)
    crop = parse(document, "crop", CropParams).policy.model_dump()
    told: dict[str, Any] = {"data": "", "training": {}, "versions": {}, "format": FORMAT, "mean": MEAN, "std": STD, "crop": crop}
    card = Card(model=params, labels=EXPRESSIONS, affect=False, temperature=1.0, image_px=model.image_px, **told)
    network = build(model, len(EXPRESSIONS)).eval()
    predictor = Predictor(network, card, torch.device("cpu"), haar())
    ask, generator = session(export_network(network, card)), np.random.default_rng(1)
    found = []
    for count in FACES:
        crops = generator.integers(0, 256, (count, model.image_px, model.image_px, 3), dtype=np.uint8)
        whole = (0.0, 0.0, 1.0, 1.0)
        cases = {
            "torch": partial(predictor.answer, [[(whole, pixels) for pixels in crops]]),
            "ONNX Runtime": partial(ask, crops),
        }
        if count == 1:
            cases["file to answer, by torch"] = partial(predictor.predict, photograph)
        repeats = max(1, 16 // count)
        taken = medians({case: partial(_repeated, work, repeats) for case, work in cases.items()}, rounds)
        rates = {case: count * repeats / seconds for case, seconds in taken.items()}
        found.append(Row(f"answers, {name}, {count} face{'s' * (count > 1)} at once", "faces/s", rates))
    return found


def _repeated(work: Any, times: int) -> None:
    for _ in range(times):
        work()
