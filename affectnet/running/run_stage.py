"""Starts a stage: reads its params from params.yaml and its paths from dvc.yaml, by the names in its `run`'s signature."""

import inspect
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from affectnet.errors import UserError, exit_code, first_few
from affectnet.params import Runtime, Section, parse, read_document, refuse_unknown_entries, select

DVC_FILE = Path("dvc.yaml")


def launch(run: Callable[..., str]) -> None:
    """Runs the stage and prints the summary line that `run` returns; exits with 0, 1, 2 or 130. SIGTERM acts as Ctrl-C."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # there the launcher sends SIGTERM to end its processes at once
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(exit_code(lambda: print(_guarded(run), flush=True)))


def _guarded(run: Callable[..., str]) -> str:
    """The summary that `run` returns. Errors: UserError when its inputs changed meanwhile.

    DVC reads params, code and data after a stage has ended (treeverse/dvc#11058): it would record an edit made while the stage
    ran together with the results of the earlier inputs, and call them up to date.
    """
    refuse_unknown_entries(read_document())  # the first stage refuses the switch of a later one
    before = _inputs(run)
    summary = run(**arguments(run))
    after = _inputs(run)
    if changed := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
        stage = Path(inspect.getfile(run)).stem
        raise UserError(
            f"stages.{stage}: changed while it ran, {first_few(changed)}; undo the change and keep the result with "
            f"`dvc commit -f {stage}`, or run `dvc repro` again"
        )
    return summary


def _inputs(run: Callable[..., str]) -> dict[str, object]:
    """The stage's inputs by name, as DVC records them: values of params.yaml, code by its bytes, data by inode, length and time."""
    stage = Path(inspect.getfile(run)).stem
    document = read_document()
    inputs: dict[str, object] = {}
    for parameter in inspect.signature(run).parameters.values():
        model = parameter.annotation
        if isinstance(model, type) and issubclass(model, Section) and model is not Runtime:
            values, homes, _ = select(document, stage, model)
            inputs.update({homes[name]: value for name, value in values.items()})
    for dep in map(Path, _entry(stage).get("deps", [])):
        for path in filter(Path.is_file, [dep, *dep.rglob("*")]):
            if "__pycache__" in path.parts:  # Python writes it while the stage runs
                continue
            status = path.stat()
            inputs[str(path)] = path.read_bytes() if path.suffix == ".py" else (status.st_ino, status.st_size, status.st_mtime_ns)
    return inputs


def arguments(run: Callable[..., str]) -> dict[str, Any]:
    """The arguments of `run`: a Section for each parameter annotated with one, a Path for each other."""
    stage = Path(inspect.getfile(run)).stem
    document = read_document()
    paths = stage_paths(_entry(stage), stage)
    values: dict[str, Any] = {}
    for parameter in inspect.signature(run).parameters.values():
        model = parameter.annotation
        if isinstance(model, type) and issubclass(model, Section):
            values[parameter.name] = parse(document, "runtime" if model is Runtime else stage, model)
        else:
            values[parameter.name] = _path(paths, parameter.name, stage)
    return values


def _entry(stage: str) -> Mapping[str, Any]:
    """The stage's entry in dvc.yaml. Errors: UserError when it is missing."""
    stages = read_document(DVC_FILE).get("stages")
    entry = stages.get(stage) if isinstance(stages, dict) else None
    if not isinstance(entry, dict):
        raise UserError(f"{DVC_FILE}: stages.{stage} is missing or not a mapping; see the shipped file")
    return entry


def _path(paths: Mapping[str, Path], name: str, stage: str) -> Path:
    if name not in paths:
        raise UserError(f"{DVC_FILE}: stages.{stage}: no path is called {name!r}, which the stage reads or writes; see the shipped file")
    return paths[name]


def stage_paths(entry: Mapping[str, Any], stage: str) -> dict[str, Path]:
    """The data paths of a stage in dvc.yaml, by the file's stem; `metrics/<stage>…` is called `metrics`, and `model.onnx` `onnx`.

    Code (`.py`, or a folder of `affectnet/`) is not an argument. `meta.reads` names paths that a stage reads although they are not
    dependencies. Errors: UserError when two paths share a name.
    """
    paths: dict[str, Path] = {}
    listed = [*entry.get("meta", {}).get("reads", []), *entry.get("deps", []), *entry.get("outs", [])]
    for item in [*listed, *entry.get("metrics", []), *entry.get("plots", [])]:
        path = PurePosixPath(item if isinstance(item, str) else next(iter(item)))
        if path.suffix == ".py" or path.parts[0] == "affectnet":
            continue
        name = _argument_name(path, stage)
        if name in paths:
            raise UserError(f"{DVC_FILE}: stages.{stage}: two paths are called {name!r}: {paths[name]} and {path}")
        paths[name] = Path(path)
    return paths


def _argument_name(path: PurePosixPath, stage: str) -> str:
    if path.parent.name == "metrics" and path.stem == stage:
        return "metrics"
    return "onnx" if path.suffix == ".onnx" else path.stem
