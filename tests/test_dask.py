"""verify and crop on a real Dask cluster: a scheduler and workers of one thread, as processes on the loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chain import local, run_stage
from ruamel.yaml import YAML
from trees import tree_2017

from affectnet.errors import UserError
from affectnet.params import Runtime
from affectnet.running import dask_cluster, parallel
from affectnet.running.dask_cluster import map_chunks
from stages import crop, verify

ROOT = Path(__file__).parent.parent


class Cluster:
    """A scheduler and its workers, which join one by one; running processes are ended at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, f"tcp://127.0.0.1:{_free_port()}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", self.address.rpartition(":")[2], "--no-dashboard")

    def start(self, kind: str, *arguments: str, code: Path = ROOT) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(code)}, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def worker(self, code: Path = ROOT) -> subprocess.Popen[bytes]:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--local-directory", str(self.folder))
        return self.start("worker", self.address, *options, code=code)

    def runtime(self) -> Runtime:
        return local().model_copy(update={"engine": "dask", "scheduler": self.address})

    def wait_for(self, workers: int) -> None:
        from distributed import Client  # noqa: PLC0415 (slow, and only for these tests)

        with Client(self.address, timeout=180, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            until(lambda: len(client.nthreads()) == workers)

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        for process in processes or self.processes:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer timeout, since other tests may run on this machine."""
    monkeypatch.setattr(dask_cluster, "CONNECT_S", 20.0)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two workers."""
    started = Cluster(tmp_path_factory.mktemp("dask"))
    try:
        started.worker()
        started.worker()
        started.wait_for(2)
        yield started
    finally:
        started.end()


def forget() -> None:
    shutil.rmtree(".dvc", ignore_errors=True)


def verified(runtime: Runtime) -> tuple[bytes, bytes]:
    """The bytes of the inventory and of the counts, with every file read again."""
    forget()
    verify.run(
        verify.VerifyParams(tolerance=1.0, follow_links=False),
        runtime,
        Path("data/raw"),
        inventory=Path("data/inventory.parquet"),
        metrics=Path("verify.json"),
    )
    return Path("data/inventory.parquet").read_bytes(), Path("verify.json").read_bytes()


def cropped(runtime: Runtime, rows_per_shard: int = 256) -> dict[str, bytes]:
    arguments = (Path("data/raw"), Path("data/inventory.parquet"), Path("data/annotations.parquet"))
    policy = {
        "image_px": 64,
        "margin": 0.1,
        "square": True,
        "align": False,
        "padding": "edge",
        "enlarge": False,
        "format": "jpeg",
        "quality": 95,
    }
    crop.run(crop.CropParams.model_validate({**policy, "rows_per_shard": rows_per_shard}), runtime, *arguments, faces=Path("data/faces"))
    return {path.name: path.read_bytes() for path in sorted(Path("data/faces").iterdir())}


def refusal(runtime: Runtime, root: Path) -> str:
    """The line of the refusal of a map over the cluster."""
    with pytest.raises(UserError) as caught:
        list(map_chunks(abs, range(3), runtime, root))
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_cluster_gives_the_bytes_of_one_machine(workspace: Path, two: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    tree_2017(workspace / "root").write(Path("data/raw"))
    assert verified(two.runtime()) == verified(local())
    run_stage("clean")
    monkeypatch.setattr(crop, "ROWS_PER_GROUP", 8)
    assert cropped(two.runtime()) == cropped(local())


def test_the_command_ships_its_own_code_and_a_workers_refusal_comes_back_as_one_line(workspace: Path, two: Cluster) -> None:
    tree_2017(workspace / "root").write(Path("data/raw"))
    yaml = YAML()
    document = yaml.load(Path("params.yaml"))
    document["runtime"].update(engine="dask", scheduler=two.address)
    document["verify"]["tolerance"] = 1.0
    yaml.dump(document, Path("params.yaml"))
    done = command("verify")
    assert (done.returncode, done.stderr) == (0, "") and "64 ok" in done.stdout
    assert Path("data/inventory.parquet").read_bytes() == verified(local())[0]
    run_stage("clean")
    next((workspace / "root").rglob("*.jpg")).write_bytes(b"another")
    done = command("crop")
    assert done.returncode == 2 and "has changed since verify read it" in done.stderr and len(done.stderr.splitlines()) == 1


def command(stage: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"], env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_order_is_kept_and_only_two_chunks_a_worker_are_under_way(tmp_path: Path, two: Cluster) -> None:
    taken: list[int] = []

    def chunks() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    for done, number in enumerate(map_chunks(abs, chunks(), two.runtime(), ROOT)):
        assert number == done and len(taken) - done <= 4
    assert len(taken) == 40


@pytest.mark.parametrize("stage", ["verify", "crop"])
def test_a_worker_that_is_killed_costs_nothing(workspace: Path, two: Cluster, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    tree_2017(workspace / "root", each=16).write(Path("data/raw"))
    verified(local())
    run_stage("clean")
    victim = two.worker()
    two.wait_for(3)

    def killing(items: Iterator[object], *_: object) -> Iterator[object]:
        for number, item in enumerate(items):
            if number == 3:
                victim.kill()
            yield item

    monkeypatch.setattr(verify, "CHUNK", 2)
    monkeypatch.setattr(crop, "ROWS_PER_GROUP", 2)
    work: Callable[[Runtime], object] = verified if stage == "verify" else cropped
    expected = work(local())
    monkeypatch.setattr({"verify": verify, "crop": crop}[stage], "progress", killing)
    assert work(two.runtime()) == expected
    assert victim.wait() == -signal.SIGKILL
    two.wait_for(2)


def test_what_is_missing_is_one_line(tmp_path: Path, two: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = two.runtime().model_copy(update={"scheduler": f"tcp://127.0.0.1:{_free_port()}"})
    with monkeypatch.context() as impatient:
        impatient.setattr(dask_cluster, "CONNECT_S", 1.0)
        assert "no Dask scheduler answers at tcp://127.0.0.1" in refusal(nowhere, ROOT)
        assert "no Dask scheduler answers at host" in refusal(nowhere.model_copy(update={"scheduler": "host"}), ROOT)
    assert "needs the address of a scheduler" in refusal(nowhere.model_copy(update={"scheduler": None}), ROOT)
    assert f"does not see {tmp_path}; mount" in refusal(two.runtime(), tmp_path)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install distributed" in refusal(two.runtime(), ROOT)


def test_a_server_that_is_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        assert f"no Dask scheduler answers at {address}" in refusal(
            local().model_copy(update={"engine": "dask", "scheduler": address}), ROOT
        )


def test_workers_of_other_code_or_without_it_and_a_cluster_that_goes_away_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "CHECK_AFTER_S", 0.5)
    shutil.copytree(ROOT / "affectnet", tmp_path / "older" / "affectnet")
    with (tmp_path / "older" / "affectnet" / "images" / "crop.py").open("a") as file:
        file.write("# another crop\n")
    absent = tmp_path / "without" / "affectnet"  # as where the package is not installed
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'affectnet'\")\n")
    started = Cluster(tmp_path)
    try:
        runtime = started.runtime()
        started.wait_for(0)  # until the scheduler answers
        assert "has no worker; start some" in refusal(runtime, ROOT)
        for code, words in ((tmp_path / "older", "affectnet is "), (absent.parent, "No module named")):
            worker = started.worker(code)
            started.wait_for(1)
            line = refusal(runtime, ROOT)
            assert words in line and "the worker tcp://127.0.0.1:" in line
            started.end(worker)
            started.wait_for(0)
        last = started.worker()
        started.wait_for(1)

        def join() -> None:
            late.append(started.worker(tmp_path / "older"))
            started.wait_for(2)

        late: list[subprocess.Popen[bytes]] = []
        assert "the worker on " in (line := refusal_after(runtime, join)) and "affectnet is " in line
        started.end(*late)
        started.wait_for(1)
        assert "has no worker left" in refusal_after(runtime, lambda: started.end(last))
        started.worker()
        started.wait_for(1)
        assert "has gone away" in refusal_after(runtime, lambda: started.end(started.scheduler))
    finally:
        started.end()


def refusal_after(runtime: Runtime, loss: Callable[[], None]) -> str:
    """The line with which a run ends that loses its cluster."""
    with pytest.raises(UserError) as caught:
        for number, _ in enumerate(map_chunks(time.sleep, [0.05] * 200, runtime, ROOT)):
            if number == 3:
                loss()
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)
    return str(caught.value)
