"""Tests of the rules of docs/architecture.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affectnet.params import Runtime, Section, read_document, switches
from affectnet.running.run_stage import stage_paths

ROOT = Path(__file__).parent.parent
STAGES = list(read_document(ROOT / "dvc.yaml")["stages"])
WITHOUT_TORCH = [stage for stage in STAGES if stage not in {"train", "evaluate", "report", "export"}]


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it; `from a import b` gives `a` and `a.b`.

    A registry, which imports each module of its room that `pkgutil.iter_modules` lists, imports the whole room.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr == "iter_modules":
            folders = path.parts[len(path.parts) - path.parts[::-1].index("affectnet") - 1 : -1]
            names |= {".".join([*folders, module.stem]) for module in path.parent.glob("*.py")}
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def module_file(root: Path, name: str) -> Path | None:
    stem = root.joinpath(*name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def code_of(root: Path, start: Path) -> set[Path]:
    """The files of this project that a file imports, directly or not, with the file itself.

    The `__init__` of affectnet, of its rooms and of stages are left out, since no result depends on them. A registry
    imports all files of its folder, a folder within a room, together.
    """
    files, todo = set(), [start]
    while todo:
        path = todo.pop()
        if path in files or path.name == "__init__.py":
            continue
        files.add(path)
        todo += [file for name in imported(path) if (file := module_file(root, name)) is not None]
        if len(path.relative_to(root).parts) == 4:
            todo += path.parent.glob("*.py")
    return files


def wrong_deps(root: Path) -> list[str]:
    """For each stage the modules it imports that no file or room of its deps covers, and the deps that cover none of them."""
    problems = []
    for stage, entry in read_document(root / "dvc.yaml")["stages"].items():
        listed = {Path(dep) for dep in entry["deps"] if dep.startswith(("stages/", "affectnet/")) and dep != "stages/templates"}
        needed = {path.relative_to(root) for path in code_of(root, root / "stages" / f"{stage}.py")}
        covered = {path for path in needed if listed & {path, *path.parents}}
        useless = {dep for dep in listed if not any(dep in {path, *path.parents} for path in needed)}
        problems += [f"stages.{stage}.deps: add    - {path.as_posix()}" for path in sorted(needed - covered)]
        problems += [f"stages.{stage}.deps: remove - {path.as_posix()}" for path in sorted(useless)]
    return problems


def foreign_imports(root: Path) -> list[str]:
    """Imports of a stage by another stage or a module of affectnet."""
    files = [*root.glob("stages/*.py"), *root.glob("affectnet/**/*.py")]
    return [
        f"{path.relative_to(root)} imports {name}"
        for path in sorted(files)
        if path.name != "__main__.py"
        for name in sorted(imported(path))
        if name.split(".")[0] == "stages"
    ]


def wrong_paths(root: Path) -> list[str]:
    """Stages whose `run` takes other paths than those in dvc.yaml, inputs before the star and outputs after it."""
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
    params: type[Section] = getattr(module, f"{stage.capitalize()}Params")
    return params


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


def test_one_name_in_five_places() -> None:
    document = read_document(ROOT / "params.yaml")
    sections = [name for name, value in document.items() if isinstance(value, dict)]
    catalogues = set(switches(document).values())
    assert [name for name in sections if name not in {*catalogues, "runtime", "audit", "search"}] == STAGES
    assert sorted(path.stem for path in ROOT.glob("stages/*.py") if not path.stem.startswith("__")) == sorted(STAGES)
    assert all((ROOT / "tests" / "stages" / f"test_{stage}.py").is_file() for stage in STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_tracks_just_the_params_it_reads(stage: str) -> None:
    document = read_document(ROOT / "params.yaml")
    expected = {stage}
    shown = __import__(f"stages.{stage}", fromlist=["run"])
    expected |= set(getattr(shown, "SECTIONS", ()))  # what the report shows without a use for it
    catalogues = switches(document)
    always = read_document(ROOT / "dvc.yaml")["stages"][stage].get("always_changed", False)
    for name in [*params_class(stage).model_fields, *getattr(shown, "SWITCHES", ())]:
        expected |= {name} if isinstance(document.get(name), str | list) else set()
        if always:  # it runs each time, whatever DVC tracks
            continue
        expected |= {f"{catalogues[switch]}.${{{switch}}}" for switch in (name, f"{stage}.{name}") if switch in catalogues}
    for section in getattr(shown, "SECTIONS", ()):
        expected |= {f"{entries}.${{{switch}}}" for switch, entries in catalogues.items() if switch.startswith(f"{section}.")}
    assert set(read_document(ROOT / "dvc.yaml")["stages"][stage]["params"]) == expected


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from keys(inner)


def test_no_param_has_a_name_that_dvcs_run_cache_ignores() -> None:
    assert not {"size", "nfiles"} & set(keys(read_document(ROOT / "params.yaml")))


def test_expensive_stages_have_only_cached_outputs_and_no_runtime_is_tracked() -> None:
    for stage, entry in read_document(ROOT / "dvc.yaml")["stages"].items():
        uncached = [item for kind in ("outs", "metrics", "plots") for item in entry.get(kind, []) if isinstance(item, dict)]
        assert not (stage in {"crop", "train"} and uncached)
        assert not any(param.startswith("runtime") for param in entry["params"])
        assert "desc" in entry and entry["cmd"] == f"python -m stages.{stage}"


def test_runtime_is_read_as_the_file_has_it() -> None:
    assert Runtime.model_validate(read_document(ROOT / "params.yaml")["runtime"]).workers >= 0


def test_modules_have_speaking_names() -> None:
    for path in [*ROOT.glob("stages/*.py"), *ROOT.glob("affectnet/**/*.py")]:
        assert path.stem not in {"utils", "common", "helpers", "misc", "base", "manager"}


ROOMS = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE)
"""The rooms of affectnet in the order of docs/architecture.md, which is run order and import order."""


def test_the_rooms_are_those_of_the_documents() -> None:
    assert sorted(ROOMS) == sorted(path.parent.name for path in (ROOT / "affectnet").glob("*/__init__.py"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"`{room}`" in readme for room in ROOMS)


FOLDERS = sorted(path.parent.relative_to(ROOT / "affectnet").as_posix() for path in (ROOT / "affectnet").glob("*/**/__init__.py"))
"""The rooms, and the folders of registries within them."""


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_room_has_3_to_15_files_and_an_init_that_says_what_is_in_it(folder: str) -> None:
    assert 3 <= len(list((ROOT / "affectnet" / folder).glob("*.py"))) <= 15
    tree = ast.parse((ROOT / "affectnet" / folder / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) and len(tree.body) == 1


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room: str) -> None:
    allowed = {*ROOMS[: ROOMS.index(room) + 1], "errors", "params", "expressions"}
    for path in (ROOT / "affectnet" / room).rglob("*.py"):
        modules = {name.split(".")[1] for name in imported(path) if name.startswith("affectnet.")}
        assert modules <= allowed, path


def test_at_the_top_stand_only_what_everything_stands_on_and_the_command_line() -> None:
    names = {path.stem for path in (ROOT / "affectnet").glob("*.py")}
    assert names == {"__init__", "__main__", "errors", "params", "expressions"}
