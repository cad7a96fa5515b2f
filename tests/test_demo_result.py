"""README shows the demo's result as it was recorded, whatever a user commits below metrics/."""

import json
import shutil
from pathlib import Path

import pytest
from chain import ROOT, committed
from clones import Clone

from affectnet.errors import UserError
from tools.demo_result import copy_result, picture, read_result, table_rows

RECORD = json.loads((ROOT / "docs" / "demo_result.json").read_text())


def test_readme_shows_the_recorded_result() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"\n{row}\n" in readme for row in table_rows(RECORD).values())
    assert (ROOT / "docs" / "demo_confusion.svg").read_text() == picture(RECORD)


def test_the_recorded_result_is_the_committed_one(tmp_path: Path) -> None:
    for name in ("metrics/evaluate.json", "metrics/evaluate/confusion.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(committed(name))
    if read_result(tmp_path) != RECORD:
        pytest.skip("README shows another result than metrics/, where yours is committed; to publish it in README, run `make readme`")


def test_who_commits_a_result_of_their_own_has_green_tests(reproduced: Clone, tmp_path: Path) -> None:
    assert read_result(reproduced.folder) != RECORD and reproduced.git("status", "--porcelain") == ""
    tests = ("tests/test_docs.py", "tests/test_demo_result.py", "-k", "not who_commits")
    # With a folder of its own; at its end pytest otherwise removes those of earlier sessions, which takes minutes.
    reproduced.run("python", "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temporary"), *tests)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with README and another result than the recorded one."""
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "README.md", tmp_path)
    metrics = json.loads((tmp_path / "metrics" / "evaluate.json").read_text())
    metrics["expression"] |= {"accuracy": 0.1234, "macro_f1": 0.2345}
    (tmp_path / "metrics" / "evaluate.json").write_text(json.dumps(metrics))
    (tmp_path / "metrics" / "evaluate" / "confusion.csv").write_text("actual,predicted\nHappy,Sad\nSad,Sad\n")
    return tmp_path


def test_a_result_changes_only_the_demos_table(repository: Path) -> None:
    copy_result(repository)
    before, after = (folder.joinpath("README.md").read_text().splitlines() for folder in (ROOT, repository))
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [line.rsplit(" | ", 2)[0].split(" | ")[:2] for line in changed] == [["| accuracy", "0.123"], ["| macro-F1", "0.234"]]
    record = json.loads((repository / "docs" / "demo_result.json").read_text())
    assert record["confusion"] == {"names": ["Happy", "Sad"], "counts": [[0, 1], [0, 1]]}
    assert (repository / "docs" / "demo_confusion.svg").read_text() == picture(record)


@pytest.mark.parametrize(("old", "new"), [("## The demo's result", "## Another"), ("| accuracy |", "| right |")])
def test_a_readme_without_the_table_is_one_line(repository: Path, old: str, new: str) -> None:
    readme = repository / "README.md"
    readme.write_text(readme.read_text().replace(old, new))
    with pytest.raises(UserError, match=r"README\.md: .*The demo's result"):
        copy_result(repository)
    assert not list((repository / "docs").iterdir())
