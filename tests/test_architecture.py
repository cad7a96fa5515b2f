"""The rules of docs/architecture.md, held."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affectnet.launch import stage_paths
from affectnet.params import Runtime, Section, catalogue_name, read_document

ROOT = Path(__file__).parent.parent
STAGES = list(read_document(ROOT / "dvc.yaml")["stages"])
WITHOUT_TORCH = [stage for stage in STAGES if stage not in {"train", "evaluate", "report", "export"}]


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it; `from a import b` gives `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def module_file(root: Path, name: str) -> Path | None:
    stem = root.joinpath(*name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def code_of(root: Path, start: Path) -> set[Path]:
    """The files of this project that a file imports, directly or not, itself included.

    affectnet/__init__.py and stages/__init__.py hold nothing that a result depends on and are left out.
    """
    found, todo = set(), [start]
    while todo:
        path = todo.pop()
        if path in found or path in {root / "affectnet" / "__init__.py", root / "stages" / "__init__.py"}:
            continue
        found.add(path)
        todo += [file for name in imported(path) if (file := module_file(root, name)) is not None]
    return found


def wrong_deps(root: Path) -> list[str]:
    """For each stage the code it imports and does not list, and the reverse."""
    problems = []
    for stage, entry in read_document(root / "dvc.yaml")["stages"].items():
        listed = {dep for dep in entry["deps"] if dep.endswith(".py")}
        needed = {path.relative_to(root).as_posix() for path in code_of(root, root / "stages" / f"{stage}.py")}
        problems += [f"stages.{stage}.deps: add    - {path}" for path in sorted(needed - listed)]
        problems += [f"stages.{stage}.deps: remove - {path}" for path in sorted(listed - needed)]
    return problems


def foreign_imports(root: Path) -> list[str]:
    """Stages that import a stage, and nouns that import a verb."""
    files = [*root.glob("stages/*.py"), *root.glob("affectnet/**/*.py")]
    return [
        f"{path.relative_to(root)} imports {name}"
        for path in sorted(files)
        if path.name != "__main__.py"
        for name in sorted(imported(path))
        if name.split(".")[0] == "stages"
    ]


def wrong_paths(root: Path) -> list[str]:
    """Stages whose `run` does not take just the paths that dvc.yaml gives them, reads before the star, writes after it."""
    problems = []
    for stage, entry in read_document(root / "dvc.yaml")["stages"].items():
        tree = ast.parse((root / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
        run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
        read = {argument.arg for argument in run.args.args if ast.unparse(argument.annotation or run) == "Path"}
        written = {argument.arg for argument in run.args.kwonlyargs}
        given_read = set(stage_paths({key: entry[key] for key in ("deps", "meta") if key in entry}, stage))
        given_written = set(stage_paths({key: entry[key] for key in ("outs", "metrics", "plots") if key in entry}, stage))
        problems += [f"stages.{stage}: run reads {sorted(read)}, dvc.yaml gives {sorted(given_read)}"] * (read != given_read)
        problems += [f"stages.{stage}: run writes {sorted(written)}, dvc.yaml gives {sorted(given_written)}"] * (written != given_written)
    return problems


def params_class(stage: str) -> type[Section]:
    module = __import__(f"stages.{stage}", fromlist=["run"])
    found: type[Section] = getattr(module, f"{stage.capitalize()}Params")
    return found


def test_each_stage_lists_just_the_code_it_imports() -> None:
    assert wrong_deps(ROOT) == []


def test_no_stage_imports_a_stage_and_no_noun_a_verb() -> None:
    assert foreign_imports(ROOT) == []


def test_each_stage_takes_just_the_paths_of_dvc_yaml() -> None:
    assert wrong_paths(ROOT) == []


@pytest.mark.parametrize("stage", WITHOUT_TORCH)
def test_data_stages_never_import_torch(stage: str) -> None:
    for path in code_of(ROOT, ROOT / "stages" / f"{stage}.py"):
        assert not {name for name in imported(path) if name.split(".")[0] in {"torch", "torchvision", "dvclive"}}, path


def test_torchvision_is_imported_in_one_place() -> None:
    """Anywhere else it would bring torch's compiler with it."""
    files = [path for folder in ("affectnet", "stages") for path in (ROOT / folder).rglob("*.py") if "torchvision" in imported(path)]
    assert files == [ROOT / "affectnet" / "vision.py"]


def test_one_name_in_five_places() -> None:
    document = read_document(ROOT / "params.yaml")
    sections = [name for name, value in document.items() if isinstance(value, dict)]
    catalogues = {catalogue_name(name) for name, value in document.items() if isinstance(value, str)}
    assert [name for name in sections if name not in {*catalogues, "runtime", "search"}] == STAGES
    assert sorted(path.stem for path in ROOT.glob("stages/*.py") if not path.stem.startswith("__")) == sorted(STAGES)
    assert all((ROOT / "tests" / "stages" / f"test_{stage}.py").is_file() for stage in STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_tracks_just_the_params_it_reads(stage: str) -> None:
    document = read_document(ROOT / "params.yaml")
    wanted = {stage}
    shown = __import__(f"stages.{stage}", fromlist=["run"])
    wanted |= set(getattr(shown, "SECTIONS", ()))  # what the report shows without a use for it
    for name in [*params_class(stage).model_fields, *getattr(shown, "SWITCHES", ())]:
        if isinstance(document.get(name), str):
            catalogue = catalogue_name(name)
            wanted |= {name, f"{catalogue}.${{{name}}}"} if catalogue in document else {name}
    assert set(read_document(ROOT / "dvc.yaml")["stages"][stage]["params"]) == wanted


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from keys(inner)


def test_no_param_has_a_name_that_dvcs_run_cache_ignores() -> None:
    assert not {"size", "nfiles"} & set(keys(read_document(ROOT / "params.yaml")))


def test_expensive_stages_have_cached_outputs_alone_and_no_runtime_is_tracked() -> None:
    for stage, entry in read_document(ROOT / "dvc.yaml")["stages"].items():
        uncached = [item for kind in ("outs", "metrics", "plots") for item in entry.get(kind, []) if isinstance(item, dict)]
        assert not (stage in {"crop", "train"} and uncached)
        assert not any(param.startswith("runtime") for param in entry["params"])
        assert "desc" in entry and entry["cmd"] == f"python -m stages.{stage}"


def test_runtime_is_read_as_the_file_has_it() -> None:
    assert Runtime.model_validate(read_document(ROOT / "params.yaml")["runtime"]).workers >= 0


def test_modules_are_of_readable_length_and_have_speaking_names() -> None:
    for path in [*ROOT.glob("stages/*.py"), *ROOT.glob("affectnet/**/*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 280, path
        assert path.stem not in {"utils", "common", "helpers", "misc", "base", "manager"}


def test_the_tree_in_the_readme_is_the_real_tree() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"```text\n(.*?)```", readme, re.DOTALL) if "params.yaml" in block)
    shown: set[str] = set()
    folders: list[str] = []
    for line in block.splitlines():
        entry = line.split("  ")[0] if not line.startswith(" ") else line.lstrip().split("  ")[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [entry]
        shown.add("".join(folders[: depth + 1]))
    real = {
        f"{folder}{path.name}" for folder in ("stages/", "affectnet/") for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"
    }
    assert {path for path in shown if path.startswith(("stages/", "affectnet/")) and path.endswith(".py") and path.count("/") == 1} == real
    assert all((ROOT / path).exists() or path.startswith(("data/", "models/")) for path in shown)
