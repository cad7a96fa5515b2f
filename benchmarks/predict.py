"""Prediction on the CPU: the command, a photograph by parts, and the network in ONNX Runtime and torch.

A photograph is drawn, 350 px, with one face. `ours` is the shipped model as `affectnet predict` runs it; the way before it, torch and
OpenCV's Haar cascade, runs in the same rounds. The networks of params.yaml have random weights, because speed does not depend on them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from affectnet.engines.engine import open_engine
from affectnet.engines.onnx_engine import session
from affectnet.engines.onnx_export import export_network
from affectnet.engines.torch_engine import TorchEngine
from affectnet.expressions import EXPRESSIONS
from affectnet.images.decode import open_photograph
from affectnet.images.detection import detect, load_detector
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.network import build
from affectnet.params import read_document
from affectnet.predict.defaults import model_file
from affectnet.predict.predictor import FaceCrop, Predictor
from benchmarks.images import write_photographs
from benchmarks.timing import ROOT, Row, Scale, every, medians, run_process

FACES = (1, 64)
ROUNDS: dict[Scale, int] = {"smallest": 1, "small": 11, "full": 21}
PHOTOGRAPHS: dict[Scale, int] = {"smallest": 2, "small": 32, "full": 64}
MOST_SECONDS = 1.0
WEIGHTS = ROOT / "pretrained" / "fer2013.safetensors"


def rows(folder: Path, scale: Scale) -> Iterator[Row]:
    photographs = write_photographs(folder / "photographs", 350, PHOTOGRAPHS[scale])
    yield _command(photographs[0], scale)
    yield from _photograph(photographs, scale)
    for name in ("vgg16_small", "vgg16") if scale == "full" else ("vgg16_small",):
        yield from _network(name, scale)


def _command(photograph: Path, scale: Scale) -> Row:
    command = ["-m", "affectnet", "predict", str(photograph)]
    taken = [run_process(command, photograph.parent).seconds for _ in range(2 if scale == "smallest" else 6)]
    return Row("affectnet predict PHOTOGRAPH, start included", "s", {"ours": median(taken[1:]), "limit": MOST_SECONDS}, 1.0)


def _photograph(photographs: list[Path], scale: Scale) -> Iterator[Row]:
    """On one core: all of it, from file to result, compared with the way before; and its parts."""
    torch.set_num_threads(1)
    predictor = Predictor.load()
    before = Predictor(TorchEngine.load(WEIGHTS), load_detector("haar"))
    rounds = 1 if scale == "smallest" else 5
    cases: dict[str, Callable[[], object]] = {
        "ours": partial(_predict, predictor, photographs),
        "torch and Haar": partial(_predict, before, photographs),
    }
    taken = medians(cases, rounds)
    yield Row("predict, file to result", "images/s", {name: len(photographs) / seconds for name, seconds in taken.items()}, 3.0)
    whole = 1000 * taken["ours"] / len(photographs)
    for part, seconds in _parts(predictor, photographs, rounds).items():
        yield Row(f"of it, {part}", "ms", {"ours": 1000 * seconds / len(photographs), "all of it": whole})


def _predict(predictor: Predictor, photographs: list[Path]) -> None:
    predictor.predict_crops([predictor.crops(path) for path in photographs])


def _parts(predictor: Predictor, photographs: list[Path], rounds: int) -> Mapping[str, float]:
    """Seconds of each part for all photographs."""
    contents = [path.read_bytes() for path in photographs]
    opened = [open_photograph(content, "drawn") for content in contents]
    boxes = [detect(one, predictor.detector)[:1] or [(0.0, 0.0, 350.0, 350.0)] for one in opened]
    crops = np.stack([predictor.crops(content, box)[0].pixels for content, box in zip(contents, boxes, strict=True)])
    parts: dict[str, Callable[[], object]] = {
        "decode": lambda: [one.pixels() for one in opened],
        "decode and detect": lambda: [detect(one, predictor.detector) for one in opened],
        "crop": lambda: [predictor.crops(content, box) for content, box in zip(contents, boxes, strict=True)],
        "network": lambda: predictor.outputs(crops, 16),
    }
    return {name: median(values) for name, values in every(parts, rounds).items()}


def _network(name: str, scale: Scale) -> Iterator[Row]:
    """The same uint8 crops at the network's side, to calibrated probabilities."""
    document: dict[str, Any] = read_document()
    model = ModelParams.model_validate({**document["models"][name], "weights": "none"})
    shipped = open_engine(model_file(None)).metadata
    metadata = replace(shipped, model=model.network, labels=EXPRESSIONS, image_px=model.image_px)
    network = build(model, len(EXPRESSIONS)).eval()
    by_torch = Predictor(TorchEngine(network, metadata, torch.device("cpu")), load_detector("haar"))
    run_file = session(export_network(network, metadata))
    generator = np.random.default_rng(1)
    for count in FACES:
        crops = generator.integers(0, 256, (count, model.image_px, model.image_px, 3), dtype=np.uint8)
        whole = (0.0, 0.0, 1.0, 1.0)
        cases = {
            "ONNX Runtime": partial(run_file, crops),
            "torch": partial(by_torch.predict_crops, [[FaceCrop(whole, pixels) for pixels in crops]]),
        }
        repeats = 1 if scale == "smallest" else max(1, 16 // count)
        taken = medians({case: partial(_repeated, work, repeats) for case, work in cases.items()}, ROUNDS[scale])
        yield Row(f"predict, {name}, batch of {count}", "faces/s", {case: count * repeats / seconds for case, seconds in taken.items()})


def _repeated(work: Any, times: int) -> None:
    for _ in range(times):
        work()
