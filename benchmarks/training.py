"""An epoch of training against the same steps on tensors that lie ready, and against ImageFolder with two loader processes.

On the CPU the demo's default: vgg16_small at 64 px. On a GPU VGG16 at 224 px, batch 256, bfloat16. The peers read the same crops
as JPEG files, one folder a class, through torchvision.transforms.v2, with the same network, optimiser, batch and precision, as
their own documentation shows it: in a loop of one's own, and in Lightning's Trainer. Each candidate runs in processes of its own:
`python -m benchmarks.training CASE FOLDER SCALE`.
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from affectnet.models.dataset import FaceDataset, load_faces
from affectnet.models.device import configure_torch, select_device
from affectnet.models.network import build
from affectnet.models.transforms import MEAN, STD
from affectnet.params import parse, read_document
from affectnet.tables.face_shards import shard_paths
from affectnet.training.distributed import Group
from affectnet.training.losses.expression_loss import Classes
from affectnet.training.trainer import Trainer
from benchmarks.timing import ABSENT, ROOT, Row, Scale, every, installed, run_process
from stages.train import TrainParams

FACES = Path("data/faces")
CLASSES = 8
OURS, READY, FOLDER, LIGHTNING = "ours", "tensors that lie ready", "ImageFolder", "ImageFolder, Lightning"
Epoch = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """What is trained: params, device, how many faces an epoch shows, and how often: rounds of a process each, epochs in it."""

    params: TrainParams
    device: torch.device
    faces: int
    rounds: int
    epochs: int
    product: int
    """Side of the matrices whose product is the step's ceiling."""
    loaders: int = 2
    """Processes of ImageFolder."""


def rows(folder: Path, scale: Scale) -> Iterator[Row]:
    setting = _setting(scale)
    write_folders(folder / "images", _crops(), setting.faces)
    taken: dict[str, list[float]] = {}
    for _ in range(setting.rounds):
        for case in CASES:
            if case != "lightning" or installed("lightning"):
                run_process(["-m", "benchmarks.training", case, str(folder), scale], ROOT)
                for name, seconds in json.loads((folder / f"{case}.json").read_text()).items():
                    taken.setdefault(name, []).extend(seconds)
    rates = {name: setting.faces / statistics.median(taken[name]) for name in (OURS, READY, FOLDER, LIGHTNING) if name in taken}
    model, gpu = setting.params.model, setting.device.type == "cuda"
    what = f"epoch, {model.architecture}, {model.image_px} px, {setting.device.type}, {setting.params.precision}"
    of_face, ceiling = (statistics.median(taken[name]) / 1e12 for name in ("flops a face", "peak"))
    yield Row(what, "faces/s", {name: rates[name] for name in (OURS, READY)}, 0.95)
    yield Row(what, "faces/s", {name: rates.get(name, ABSENT) for name in (OURS, FOLDER, LIGHTNING)}, 3.0 if gpu else 2.2)
    yield Row(f"step, {setting.device.type}", "TFLOP/s", {"ours": rates[READY] * of_face, "matrix product": ceiling}, 0.5 if gpu else None)


def run_case(case: str, folder: Path, scale: Scale) -> None:
    """Epochs of one case in a process of its own, the first not counted; what each took to `<case>.json`."""
    setting = _setting(scale)
    epochs = CASES[case](setting, folder)
    taken = every({name: synchronised(epoch, setting.device) for name, epoch in epochs.items()}, setting.epochs)
    if case == "ours":
        taken |= {"flops a face": [flops(setting)], "peak": [peak(setting)]}
    (folder / f"{case}.json").write_text(json.dumps(taken))


def _setting(scale: Scale) -> Setting:
    rounds, epochs = {"smallest": (1, 1), "small": (1, 5), "full": (3, 5)}[scale]
    device = select_device("auto")
    document = read_document()
    if device.type == "cuda":
        document["model"] = "vgg16"
        document["models"]["vgg16"] |= {"weights": "none", "freeze_epochs": 0}
        document["train"] |= {"batch": 256, "precision": "bfloat16"}
        batches = {"smallest": 1, "small": 8, "full": 20}[scale]
        return Setting(parse(document, "train", TrainParams), device, batches * 256, rounds, epochs, 8192)
    faces = {"smallest": 64, "small": 512, "full": 1536}[scale]
    return Setting(parse(document, "train", TrainParams), device, faces, rounds, epochs, 256 if scale == "smallest" else 2048)


def _classes() -> Classes:
    return Classes(torch.arange(CLASSES), torch.ones(CLASSES), torch.arange(1, CLASSES + 1))


def repeated(faces: FaceDataset, count: int) -> FaceDataset:
    """`count` faces, repeated where there are fewer, each expression equally often."""
    rows = torch.arange(count) % len(faces)
    return FaceDataset(faces.images[rows], torch.arange(count) % CLASSES, faces.valence[rows], faces.arousal[rows])


def _crops() -> list[bytes]:
    """The files of the crops of the training split."""
    return [
        content.as_py()
        for shard in shard_paths(FACES, "train")
        for content in pq.ParquetFile(shard).read(columns=["image.bytes"])["image"].combine_chunks().field("bytes")
    ]


def write_folders(folder: Path, contents: Sequence[bytes], count: int) -> Path:
    """`count` JPEG files of these contents, repeated where there are fewer, one folder per class."""
    for number in range(count):
        path = folder / str(number % CLASSES) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[number % len(contents)])
    return folder


def synchronised(epoch: Epoch, device: torch.device) -> Epoch:
    """The epoch, ended when the device has done all of it."""

    def run() -> None:
        epoch()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def _ours(setting: Setting, _: Path) -> dict[str, Epoch]:
    configure_torch(setting.device)
    faces = repeated(load_faces(FACES, "train", setting.params.model.image_px, 0), setting.faces)
    return ours(Trainer(setting.params, Group(setting.device), _classes(), np.arange(setting.faces), faces, faces))


def ours(trainer: Trainer) -> dict[str, Epoch]:
    """An epoch as the stage trains, and its steps on a batch that was prepared before."""
    return {OURS: lambda: trainer.train_epoch(1), READY: ready_steps(trainer)}


def ready_steps(trainer: Trainer) -> Callable[..., None]:
    """Does `count` steps, by default as many as an epoch has, on one batch that was prepared before."""
    steps, generator = trainer._start_epoch(1)
    micro_batches = list(trainer.loader.load(steps[:1], generator))

    def run(count: int = len(steps)) -> None:
        for _ in range(count):
            trainer.optimizer.step(partial(trainer._gradients, micro_batches))  # type: ignore[arg-type]

    return run


def _transform(image_px: int) -> v2.Compose:
    """What the preset `standard` does, as the peers write it."""
    return v2.Compose(
        [
            v2.Resize((image_px, image_px)),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(10, translate=(0.06, 0.06), scale=(0.9, 1.1)),
            v2.ColorJitter(brightness=0.25, contrast=0.25),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            v2.RandomErasing(p=0.5, scale=(0.01, 0.06)),
        ]
    )


def _loader(setting: Setting, images: Path) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    data = ImageFolder(str(images), _transform(setting.params.model.image_px), loader=lambda path: Image.open(path).convert("RGB"))
    pin = setting.device.type == "cuda"
    return DataLoader(data, setting.params.batch, shuffle=True, num_workers=setting.loaders, persistent_workers=True, pin_memory=pin)


def _network(setting: Setting) -> tuple[nn.Module, torch.optim.Optimizer]:
    network = build(setting.params.model, CLASSES)
    return network, torch.optim.Adam(network.parameters(), lr=setting.params.optimizer.lr)


def image_folder(setting: Setting, folder: Path) -> dict[str, Epoch]:
    """An epoch over the JPEG files in `<folder>/images`."""
    loader, (network, optimizer) = _loader(setting, folder / "images"), _network(setting)
    network.to(setting.device).train()
    half = setting.params.precision == "bfloat16"

    def epoch() -> None:
        for batch, labels in loader:
            optimizer.zero_grad()
            with torch.autocast(setting.device.type, torch.bfloat16, enabled=half):
                outputs = network(batch.to(setting.device, non_blocking=True))
            loss = functional.cross_entropy(outputs.float(), labels.to(setting.device, non_blocking=True))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return {FOLDER: epoch}


def _lightning(setting: Setting, folder: Path) -> dict[str, Epoch]:
    """One epoch by one call of fit; what it does before the first step is not timed."""
    import lightning  # noqa: PLC0415 (only benchmarks have it, and the rest runs without)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        """The same network in Lightning."""

        def __init__(self) -> None:
            super().__init__()
            self.network, self.adam = _network(setting)

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return functional.cross_entropy(self.network(batch[0]).float(), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.adam

    trainer: Any = lightning.Trainer(
        accelerator="gpu" if setting.device.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if setting.params.precision == "bfloat16" else "32-true",
        max_epochs=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader, module = _loader(setting, folder / "images"), Module()

    def epoch() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit_loop.max_epochs += 1
            trainer.fit(module, loader)

    return {LIGHTNING: epoch}


def flops(setting: Setting) -> float:
    """Floating-point operations of a step by its faces, forward and backward, as torch counts them."""
    network, px = build(setting.params.model, CLASSES).to(setting.device), setting.params.model.image_px
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, 3, px, px, device=setting.device)).sum().backward()
    return float(counter.get_total_flops()) / 2


def peak(setting: Setting) -> float:
    """Floating-point operations a second of the best of large matrix products, in the precision of the training."""
    gpu, side = setting.device.type == "cuda", setting.product
    kind = torch.bfloat16 if setting.params.precision == "bfloat16" else torch.float32
    one = torch.randn(side, side, device=setting.device, dtype=kind)
    best = 0.0
    for _ in range(20):
        began = time.perf_counter()
        one @ one
        if gpu:
            torch.cuda.synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


CASES: dict[str, Callable[[Setting, Path], dict[str, Epoch]]] = {"ours": _ours, "image_folder": image_folder, "lightning": _lightning}

if __name__ == "__main__":
    run_case(sys.argv[1], Path(sys.argv[2]), cast(Scale, sys.argv[3]))
