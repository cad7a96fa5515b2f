"""Whether a training on the GPU is the training on the processor, and what of it is exactly repeatable there."""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from affectnet.training.distributed import Group, process_group
from affectnet.training.fit import fit
from affectnet.training.launcher import launch_processes
from affectnet.training.resume import TrainingState
from affectnet.training.trainer import Trainer
from benchmarks.gpu.drawn import SEED, draw_faces, trainer_of, training_params

LOSS_TOLERANCE = 1e-4
"""Largest relative difference of the losses of three float32 steps between the processor and the GPU, with TensorFloat-32 off."""

UPDATE_TOLERANCE = 1e-2
"""‖difference of the weights' changes‖ / ‖change‖ over these steps: a sum of millions of rounded products."""

REPEATED_TOLERANCE = 1e-2
"""Of the losses of two trainings on one GPU, whose convolutions need not add in the same order."""

Result = dict[str, Any]


def agreement(device: torch.device, faces: int = 96, px: int = 48) -> Result:
    """Three steps of vgg16_48 in float32 on the processor and on the device."""
    drawn = draw_faces(faces, px)
    params = training_params("vgg16_48", train={"batch": faces // 3}, image_px=px)
    reference, with_tf32 = _steps(params, torch.device("cpu"), drawn, tf32=False), _steps(params, device, drawn, tf32=True)
    ours = _steps(params, device, drawn, tf32=False)
    return {
        "float32": _differences(ours, reference),
        "TensorFloat-32, as trained": _differences(with_tf32, reference),
        "tolerance": {"loss": LOSS_TOLERANCE, "update": UPDATE_TOLERANCE},
        "holds": _differences(ours, reference)["loss"] <= LOSS_TOLERANCE and _differences(ours, reference)["update"] <= UPDATE_TOLERANCE,
    }


def _steps(params: Any, device: torch.device, faces: Any, *, tf32: bool) -> tuple[float, torch.Tensor]:
    """The mean loss of an epoch of three steps, and how it changed the weights, on the processor in float64."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    trainer = trainer_of(params, Group(device), faces)
    before = _weights(trainer)
    loss = trainer.train_epoch(1)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
    return loss, _weights(trainer) - before


def _weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([parameter.detach().cpu().double().flatten() for parameter in trainer.network.parameters()])


def _differences(ours: tuple[float, torch.Tensor], reference: tuple[float, torch.Tensor]) -> dict[str, float]:
    return {
        "loss": abs(ours[0] - reference[0]) / abs(reference[0]),
        "update": float((ours[1] - reference[1]).norm() / reference[1].norm()),
    }


def precisions(device: torch.device, faces: int = 2048, px: int = 48, epochs: int = 5) -> Result:
    """A training in bfloat16 and one in float32 on the device: accuracy on faces that neither has seen."""
    train, validation = draw_faces(faces, px), draw_faces(faces // 4, px, SEED + 1)
    accuracy, losses = {}, {}
    for precision in ("float32", "bfloat16"):
        params = training_params("vgg16_48", train={"precision": precision, "epochs": epochs}, image_px=px)
        trainer = trainer_of(params, Group(device), train, validation)
        losses[precision] = [trainer.train_epoch(epoch) for epoch in range(epochs)]
        accuracy[precision] = trainer.validate()[0]["validation/accuracy"]
    return {"validation accuracy": accuracy, "losses": losses, "holds": min(accuracy.values()) > 0.9}


def feeds(device: torch.device, faces: int = 512, px: int = 48) -> Result:
    """The batches of an epoch, gathered on the processor and copied, and gathered on the device."""
    trainer = trainer_of(training_params("vgg16_48", train={}, image_px=px), Group(device), draw_faces(faces, px))
    batches = []
    for _ in range(2):
        steps, generator = trainer._start_epoch(0)
        batches.append([(one.images.clone(), one.targets.expression.clone()) for one in trainer.loader.load(steps, generator)])
        if device.type == "cuda":
            trainer.loader.move_to_device()
    pairs = list(zip(*batches, strict=True))
    same = [torch.equal(streamed[0], resident[0]) and torch.equal(streamed[1], resident[1]) for streamed, resident in pairs]
    return {"batches": len(pairs), "equal": sum(same), "on the device": trainer.loader.images.device.type, "holds": all(same)}


def resumed(device: torch.device, faces: int = 1024, px: int = 48) -> Result:
    """Four epochs at once; and two, from whose saved state another process's trainer makes the other two."""
    params = training_params("vgg16_48", "adam", train={"epochs": 4, "ema": 0.99}, image_px=px)
    drawn = draw_faces(faces, px)

    def losses(state: TrainingState, last: int) -> list[float]:
        trainer = trainer_of(params, Group(device), drawn)
        return [epoch["train/loss"] for epoch in fit(trainer, 4, last, state, lambda _: None).history]

    with tempfile.TemporaryDirectory() as name:
        whole = losses(TrainingState(_folder(name, "whole")), 4)
        again = losses(TrainingState(_folder(name, "again")), 4)
        cut = TrainingState(_folder(name, "cut"))
        losses(cut, 2)
        continued = losses(cut, 4)
    return {
        "losses": {"at once": whole, "at once, again": again, "resumed": continued},
        "tolerance": REPEATED_TOLERANCE,
        "exactly equal": whole == continued,
        "holds": len(continued) == 4 and max(abs(a - b) for a, b in zip(whole, continued, strict=True)) <= REPEATED_TOLERANCE * max(whole),
    }


def _folder(parent: str, name: str) -> Path:
    folder = Path(parent, name)
    folder.mkdir()
    return folder


def one_process(device: torch.device, faces: int = 512, px: int = 48) -> Result:
    """Two epochs with torch's launcher and one process (NCCL on a GPU, gloo on the processor), and without."""
    single = group_losses(device, faces, px)
    launched = json.loads(launch_processes("benchmarks.gpu.correctness", 1, device, device.type, str(faces), str(px)))
    close = max(abs(one - other) for one, other in zip(single, launched, strict=True)) <= REPEATED_TOLERANCE * max(single)
    return {"losses": {"no group": single, "one process": launched}, "tolerance": REPEATED_TOLERANCE, "holds": close}


def group_losses(device: torch.device, faces: int, px: int) -> list[float]:
    """The losses of two epochs in the group that this process was started in."""
    with process_group(device) as group:
        trainer = trainer_of(training_params("vgg16_48", train={}, image_px=px), group, draw_faces(faces, px))
        return [trainer.train_epoch(epoch) for epoch in range(2)]


def memory(device: torch.device, faces: int = 512, px: int = 48) -> Result:
    """Where the best epoch's weights lie, and the memory of the GPU after each of three epochs, MB."""
    trainer = trainer_of(training_params("vgg16_48", train={"epochs": 3}, image_px=px), Group(device), draw_faces(faces, px))
    held: list[float] = []

    def log(_: Any) -> None:
        held.append(torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else 0.0)

    with tempfile.TemporaryDirectory() as name:
        reached = fit(trainer, 3, 3, TrainingState(Path(name)), log)
    devices = sorted({tensor.device.type for tensor in reached.best_weights.values()})
    weights = sum(tensor.nbytes for tensor in reached.best_weights.values()) / 1e6
    return {
        "best weights": {"devices": devices, "MB": weights},
        "allocated after each epoch, MB": held,
        "holds": devices == ["cpu"] and held[2] - held[1] < weights / 2,
    }


def parts(*, smallest: bool) -> dict[str, Callable[[torch.device], Result]]:
    """The parts by name. smallest: few small faces, enough to see that all of it runs."""
    named: dict[str, Callable[..., Result]] = {
        "agreement": agreement,
        "precisions": precisions,
        "feeds": feeds,
        "resumed": resumed,
        "one_process": one_process,
        "memory": memory,
    }
    sizes = {"faces": 16, "px": 32} if smallest else {}
    return {name: partial(part, **sizes) for name, part in named.items()}


if __name__ == "__main__":
    print(json.dumps(group_losses(torch.device(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
