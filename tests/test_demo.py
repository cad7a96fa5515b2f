"""The server of `affectnet demo`, the page's files, and what is refused in one line."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from chain import ROOT, TINY
from clones import ENVIRONMENT
from model_files import metadata

from affectnet.__main__ import main
from affectnet.engines.onnx_export import export_network
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.network import build
from affectnet.predict.defaults import SHIPPED
from affectnet.predict.predictor import Predictor
from affectnet.web import server, site
from affectnet.web.example import example
from affectnet.web.site import Files, Reading, site_files

SOURCES = {path.name: path for path in (ROOT / "page").iterdir() if path.suffix in {".css", ".html", ".mjs", ".svg", ".txt"}}


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built page without its runtime, which only browsers need."""
    folder = tmp_path / "built"
    folder.mkdir()
    for name, path in SOURCES.items():
        (folder / name).write_bytes(path.read_bytes())
    monkeypatch.setattr(site, "BUILT", folder)
    return folder


@pytest.fixture
def files(built: Path) -> Files:
    return site_files(SHIPPED, Reading())


@pytest.fixture
def port(files: Files) -> Iterator[int]:
    with server.page_server(files, 0, ["Box.example.org"]) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers in lower case."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    result = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return result


def test_it_serves_its_files_and_no_others(port: int, files: Files) -> None:
    for name in ("", *files):
        status, body, headers = ask(port, f"/{name}?query")
        assert (status, body) == (200, files[name or "index.html"]), name
        assert headers["cross-origin-opener-policy"] == "same-origin" and headers["cross-origin-embedder-policy"] == "require-corp"
        assert "server" not in headers or headers["server"] == "affectnet"
    assert ask(port, "/worker.mjs")[2]["content-type"].startswith("text/javascript")
    status, body, headers = ask(port, "/model.onnx", "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(SHIPPED.stat().st_size))
    for path in ("/../settings.json", "/%2e%2e/etc/passwd", "//etc/passwd", "/runtime", "/none", "/" + "a" * 9000):
        assert ask(port, path)[0] == 404, path
    assert ask(port, "/", "POST")[0] == 501


def test_only_its_own_hosts_are_answered(port: int) -> None:
    for host in (f"127.0.0.1:{port}", f"LOCALHOST:{port}", "box.example.org"):
        assert ask(port, "/", Host=host)[0] == 200, host
    for host in ("example.org", f"example.org:{port}", "evil-box.example.org", "box.example.org:81"):
        status, body, _ = ask(port, "/", Host=host)
        assert status == 403 and f"affectnet demo --host {host}\n".encode() in body
    assert ask(port, "/", Host="<script>")[:2] == (403, b"refused\n")


def test_the_page_knows_the_model_the_detector_and_the_constants(files: Files) -> None:
    known = json.loads(files["settings.json"])
    metadata = Predictor.load().metadata
    assert known["model"]["labels"] == list(metadata.labels) and known["model"]["crop"] == metadata.crop
    assert known["detector"] in known["model"]["box_maps"] and known["model_bytes"] == len(files["model.onnx"])
    assert {"Data set", "Licence", "Limits"} <= {name.capitalize() for name in known["facts"]}
    text = b"".join(content for name, content in files.items() if name.endswith(".mjs")).decode()
    for section, name in (("yunet", "constants"), ("tracks", "constants")):
        assert all(key in text for key in known[section]), name
    assert files["model.md"] == SHIPPED.with_suffix(".md").read_bytes() and b"libfacedetection" in files["licences.txt"]


def test_the_card_of_another_model_in_the_folder_is_not_published(built: Path, workspace: Path) -> None:
    (workspace / "model_card.md").write_text("of model.onnx")
    for name, published in (("other.onnx", False), ("model.onnx", True)):
        (workspace / name).write_bytes(SHIPPED.read_bytes())
        files = site_files(workspace / name, Reading())
        assert ("model.md" in files, json.loads(files["settings.json"])["card"]) == (published, published)


def test_the_example_is_the_same_each_time_and_its_faces_are_detected() -> None:
    assert example() == example() and len(Predictor.load().predict(example())) == 3


def test_a_site_is_written_and_written_again_but_over_nothing_else(
    built: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--site", "site"]) == 0 and " MB in site\n" in capsys.readouterr().err
    assert Path("site/model.onnx").read_bytes() == SHIPPED.read_bytes()
    (Path("site") / "stale.txt").touch()
    assert main(["demo", "--site", "site", "--averaging", "none"]) == 0
    assert not Path("site/stale.txt").exists() and json.loads(Path("site/settings.json").read_text())["averaging"] == "none"
    Path("mine").mkdir()
    Path("mine/thesis.txt").touch()
    capsys.readouterr()
    for folder in ("mine", "mine/thesis.txt"):
        assert main(["demo", "--site", folder]) == 2
        assert (
            capsys.readouterr().err == f"error: {folder}: exists and is not a page that was written here; give the name of a new folder\n"
        )
    assert Path("mine/thesis.txt").is_file()


def test_a_page_of_a_model_of_levelled_crops_says_so(built: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described = metadata(crop={**metadata().crop, "align": True})
    Path("levelled.onnx").write_bytes(export_network(build(ModelParams.model_validate(TINY), 8), described))
    assert main(["demo", "--model", "levelled.onnx", "--site", "site"]) == 0
    assert "demo: WARNING: levelled.onnx: its training crops are levelled by 68 landmarks" in capsys.readouterr().err


def test_what_a_browser_cannot_run_is_one_line(built: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = ROOT / "pretrained" / "fer2013.safetensors"
    Path("text.onnx").write_text("no model")
    lines = {
        ("--model", str(weights)): f"error: {weights}: a browser runs only ONNX files; give the model.onnx that `dvc repro export` writes",
        ("--model", "text.onnx"): "error: text.onnx: not a readable ONNX file",
        ("--model", "none.onnx"): "error: none.onnx: missing",
        ("--detector", "haar"): "error: --detector haar: a cascade of OpenCV, which the page cannot run",
        ("--detector", "none"): "error: detector: 'none' is neither a file nor one of",
    }
    for arguments, line in lines.items():
        assert main(["demo", *arguments]) == 2
        err = capsys.readouterr().err
        assert err.startswith(line) and err.count("\n") == 1, err


def test_a_wheel_takes_every_file_of_the_built_page() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["affectnet"]
    for name in (*SOURCES, "runtime/ort-wasm-simd-threaded.wasm.gz"):
        path = PurePosixPath("/", site.BUILT.relative_to(ROOT / "affectnet").as_posix(), name)
        assert any(path.match(f"/{pattern}") for pattern in patterns), name


def test_a_page_that_is_not_built_says_how_to_build_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(site, "BUILT", tmp_path)
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: the page is not built; run `make page` in a clone of the project, which needs Node 20 with npm\n"
    )


@pytest.mark.parametrize("host", ["https://localhost:8000", "a b", "", "*", "localhost:port", "a/b"])
def test_a_host_that_is_none_is_one_line(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "--host", host])
    err = capsys.readouterr().err
    assert "is not a host such as localhost:8000" in err and err.count("\n") == 1


def test_a_port_that_is_taken_or_none_is_one_line(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["demo", "--port", port]) == 2
    assert capsys.readouterr().err == f"error: --port: {port} cannot be used: Address already in use; give another, or 0 for any\n"
    with pytest.raises(SystemExit):
        main(["demo", "--port", "70000"])
    assert capsys.readouterr().err.startswith("error: argument --port: '70000' is not a port from 0 to 65535")


PROGRAM = """
import sys
from pathlib import Path
from affectnet.__main__ import main
from affectnet.web import site
site.BUILT = Path(sys.argv[1])
raise SystemExit(main(["demo", "--port", "0"]))
"""


def test_the_command_serves_until_it_is_ended(built: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(built)]
    process = subprocess.Popen(command, env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = process.stderr.readline()
    port = int(address.removeprefix("demo: http://127.0.0.1:").removesuffix(", Ctrl-C ends it\n"))
    assert ask(port, "/")[0] == 200
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1] == "interrupted\n" and process.returncode == 130
