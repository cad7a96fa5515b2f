"""The commands of docs/tutorial.md name what exists: options of DVC, stages, params, modules."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from dvc.cli import parse_args
from dvc.utils.hydra import apply_overrides

from affectnet.launch import arguments
from affectnet.params import read_document
from stages import acquire, clean, crop, evaluate, rebalance, train, verify

ROOT = Path(__file__).parent.parent
STAGES = {"acquire": acquire, "verify": verify, "clean": clean, "crop": crop, "rebalance": rebalance, "train": train, "evaluate": evaluate}
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("dvc ")])
def test_dvc_takes_the_command_and_its_stages_and_params_exist(command: str, workspace: Path) -> None:
    parsed = parse_args(shlex.split(command)[1:])
    if parsed.cmd == "repro":
        assert set(parsed.targets) <= set(STAGES)
    if changes := getattr(parsed, "set_param", None):
        known = read_document(workspace / "params.yaml")
        assert {change.partition("=")[0].split(".")[0] for change in changes} <= set(known)
        apply_overrides(workspace / "params.yaml", changes)
        for stage in STAGES.values():
            assert arguments(stage.run)


def test_the_other_commands_exist() -> None:
    others = [shlex.split(line) for line in COMMANDS if not line.startswith(("dvc ", "git "))]
    assert {words[0] for words in others} == {"python", "affectnet"}
    for words in others:
        module, options = (words[2], []) if words[0] == "python" else ("affectnet", [words[1]])
        assert find_spec(module)
        shown = subprocess.run(
            [sys.executable, "-m", module, *options, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert {word for word in words[2:] if word.startswith("--")} <= set(re.findall(r"--\w+", shown))
    assert len(COMMANDS) > 15


def test_the_counts_shown_are_the_committed_ones() -> None:
    counts = read_document(ROOT / "metrics" / "verify.json")
    shown = re.findall(r'"(\w+)": (\d+)', TEXT)
    assert len(shown) == 6 and all(counts[name] == int(value) for name, value in shown)
