"""The setup of every test: no network, a separate folder for DVC's state, few threads."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

# Before torch and the commands of the tests: threads of several processes wait by spinning, and take the processor from one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hypothesis
import pytest
from chain import place_pipeline, run_data_stages
from clones import ENVIRONMENT, Clone, working_tree
from quick import is_quick
from tally import Tally, add_to, table
from trees import tree_2017
from warm.launch import warm_server

# The same cases in every run, except for constants that Hypothesis takes from the loaded modules; no deadline.
hypothesis.settings.register_profile("repeated", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeated")

LONGEST = (
    "test_kills.py",
    "test_train.py",
    "test_page.py",
    "test_distributed.py",
    "test_search.py",
    "test_experiments.py",
    "test_dask.py",
    "test_concurrent.py",
    "test_benchmarks.py",
    "test_outside_changes.py",
    "test_sharing.py",
    "test_gpu_program.py",
    "test_backbone_families.py",
    "test_export.py",
    "test_engines.py",
    "test_detect.py",
    "test_own_copy.py",
    "test_searches.py",
    "test_faults.py",
)
"""Files that take longest, the longest first. Of the first four, one per worker, only the first needs the reproduced clone and makes it for
all: a worker that needs it meanwhile would wait."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only the files without torch, DVC, pages, searches and clusters")


def pytest_configure(config: pytest.Config) -> None:
    """Starts the warm server, once for all workers; where there is one already, or WARM=0, there is none of this run."""
    if "WARM" not in os.environ and hasattr(os, "pidfd_open"):
        running = ExitStack()
        os.environ["WARM"] = running.enter_context(warm_server(ENVIRONMENT))
        config.add_cleanup(running.close)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --quick, slow files are not even imported."""
    slow = config.getoption("--quick") and collection_path.name.startswith("test_") and not is_quick(collection_path)
    return True if slow else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files begin first, so that no worker runs one by itself at the end."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _separate_dvc_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("dvc")
    os.environ.update(DVC_SITE_CACHE_DIR=str(home / "site"), DVC_GLOBAL_CONFIG_DIR=str(home / "global"), DVC_NO_ANALYTICS="1")
    refused = home / "refused.txt"
    os.environ["REFUSED_CONNECTIONS"] = str(refused)
    yield
    assert not refused.exists(), f"a command in a clone asked for the network:\n{refused.read_text()}"


@pytest.fixture
def real_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of kills, faults and concurrent use: no command runs in a fork of the warm server."""
    monkeypatch.setenv("WARM", "0")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder: empty but for the project's params.yaml and dvc.yaml."""
    place_pipeline(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.fixture(scope="session")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the data stages have run, which tests copy."""
    folder = tmp_path_factory.mktemp("prepared")
    place_pipeline(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_data_stages(tree_2017(folder / "root", each=8, tests=4), clean={"validation_share": 0.25})
    return folder


@pytest.fixture
def prepared(workspace: Path, prepared_once: Path) -> Path:
    """The working folder after the data stages, over 8 training photographs and 4 test photographs per expression."""
    shutil.copytree(prepared_once, workspace, dirs_exist_ok=True)
    return workspace


@pytest.fixture
def repository(workspace: Path) -> Clone:
    """The workspace as a Git repository with one commit, without DVC."""
    clone = Clone(workspace)
    for command in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "first")):
        clone.git(*command)
    return clone


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which nothing has run."""
    return working_tree(tmp_path_factory.mktemp("fresh") / "clone")


@pytest.fixture(scope="session")
def made(fresh: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the reproduced clone and the seconds of its stages, which the first worker makes for all."""
    from running import durations  # noqa: PLC0415 (imports torch, which quick tests do without)

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            half = tmp_path_factory.mktemp("half")
            clone = fresh.copy(half / "clone")
            (half / "seconds.json").write_text(json.dumps(durations(clone)))
            shutil.rmtree(clone.folder / ".dvc" / "tmp" / "affectnet" / "resume")  # so that a forced training trains
            clone.git("add", "--all")
            clone.git("commit", "--quiet", "--message", "reproduced")
            half.rename(folder)
    return folder


@pytest.fixture(scope="session")
def reproduced(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """This worker's clone after `dvc repro` and a commit of the changes; tests copy it before they change anything."""
    return Clone(made / "clone").copy(tmp_path_factory.mktemp("reproduced") / "clone")


@pytest.fixture(scope="session")
def seconds(made: Path) -> dict[str, float]:
    """The seconds of each stage when undisturbed."""
    seconds_by_stage: dict[str, float] = json.loads((made / "seconds.json").read_text())
    return seconds_by_stage


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Counts outcomes for the table that is printed after the tests."""
    return add_to(request.node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    done = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    for line in table(done):
        terminalreporter.write_line(line)
