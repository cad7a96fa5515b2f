"""Only the installation needs the network."""

import os
import sys
from pathlib import Path

import pytest
from clones import Clone
from tally import Tally

pytestmark = pytest.mark.usefixtures("real_programs")

ASK = "import socket; socket.create_connection(({!r}, 9), timeout=5)"


def test_what_a_clone_runs_never_asks_for_the_network(reproduced: Clone) -> None:
    reproduced.dvc("status")
    log = Path(os.environ["REFUSED_CONNECTIONS"])
    assert not log.exists(), log.read_text()


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org", "localhost"])
def test_what_asks_for_it_all_the_same_is_refused_and_written_down(fresh: Clone, tmp_path: Path, host: str) -> None:
    log = tmp_path / "refused.txt"
    done = fresh.attempt("env", f"REFUSED_CONNECTIONS={log}", "sh", "-c", f'{sys.executable} -c "{ASK.format(host)}"')
    assert done.returncode == 1 and ("the tests have no network" in done.stderr) == log.exists() == (host != "localhost")


@pytest.mark.stress
def test_the_pipeline_gives_the_same_bytes_where_there_is_no_network_at_all(
    fresh: Clone, reproduced: Clone, tmp_path: Path, tally: Tally
) -> None:
    isolated = ("unshare", "--map-root-user", "--net")
    if fresh.attempt(*isolated, "true").returncode:
        pytest.skip("the system grants no network namespace to this user")
    clone = fresh.copy(tmp_path / "clone")
    links = clone.run(*isolated, sys.executable, "-c", "import socket; print(*(name for _, name in socket.if_nameindex()))")
    assert links == "lo\n"
    clone.run(*isolated, "dvc", "repro")
    for name in ("dvc.lock", "metrics/evaluate.json"):
        assert (clone.folder / name).read_bytes() == (reproduced.folder / name).read_bytes(), name
    tally("dvc repro without a network", "same bytes")
