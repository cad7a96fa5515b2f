"""docs/tutorial.md: its commands exist, and run from top to bottom on a stand-in in AffectNet's layout."""

import re
import shlex
from functools import reduce
from pathlib import Path

import pytest
from clones import Clone
from dvc.cli import parse_args
from dvc.utils.hydra import apply_overrides
from portraits import drawn
from ruamel.yaml import YAML
from running import queue_once_idle
from trees import tree_2017

from affectnet.__main__ import main
from affectnet.params import read_document
from affectnet.running.run_stage import arguments
from stages import train

pytestmark = pytest.mark.usefixtures("real_programs")

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
SMALL = {"weights": "none", "width": 0.0625, "head": "pooled", "image_px": 32, "freeze_epochs": 0}


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("dvc ")])
def test_dvc_takes_the_command_and_its_stages_and_params_exist(command: str, workspace: Path) -> None:
    parsed = parse_args(shlex.split(command)[1:])
    if parsed.cmd == "repro":
        assert set(parsed.targets) <= set(read_document(Path("dvc.yaml"))["stages"])
    if changes := getattr(parsed, "set_param", None):
        known = read_document()
        assert {change.partition("=")[0].split(".")[0] for change in changes} <= set(known)
        apply_overrides(workspace / "params.yaml", changes)
        assert arguments(train.run)


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("affectnet ")])
def test_the_command_line_takes_the_command(command: str, capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert main(shlex.split(command)[1:]) == 2  # there is no model yet: one error line
    assert capsys.readouterr().err.startswith(("error: models/model.safetensors: missing", "error: adam: no file; "))


@pytest.mark.stress
def test_every_command_runs_from_top_to_bottom(fresh: Clone, tmp_path: Path) -> None:
    clone = fresh.copy(tmp_path / "clone")
    tree_2017(tmp_path / "affectnet", each=8, tests=3)
    yaml = YAML()
    document = yaml.load(clone.folder / "params.yaml")
    document["dataset"] = "affectnet2017"
    document["datasets"]["affectnet2017"].update(root=str(tmp_path / "affectnet"), expected=None)
    document["models"]["vgg16"].update(SMALL)
    yaml.dump(document, clone.folder / "params.yaml")
    (clone.folder / "photos").mkdir()
    drawn().save(clone.folder / "photos" / "one.jpg")
    outputs = {}
    for command in COMMANDS:
        here = {"/srv/lab/affectnet": str(tmp_path / "lab"), "make table": "python -m affectnet.search.table"}  # make installs first
        words = shlex.split(reduce(lambda text, change: text.replace(*change), here.items(), command))
        outputs[command] = queue_once_idle(clone, 400) if command == "dvc queue status" else clone.run(*words)
    assert re.search(r"plain +\S+ +\S+ +Success", outputs["dvc queue status"]) and "Failed" not in outputs["dvc queue status"]
    assert "optimizer" in outputs["dvc params diff adam sgd"] and "McNemar" in outputs["affectnet compare adam sgd"]
    table = outputs["make table"].splitlines()
    assert max(map(len, table)) <= 160 and all("affectnet2017" in line for line in table[1:4])
    assert "the scores in Git are of other params" in table[-1] and any(line.startswith("adam") and "0." in line for line in table)
    assert "better" in clone.git("branch") and "optimizer: sgd" in (clone.folder / "params.yaml").read_text()
    assert sum(path.is_file() for path in (tmp_path / "lab").rglob("*")) == 2
    assert "photos/one.jpg" in outputs["affectnet predict photos/ --model models/model.safetensors --csv"]
