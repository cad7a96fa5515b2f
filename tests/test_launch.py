from pathlib import Path

import pytest

from affectnet.errors import UserError
from affectnet.running.run_stage import arguments, stage_paths
from stages.rebalance import run


def test_paths_are_named_by_their_stems_and_code_is_no_argument() -> None:
    entry = {
        "meta": {"reads": ["data/raw"]},
        "deps": ["data/inventory.parquet", "stages/clean.py"],
        "outs": ["data/annotations.parquet", {"metrics/clean/table.csv": {"cache": False}}],
        "metrics": [{"metrics/clean.json": {"cache": False}}],
    }
    assert stage_paths(entry, "clean") == {
        "raw": Path("data/raw"),
        "inventory": Path("data/inventory.parquet"),
        "annotations": Path("data/annotations.parquet"),
        "table": Path("metrics/clean/table.csv"),
        "metrics": Path("metrics/clean.json"),
    }


def test_two_paths_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two paths are called 'a'"):
        stage_paths({"deps": ["data/a.csv", "models/a.bin"]}, "clean")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", "unreadable YAML"),
        ("- a list\n", "not a mapping"),
        ("stages:\n", "stages.rebalance is missing"),
        ("stages: {rebalance: 3}\n", "stages.rebalance is missing or not a mapping"),
        ("stages: {rebalance: {deps: [data/annotations.parquet]}}\n", "stages.rebalance: no path is called 'plan'"),
    ],
)
def test_a_broken_pipeline_file_is_one_line(workspace: Path, text: str, message: str) -> None:
    Path("dvc.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        arguments(run)
    assert str(raised.value).startswith("dvc.yaml: ") and "\n" not in str(raised.value)
