"""The project without its Git repository, as in a ZIP download."""

import shutil
import subprocess
from pathlib import Path

import pytest
from chain import ROOT


@pytest.mark.parametrize("target", ["repro", "search", "table", "test", "bench"])
def test_without_a_git_repository_make_says_how_to_get_one(target: str, tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "installed").touch()
    done = subprocess.run(["make", target, "PYTHON=false"], cwd=tmp_path, capture_output=True, text=True, check=False)
    line = "error: no Git repository here, and DVC stands on one; clone the project, or run: git init && git add -A && git commit -m start"
    assert done.returncode == 2 and line in done.stderr.splitlines()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".venv", "Makefile", "pyproject.toml", "requirements.txt"]
