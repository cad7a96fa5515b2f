"""The installed project is one checkout; commands started in another one use that one's code."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import dvc
import pandas
import pytest
import torch
from chain import ROOT

BUILD = "import setuptools.build_meta, sys; setuptools.build_meta.build_editable(sys.argv[1])"
COMMAND = (
    "from importlib.metadata import entry_points; (command,) = entry_points(group='console_scripts', name='affectnet'); command.load()()"
)


def checkout(folder: Path) -> Path:
    """Packages with the names of ours that print their path."""
    for name in ("affectnet", "stages"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    (folder / "affectnet" / "__main__.py").write_text("def main():\n    print(__file__)\n")
    (folder / "stages" / "train.py").write_text("from affectnet.__main__ import main\nprint(__file__)\nmain()\n")
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkout, and the Python of an environment in which it is installed as by `make install`."""
    folder = checkout(tmp_path_factory.mktemp("installed"))
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (folder / "README.md").write_text("of the project")
    (folder / "wheels").mkdir()
    subprocess.run([sys.executable, "-c", BUILD, "wheels"], cwd=folder, check=True, capture_output=True)
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (wheel,) = folder.glob("wheels/*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return folder, environment / "bin" / "python"


def lines(folder: Path, *command: str | Path) -> list[str]:
    return subprocess.run(command, cwd=folder, env={}, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_command_is_there_in_any_folder(installed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, python = installed
    assert lines(tmp_path, python, "-c", COMMAND) == [str(folder / "affectnet" / "__main__.py")]


def test_a_stage_of_another_checkout_imports_that_ones_code(installed: tuple[Path, Path], tmp_path: Path) -> None:
    other = checkout(tmp_path / "clone")
    files = lines(other, installed[1], "-m", "stages.train")
    assert files == [str(other / "stages" / "train.py"), str(other / "affectnet" / "__main__.py")]


@pytest.mark.parametrize("module", [torch, pandas, dvc], ids=lambda module: module.__name__)
def test_no_command_compiles_what_is_installed(module: ModuleType) -> None:
    """With and without PYTHONDONTWRITEBYTECODE."""
    assert module.__cached__ and Path(module.__cached__).is_file()
