"""Trainings on one GPU, several side by side, from a list; each resumes, and ends in time with its best epoch scored.

The list is a YAML document; those of docs/experiments.md are in this folder. One mapping a training:

    trainings:
      - name: half_width     # of its files; a result of other data or another `set` is replaced
        data: fer2013        # a clone below --data in which `dvc repro crop rebalance` ran, or a copy of its folder data/
        set: {model: vgg16_48, train.epochs: 240, optimizers.sgd.lr: 0.1} # on params.yaml, as `dvc exp run -S`; {out} is the --out folder
        after: other_name    # starts when this training has ended, not when it was cut off; may be left out, as the two below
        keep: true           # writes the model file, float16
        logits: true         # writes the outputs for all three splits, float16

A step of a small network leaves most of a GPU idle, so several share it. `<out>/<name>.training.json` has the curve after each
epoch and the scores at the end; of a training that was cut off it says `time over`, and the same command continues it.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affectnet.errors import UserError, exit_code
from affectnet.files.atomic import replacing, write_json
from affectnet.metrics.classification import scores_of_codes
from affectnet.models.checkpoint import save_model
from affectnet.models.dataset import FaceDataset, load_faces
from affectnet.models.device import configure_torch, select_device
from affectnet.models.forward import VIEWS, predict
from affectnet.models.transforms import all_grey
from affectnet.params import parse, read_document
from affectnet.tables.face_shards import shard_paths
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, planned_rows
from affectnet.training.distributed import Group
from affectnet.training.fit import Progress, fit, model_metadata
from affectnet.training.resume import TrainingState
from affectnet.training.teacher import soft_targets
from affectnet.training.trainer import Metrics, Trainer, learned_classes
from benchmarks.recipes import recipe_key
from benchmarks.timing import ROOT
from stages.train import TrainParams

SAVE_EVERY = 20.0
"""Seconds between two saved states: a state of VGG16 is 240 MB, and an epoch on FER2013 takes two seconds."""

SCORING = 20.0
"""Seconds before the end after which no epoch is begun."""

TIME_OVER = "time over"
"""Key of a result, true where the training was cut off."""


class TimeOverError(Exception):
    """No further epoch fits into the minutes."""


class TimedState(TrainingState):
    """A state that is written at most every SAVE_EVERY seconds; latest: the last one, written or not."""

    def __init__(self, folder: Path, until: float) -> None:
        super().__init__(folder)
        self.until, self.written = until, time.monotonic()
        self.latest: Mapping[str, Any] = {}

    def save(self, state: Mapping[str, Any]) -> None:
        """Errors: TimeOverError when no further epoch fits."""
        self.latest = state
        over = time.monotonic() > self.until - SCORING
        if over or time.monotonic() - self.written > SAVE_EVERY:
            super().save(state)
            self.written = time.monotonic()
        if over:
            raise TimeOverError


def run_list(file: Path, data: Path, out: Path, device: torch.device, jobs: int, until: float) -> None:
    """Runs the trainings of the list in its order, `jobs` at a time, until the monotonic clock shows `until`."""
    listed = _listed(file)
    waiting = [name for name, one in listed.items() if not _ended(out, one)]
    running: dict[str, subprocess.Popen[bytes]] = {}
    while (waiting or running) and time.monotonic() < until:
        running = {name: process for name, process in running.items() if process.poll() is None}
        ready = [name for name in waiting if _may_start(out, listed, listed[name])]
        if time.monotonic() > until - 2 * SCORING:
            waiting = ready = []
        if waiting and not ready and not running:
            print(f"not started, for what they come after has not ended: {', '.join(waiting)}", file=sys.stderr)
            return
        for name in ready[: jobs - len(running)]:
            waiting.remove(name)
            command = [sys.executable, "-m", "benchmarks.gpu.trainings", str(file), name, str(data), str(out), device.type]
            running[name] = subprocess.Popen([*command, "--seconds", f"{until - time.monotonic():.0f}"], cwd=ROOT)
        time.sleep(0.2)
    for process in running.values():
        process.kill()


def ended(file: Path, out: Path) -> dict[str, bool]:
    """Whether each training of the list has ended, by name."""
    return {name: _ended(out, one) for name, one in _listed(file).items()}


def _listed(file: Path) -> dict[str, Mapping[str, Any]]:
    """The entries by name. Errors: UserError when one comes after an entry that is not listed."""
    listed = {one["name"]: one for one in read_document(file)["trainings"]}
    for name, one in listed.items():
        if one.get("after") not in {None, *listed}:
            raise UserError(f"{file}: {name}: after: {one['after']}, which is not listed; the list has {', '.join(listed)}")
    return listed


def _ended(out: Path, one: Mapping[str, Any]) -> bool:
    """Whether the entry of the list, as it is now, has its scores, after its last epoch or by its patience, and the files that it keeps."""
    path = _result(out, one["name"])
    result = json.loads(path.read_text()) if path.exists() else {}
    files = [out / f"{one['name']}.{ending}" for key, ending in (("keep", "safetensors"), ("logits", "npz")) if one.get(key)]
    of_this = {name: result.get(name) for name in ("data", "set")} == _decisive(one)
    return "test" in result and not result.get(TIME_OVER) and of_this and all(file.exists() for file in files)


def _decisive(one: Mapping[str, Any]) -> dict[str, Any]:
    """What of an entry decides its result, as JSON reads it back."""
    decisive: dict[str, Any] = json.loads(json.dumps({"data": one["data"], "set": one.get("set", {})}))
    return decisive


def _may_start(out: Path, listed: Mapping[str, Mapping[str, Any]], one: Mapping[str, Any]) -> bool:
    after = one.get("after")
    return after is None or _ended(out, listed[after])


def _result(out: Path, name: str) -> Path:
    return out / f"{name}.training.json"


def train(one: Mapping[str, Any], data: Path, out: Path, device: torch.device, until: float) -> str:
    """Trains one entry of the list on a folder `data` of a clone; returns its summary line."""
    params = listed_params(one.get("set", {}), out)
    configure_torch(device)
    began = time.monotonic()
    splits = {split: load_faces(data / "faces", split, params.model.image_px, 0) for split in ("train", "validation", "test")}
    classes = learned_classes(CLASS_WEIGHTS.read(data / "class_weights.parquet"), params.task)
    group, faces = Group(device), data / "faces"

    def load(image_px: int) -> tuple[FaceDataset, FaceDataset]:
        return load_faces(faces, "train", image_px, 0), load_faces(faces, "validation", image_px, 0)

    soft = soft_targets(params, classes, faces, load, group)
    rows, shares = planned_rows(data / "plan.parquet"), soft.shares if soft else None
    trainer = Trainer(params, group, classes, rows, splits["train"], splits["validation"], shares)
    state = _state(params, data, device, out.resolve().parent / f"{out.name}.states" / one["name"], until)
    result: dict[str, Any] = {"name": one["name"], **_decisive(one), "seconds to load": time.monotonic() - began}
    curve: list[Metrics] = []

    def log(metrics: Metrics) -> None:
        curve.append({name: round(value, 6) for name, value in metrics.items() if not name.startswith("loss_weight/")})
        write_json(_result(out, one["name"]), {**result, "seconds": time.monotonic() - began, "curve": curve})

    last = min(params.epochs, params.stop_after or params.epochs)
    reached = _fitted(trainer, params.patience, last, state, log)
    cut = reached.epoch < last and reached.epoch - reached.best_epoch < params.patience
    result |= {TIME_OVER: True} if cut else {}
    result |= {"epochs": reached.epoch, "best epoch": reached.best_epoch, "score": reached.best_score, "seconds": time.monotonic() - began}
    result["test"] = {averaging: _scores(trainer, splits["test"], averaging) for averaging in VIEWS}
    result["validation"] = {averaging: _scores(trainer, splits["validation"], averaging) for averaging in VIEWS}
    if one.get("keep"):
        grey = all_grey(splits["train"].images) and all_grey(splits["validation"].images)
        metadata = model_metadata(trainer, params, reached, faces, grey, {}, soft.teachers if soft else {})
        save_model(out / f"{one['name']}.safetensors", trainer.evaluated, metadata, "float16")
    if one.get("logits"):
        _write_logits(out / f"{one['name']}.npz", trainer, splits)
    write_json(_result(out, one["name"]), {**result, "curve": curve})
    shown = {name: round(values["accuracy"], 4) for name, values in result["test"].items()}
    took = f"{reached.epoch}{f' of {last}' if cut else ''} epochs in {result['seconds']:.0f} s{', time over' if cut else ''}"
    return f"{one['name']}: {took}, best {reached.best_epoch}, {reached.best_score:.4f}, test {shown}"


def _state(params: TrainParams, data: Path, device: torch.device, folder: Path, until: float) -> TimedState:
    """The state of this recipe and these data, in a folder of its own: the key is the end of its name."""
    shards = [path for split in ("train", "validation") for path in shard_paths(data / "faces", split)]
    key = recipe_key(params, device, [*shards, data / "plan.parquet", data / "class_weights.parquet"])
    of_key = folder.with_name(f"{folder.name}-{key}")
    of_key.mkdir(parents=True, exist_ok=True)
    return TimedState(of_key, until)


def listed_params(changes: Mapping[str, Any], out: Path) -> TrainParams:
    """The params of an entry of the list: params.yaml with its changes."""
    document = read_document()
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        section = document
        for name in sections:
            section = section[name]
        section[key] = _with_out(value, str(out.resolve()))
    return parse(document, "train", TrainParams)


def _with_out(value: Any, out: str) -> Any:
    """The value of a param, with the --out folder for {out} in text and in the texts of a list."""
    if isinstance(value, list):
        return [_with_out(one, out) for one in value]
    return value.replace("{out}", out) if isinstance(value, str) else value


def _fitted(trainer: Trainer, patience: int, last: int, state: TimedState, log: Any) -> Progress:
    """The progress at the end, or when time is over; the trainer has the best epoch's weights."""
    try:
        return fit(trainer, patience, last, state, log)
    except TimeOverError:
        reached = Progress(**state.latest["progress"])
        trainer.evaluated.load_state_dict(reached.best_weights)
        return reached


def _scores(trainer: Trainer, faces: FaceDataset, averaging: Any) -> dict[str, float]:
    """Over the expressions that are learned or present."""
    codes = trainer.classes.codes.numpy()
    predicted = codes[_logits(trainer, faces, averaging).argmax(1)]
    scored, _ = scores_of_codes(faces.expression.numpy(), predicted, codes)
    return {"accuracy": float(scored.accuracy), "macro_f1": float(scored.macro_f1)}


def _logits(trainer: Trainer, faces: FaceDataset, averaging: Any) -> NDArray[np.float32]:
    classes = len(trainer.classes)
    return predict(trainer.evaluated, faces.images, trainer.device, classes, trainer.mean, trainer.std, averaging, 1024).logits


def _write_logits(path: Path, trainer: Trainer, splits: Mapping[str, FaceDataset]) -> None:
    content = io.BytesIO()
    np.savez(content, **{split: _logits(trainer, faces, "flip").astype(np.float16) for split, faces in splits.items()})  # type: ignore[arg-type]
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.trainings", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("list", type=Path)
    parser.add_argument("name")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("device")
    parser.add_argument("--seconds", type=float, required=True, help="after which it ends")
    arguments = parser.parse_args()
    listed = _listed(arguments.list)
    if arguments.name not in listed:
        raise UserError(f"{arguments.list}: lists no training {arguments.name}; it has {', '.join(listed)}")
    one, until = listed[arguments.name], time.monotonic() + arguments.seconds
    clone = arguments.data / one["data"]
    data = clone / "data" if (clone / "data").is_dir() else clone
    print(train(one, data, arguments.out, select_device(arguments.device, "device"), until), flush=True)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
