"""Runs stages in a workspace as `dvc repro` would: with the shipped params.yaml, changed where a test says so."""

import importlib
import inspect
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from affectnet.errors import UserError
from affectnet.files.cache_dir import cache_folder
from affectnet.params import Runtime, Section, read_document
from affectnet.running.run_stage import arguments
from affectnet.tables.annotations import ANNOTATIONS, REJECTED
from affectnet.tables.source_pointer import Pointer

ROOT = Path(__file__).parent.parent

TINY: dict[str, Any] = {
    "architecture": "vgg16_bn",
    "width": 0.0625,
    "weights": "none",
    "head": "pooled",
    "dropout": 0.2,
    "image_px": 32,
    "freeze_epochs": 0,
    "lr_factor": 1.0,
    "layer_decay": 1.0,
    "epochs": 3,
}
"""The smallest network that the tests train, as an entry of `models`."""


def tiny(**changes: Any) -> dict[str, Any]:
    """TINY with changes; for another architecture than VGG, without VGG's settings."""
    entry = {**TINY, **changes}
    others = set() if entry["architecture"].startswith("vgg") else {"width", "head"} - changes.keys()
    return {name: value for name, value in entry.items() if name not in others}


CATALOGUES = {"optimizer": "optimizers", "loss": "losses", "task": "tasks", "augmentation": "augmentations"}


def committed(path: str) -> bytes:
    """A file of the repository at HEAD, without the changes that `dvc repro` made on this machine."""
    return subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, check=True, capture_output=True).stdout


def place_pipeline(folder: Path) -> None:
    """Puts the project's params.yaml and dvc.yaml into the folder, where stages look for them."""
    for name in ("params.yaml", "dvc.yaml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())


@contextmanager
def pipeline_folder(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A new folder with params.yaml and dvc.yaml, which the block has as its working folder: for the fixtures of a module."""
    folder = factory.mktemp(name)
    place_pipeline(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def entry(switch: str, name: str, **changes: Any) -> dict[str, Any]:
    """An entry of a shipped catalogue, changed: `entry("optimizer", "sgd", lr=1e-2)`."""
    return {**read_document(ROOT / "params.yaml")[CATALOGUES[switch]][name], **changes}


def local(workers: int = 1) -> Runtime:
    """The runtime on this machine's CPU; with one worker in this process."""
    return Runtime(device="cpu", workers=workers, engine="local", scheduler=None, processes=1)


def run_stage(stage: str, **changes: Any) -> str:
    """Runs one stage in the working folder. changes: fields of its section; returns its summary line."""
    run: Callable[..., str] = importlib.import_module(f"stages.{stage}").run
    inputs = arguments(run)
    for name, parameter in inspect.signature(run).parameters.items():
        if parameter.annotation is Runtime:
            inputs[name] = local()
        elif isinstance(inputs[name], Section):
            inputs[name] = type(inputs[name]).model_validate({**inputs[name].model_dump(), **changes})
    return run(**inputs)


@contextmanager
def refused(message: str) -> Iterator[None]:
    """Checks that the block raises a UserError of one line that matches the message."""
    with pytest.raises(UserError, match=message) as caught:
        yield
    assert "\n" not in str(caught.value)


def forget_training() -> None:
    """Removes the states of trainings, so that the next one starts from its first epoch."""
    shutil.rmtree(cache_folder("resume"))


def run_data_stages(pointer: Pointer, **changes: dict[str, Any]) -> None:
    """Runs the data stages, fingerprint to rebalance, over the pointer's download. changes: fields of a stage's section, by stage."""
    pointer.write(Path("data/raw"))
    run_stage("fingerprint")
    for stage in ("verify", "clean", "crop", "detect", "rebalance"):
        run_stage(stage, **({"tolerance": 1.0} if stage == "verify" else {}), **changes.get(stage, {}))


def metrics(stage: str) -> dict[str, Any]:
    """The content of the stage's file of metrics."""
    numbers: dict[str, Any] = json.loads(Path(f"metrics/{stage}.json").read_text())
    return numbers


def annotations() -> list[dict[str, Any]]:
    """The rows of data/annotations.parquet."""
    rows: list[dict[str, Any]] = ANNOTATIONS.read(Path("data/annotations.parquet")).to_pylist()
    return rows


def rejected() -> dict[tuple[str, int], str]:
    """The reason per row of data/rejected.parquet, by the name of its list and its number there."""
    rows = REJECTED.read(Path("data/rejected.parquet")).to_pylist()
    return {(Path(row["list"]).name, row["row"]): row["reason"] for row in rows}


def curves() -> dict[str, list[float]]:
    """The curves that train logged, by name, one value per epoch."""
    folder = Path("metrics/train/plots/metrics")
    return {
        file.relative_to(folder).with_suffix("").as_posix(): [float(line.split("\t")[1]) for line in file.read_text().splitlines()[1:]]
        for file in folder.rglob("*.tsv")
    }
