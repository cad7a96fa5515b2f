"""What every test stands on: no network, DVC's state in a folder of its own, few threads."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and the commands of the tests: threads of several processes wait by spinning

import pytest
from clones import Clone, working_tree
from tally import Tally, add_to, table

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def _dvc_state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("dvc")
    os.environ.update(DVC_SITE_CACHE_DIR=str(home / "site"), DVC_GLOBAL_CONFIG_DIR=str(home / "global"), DVC_NO_ANALYTICS="1")
    refused = home / "refused.txt"
    os.environ["REFUSED_CONNECTIONS"] = str(refused)
    yield
    assert not refused.exists(), f"a command in a clone asked for the network:\n{refused.read_text()}"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder as the working folder, with the project's params.yaml and dvc.yaml in it."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Never reproduced."""
    return working_tree(tmp_path_factory.mktemp("fresh") / "clone")


@pytest.fixture(scope="session")
def reproduced(fresh: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """After `dvc repro` and a commit of what it changed; tests copy it before they change anything."""
    clone = fresh.copy(tmp_path_factory.mktemp("reproduced") / "clone")
    clone.dvc("repro")
    clone.git("commit", "--quiet", "--all", "--message", "reproduced")
    return clone


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Counts outcomes for the table that is printed after the tests."""
    return add_to(request.node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    done = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    for line in table(done):
        terminalreporter.write_line(line)
