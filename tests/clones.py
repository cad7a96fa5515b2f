"""Clones of this repository whose demo is small, and the commands that a user types in them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "tests" / "offline"), os.environ.get("PYTHONPATH")))),
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "test"), ("EMAIL", "test@example.org"))},
}


class Clone:
    """A clone of this repository and the commands that a user types in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def environment(self) -> dict[str, str]:
        # DVC's own site cache is fixed when dvc is imported here, so a child gets it by its environment.
        state = {name: os.environ[name] for name in ("DVC_SITE_CACHE_DIR", "REFUSED_CONNECTIONS")}
        return {**ENVIRONMENT, **state, "DVC_NO_ANALYTICS": "1"}

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        with self.start(*command) as process:
            stdout, stderr = process.communicate(timeout=600)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """The running command, for which the caller waits. `python`, `dvc` and `affectnet` run in forks of the warm server."""
        warm, pipe = os.environ.get("WARM", "0"), subprocess.PIPE
        environment = self.environment
        if warm != "0":
            environment["PATH"] = f"{warm}{os.pathsep}{environment['PATH']}"
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def run(self, *command: str) -> str:
        done = self.attempt(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        return self.run("dvc", *arguments)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def metrics(self, stage: str) -> dict[str, Any]:
        numbers: dict[str, Any] = json.loads((self.folder / "metrics" / f"{stage}.json").read_text())
        return numbers

    def copy(self, folder: Path) -> "Clone":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone(folder)


def reduce(folder: Path) -> None:
    """Makes the demo small enough for a test, by an edit of params.yaml."""
    yaml = YAML()
    document = yaml.load(folder / "params.yaml")
    document["datasets"]["demo"].update(training=120, validation=24, floor=6, smallest_px=96, largest_px=128)
    faults = document["datasets"]["demo"]["faults"]
    faults.update({name: min(count, 1) for name, count in faults.items()})
    document["models"]["vgg16_small"].update(width=0.0625, image_px=32)
    document["train"].update(epochs=2)
    document["evaluate"].update(bootstrap=100)
    document["verify"].update(tolerance=0.5)
    yaml.dump(document, folder / "params.yaml")


def working_tree(folder: Path) -> Clone:
    """A new repository with the tracked and new files of this one, committed on main."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    reduce(folder)
    clone = Clone(folder)
    clone.git("init", "--quiet", "--initial-branch", "main")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "reduced demo")
    return clone


def files_of(root: Path, *below: str) -> dict[str, bytes]:
    """The content of each file in these folders, by its path below the root."""
    files = (path for folder in below for path in (root / folder).rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
