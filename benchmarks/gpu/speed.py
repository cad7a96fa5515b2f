"""Faces a second in training and inference, next to the peers and to what the chip's matrix units do."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from affectnet.engines.engine import open_engine
from affectnet.engines.onnx_engine import session
from affectnet.engines.onnx_export import export_network
from affectnet.expressions import EXPRESSIONS
from affectnet.models.dataset import FaceDataset
from affectnet.models.device import configure_torch, has_bfloat16
from affectnet.models.forward import predict
from affectnet.models.network import build
from affectnet.models.transforms import MEAN, STD
from affectnet.predict.defaults import model_file
from affectnet.running.parallel import cores
from affectnet.training.distributed import Group
from affectnet.training.trainer import Trainer
from benchmarks.gpu.drawn import draw_faces, jpegs, trainer_of, training_params
from benchmarks.timing import every
from benchmarks.training import (
    CLASSES,
    OURS,
    READY,
    Epoch,
    Setting,
    flops,
    image_folder,
    ours,
    peak,
    ready_steps,
    repeated,
    synchronised,
    write_folders,
)

Result = dict[str, Any]

AFFECTNET = 290_000
"""Faces of an epoch of AffectNet."""

DISTINCT = 512
"""Faces that are drawn; an epoch shows each several times."""


@dataclass(frozen=True)
class Case:
    """A training to time. steps: of `batch` faces an epoch; peers: whether ImageFolder and torch.compile are timed too."""

    model: str
    batch: int
    steps: int
    peers: bool


CASES = (Case("vgg16", 256, 20, peers=True), Case("vgg16_48", 256, 40, peers=True), Case("efficientnet_b2", 256, 12, peers=False))
SMALLEST = (replace(CASES[1], batch=8, steps=2),)
INFERENCE = ("vgg16", "vgg16_48")


def parts(*, smallest: bool) -> dict[str, Callable[[torch.device], Result]]:
    """The parts by name. smallest: of one small network, enough to see that all of it runs."""
    cases = SMALLEST if smallest else CASES
    with_peers = [case for case in cases if case.peers]

    def of(measure: Callable[..., Result], **arguments: Any) -> Callable[[torch.device], Result]:
        return partial(measure, smallest=smallest, **arguments)

    return {
        "matrix_product": of(_matrix_product),
        **{f"training_{case.model}": of(_training, case=case) for case in cases},
        **{f"image_folder_{case.model}": of(_image_folder, case=case) for case in with_peers},
        **{f"inference_{model}": of(_inference, model=model) for model in (INFERENCE[1:] if smallest else INFERENCE)},
        **{f"compiled_{case.model}": of(_compiled, case=case) for case in with_peers},
    }


def _setting(device: torch.device, case: Case, *, smallest: bool) -> Setting:
    precision = "bfloat16" if has_bfloat16(device) else "float32"
    params = training_params(case.model, train={"batch": case.batch, "precision": precision})
    return Setting(params, device, case.steps * case.batch, 1, 1 if smallest else 5, 256 if smallest else 8192, cores())


def _matrix_product(device: torch.device, *, smallest: bool) -> Result:
    return {"TFLOP/s": _peak(device, smallest=smallest)}


def _peak(device: torch.device, *, smallest: bool) -> float:
    return peak(_setting(device, SMALLEST[0], smallest=smallest)) / 1e12


def _training(device: torch.device, *, case: Case, smallest: bool) -> Result:
    """An epoch as the stage trains, and its steps on tensors that lie ready."""
    setting = _setting(device, case, smallest=smallest)
    _configure(device)
    rates = _rates(setting, ours(_trainer(setting)))
    of_face = flops(setting) / 1e12
    ceiling = _peak(device, smallest=smallest)
    return {
        **_described(setting),
        "faces/s": rates,
        "ours by ready": rates[OURS] / rates[READY],
        "minutes an epoch of 290,000": AFFECTNET / rates[OURS] / 60,
        "TFLOP a face": of_face,
        "TFLOP/s": of_face * rates[OURS],
        "share of the matrix product": of_face * rates[OURS] / ceiling,
    }


def _image_folder(device: torch.device, *, case: Case, smallest: bool) -> Result:
    """An epoch of torchvision's ImageFolder and transforms, with as many processes as cores."""
    setting = replace(_setting(device, case, smallest=smallest), epochs=1 if smallest else 2)
    with tempfile.TemporaryDirectory() as name:
        write_folders(Path(name, "images"), jpegs(_distinct(setting)), setting.faces)
        return {**_described(setting), "processes": setting.loaders, "faces/s": _rates(setting, image_folder(setting, Path(name)))}


def _compiled(device: torch.device, *, case: Case, smallest: bool) -> Result:
    """The steps on ready tensors with torch.compile, and how long the first two take, in which it compiles."""
    setting = _setting(device, case, smallest=smallest)
    trainer = _trainer(setting)
    steps = ready_steps(trainer)
    trainer.wrapped = torch.compile(trainer.network)
    began = time.perf_counter()
    synchronised(lambda: steps(2), device)()
    compiling = time.perf_counter() - began
    return {**_described(setting), "faces/s": _rates(setting, {READY: steps}), "seconds of the first two steps": compiling}


def _inference(device: torch.device, *, model: str, smallest: bool) -> Result:
    """Faces a second by torch on the device and by ONNX Runtime on the processor; and seconds of one face."""
    params = training_params(model, train={}).model
    metadata = replace(
        open_engine(model_file(None)).metadata, model=params.network, labels=EXPRESSIONS, image_px=params.image_px, grey=False
    )
    network = build(params, CLASSES).eval()
    count = 8 if smallest else 256
    faces = draw_faces(count, params.image_px).images
    ask = session(export_network(network, metadata))
    on_device = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    cases: Mapping[str, Callable[[], object]] = {
        f"torch, {device.type}": lambda: predict(on_device, faces, device, CLASSES, MEAN, STD),
        f"torch, {device.type}, one face": lambda: predict(on_device, faces[:1], device, CLASSES, MEAN, STD),
        "ONNX Runtime": lambda: ask(faces[: count // 4].numpy()),
        "ONNX Runtime, one face": lambda: ask(faces[:1].numpy()),
    }
    sizes = [count, 1, count // 4, 1]
    taken = every(cases, 1 if smallest else 7)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return {
        "model": model,
        "processor's cores": cores(),
        "faces/s": {name: faces / seconds for faces, (name, seconds) in zip(sizes, medians.items(), strict=True)},
        "ms of one face": {name: 1000 * seconds for name, seconds in medians.items() if name.endswith("one face")},
    }


def _distinct(setting: Setting) -> FaceDataset:
    return draw_faces(min(DISTINCT, setting.faces), setting.params.model.image_px)


def _trainer(setting: Setting) -> Trainer:
    return trainer_of(setting.params, Group(setting.device), repeated(_distinct(setting), setting.faces))


def _configure(device: torch.device) -> None:
    if device.type == "cuda":  # on the processor it would forbid what other parts of this process do
        configure_torch(device)


def _described(setting: Setting) -> Result:
    model, train = setting.params.model, setting.params
    return {"model": model.architecture, "px": model.image_px, "batch": train.batch, "precision": train.precision}


def _rates(setting: Setting, epochs: Mapping[str, Epoch]) -> dict[str, float]:
    """Faces a second of each, the median of the epochs."""
    taken = every({name: synchronised(epoch, setting.device) for name, epoch in epochs.items()}, setting.epochs)
    return {name: setting.faces / statistics.median(seconds) for name, seconds in taken.items()}
