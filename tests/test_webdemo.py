"""`affectnet demo` in a real browser and by plain requests: its texts, its refusals, and that nothing is kept."""

import asyncio
import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import ROOT
from clones import ENVIRONMENT
from PIL import Image
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright
from portraits import MODEL, drawn, write_model

from affectnet.__main__ import main
from affectnet.expressions import EXPRESSIONS
from affectnet.images.data_uri import data_uri
from affectnet.models.transforms import all_grey
from affectnet.predict.predictor import Face, Predictor
from affectnet.web import page, request_filter, server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWITCHES = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--disable-dev-shm-usage"]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; `apt-get install chromium` brings it")

RESULT = "#result"
ROWS = f"{RESULT} .face-{{}} tr"


@dataclass
class Served:
    """A running `affectnet demo`: its process, its port, and the folder of its temporary files."""

    process: subprocess.Popen[str]
    port: int
    temporary: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body. headers: `_` for `-`; browser headers are sent as named."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        result = answer.status, answer.read()
        connection.close()
        return result

    def upload(self, name: str, content: bytes, **headers: str) -> tuple[int, bytes]:
        edge = "edge"
        head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        kind = f"multipart/form-data; boundary={edge}"
        return self.ask("POST", "/gradio_api/upload", head + content + f"\r\n--{edge}--\r\n".encode(), Content_Type=kind, **headers)

    def predict(self, payload: dict[str, Any]) -> str:
        """The HTML that the page gets for this payload."""
        body = {"data": [payload], "fn_index": 0, "session_hash": "test", "trigger_id": None, "event_data": None}
        status, _ = self.ask("POST", "/gradio_api/queue/join", json.dumps(body).encode(), Content_Type="application/json")
        assert status == 200
        events = self.ask("GET", "/gradio_api/queue/data?session_hash=test")[1].decode()
        (done,) = (event for line in events.splitlines() if line and (event := json.loads(line[6:]))["msg"] == "process_completed")
        assert done["success"], done
        html: str = done["output"]["data"][1]
        return html

    def kept(self) -> list[Path]:
        """All files below the temporary folder."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]


def serve(folder: Path, *arguments: str) -> Served:
    """Serves the model of the working folder, in an environment whose variables would expose it."""
    folder.mkdir()
    opened = {"GRADIO_ALLOWED_PATHS": "/", "GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_TEMP_DIR": str(folder.parent)}
    path = os.pathsep.join((str(ROOT), ENVIRONMENT["PYTHONPATH"]))
    environment = {**ENVIRONMENT, **os.environ, **opened, "TMPDIR": str(folder), "PYTHONPATH": path}
    command = [sys.executable, "-m", "affectnet", "demo", "--port", "0", "--model", "models/model.safetensors", *arguments]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    address = re.fullmatch(r"demo: http://127\.0\.0\.1:(\d+), Ctrl-C ends it\n", line)
    if address is None:
        process.kill()
        pytest.fail(line + process.stderr.read())
    return Served(process, int(address[1]), folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("demo"))
        write_model()
        demo = serve(Path("temporary").absolute())
    try:
        yield demo
        assert demo.upload("a.png", b"that nobody asks about")[0] == 200 and len(demo.kept()) == 1
        demo.process.send_signal(signal.SIGTERM)
        said = demo.process.communicate(timeout=30)[1]
    finally:
        demo.process.kill()
        demo.process.communicate()
    assert (demo.process.returncode, said) == (130, "interrupted\n")  # without a traceback in all tests of this file
    assert list(demo.temporary.iterdir()) == []


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """One for all tests."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield started.new_context(viewport={"width": 1120, "height": 900}, permissions=["clipboard-read", "clipboard-write", "camera"])
        started.close()


@pytest.fixture
def opened(browser: BrowserContext, served: Served) -> Iterator[Page]:
    """The page, whose console must have no errors, and which may send requests only to its server."""
    tab = browser.new_page()
    wrong: list[str] = []

    def record_error(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    def record_request(request: Request) -> None:
        if not request.url.startswith((f"http://127.0.0.1:{served.port}/", "data:", f"blob:http://127.0.0.1:{served.port}/")):
            wrong.append(request.url)

    tab.on("console", record_error)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", record_request)
    answer = tab.goto(f"http://127.0.0.1:{served.port}/")
    assert answer is not None and answer.headers["content-security-policy"].startswith("default-src 'self'")
    expect(tab.locator(f"{RESULT} .empty")).to_be_visible()
    yield tab
    assert wrong == []
    tab.close()
    assert served.kept() == []


def give(tab: Page, path: Path) -> None:
    tab.set_input_files("#photograph input[type=file]", path)


def two_faces(path: Path) -> Path:
    photograph = Image.new("RGB", (640, 320), "grey")
    photograph.paste(drawn().resize((200, 200)), (20, 60))
    photograph.paste(drawn(), (320, 0))
    photograph.save(path)
    return path


def rows(tab: Page, number: int) -> dict[str, float]:
    """The bars of one face: expression → the printed probability."""
    lines = (line.inner_text().split() for line in tab.locator(ROWS.format(number)).all())
    return {name: float(value) for name, value in lines}


def rounded(face: Face) -> dict[str, Any]:
    return {name: pytest.approx(value, abs=0.0051) for name, value in face.probabilities.items()}


@needs_chromium
def test_the_page_says_what_the_predictor_says(opened: Page, served: Served, tmp_path: Path) -> None:
    expected = Predictor.load(served.temporary.parent / MODEL).predict(two_faces(tmp_path / "two.png"))
    give(opened, tmp_path / "two.png")
    expect(opened.get_by_role("group", name="Face").get_by_role("radio")).to_have_count(2)
    assert list(rows(opened, 1)) == list(EXPRESSIONS) and rows(opened, 1) == rounded(expected[0])
    assert opened.get_by_role("img", name="2 faces framed and numbered").is_visible()
    first, second = (opened.locator(f"{RESULT} section.face-{number}") for number in (1, 2))
    assert first.is_visible() and not second.is_visible()

    opened.get_by_role("radio", name="1").focus()
    opened.keyboard.press("ArrowRight")
    expect(second).to_be_visible()
    assert not first.is_visible() and rows(opened, 2) == rounded(expected[1])
    face = expected[1]
    assert face.valence is not None and face.arousal is not None
    circle = second.get_by_role("img", name=f"valence {face.valence:+.2f}, arousal {face.arousal:+.2f}")
    dot = circle.locator("circle").last
    at = float(dot.get_attribute("cx") or "nan"), float(dot.get_attribute("cy") or "nan")
    assert at == pytest.approx((100 * face.valence, -100 * face.arousal), abs=0.06)

    opened.locator(f"{RESULT} .shot label").first.click()
    expect(first).to_be_visible()


@needs_chromium
def test_what_is_no_photograph_is_a_line_on_the_page(opened: Page, tmp_path: Path) -> None:
    drawn().save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:300])
    (tmp_path / "text.jpg").write_text("no photograph")
    (tmp_path / "empty.png").touch()
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    give(opened, tmp_path / "whole.jpg")
    expect(opened.locator(f"{RESULT} .shot")).to_be_visible()
    said = (  # each line differs from that of the file before
        ("text.jpg", "unreadable image: in none of the formats"),
        ("large.png", "9,000 × 9,000 px, more than 64 million px; make it smaller"),
        ("cut.jpg", "unreadable image: "),
        ("drawing.svg", "unreadable image: in none of the formats"),
        ("bomb.png", "more than 64 million px; make it smaller"),
        ("empty.png", "unreadable image: in none of the formats"),
    )
    for name, line in said:
        give(opened, tmp_path / name)
        expect(opened.get_by_role("alert").filter(has_text=f"photograph: {line}")).to_be_visible()
        assert opened.locator(f"{RESULT} .shot").count() == 0


@needs_chromium
def test_a_photograph_without_a_face_is_predicted_whole_and_says_so(opened: Page, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "nobody.png")
    give(opened, tmp_path / "nobody.png")
    expect(opened.get_by_role("alert").filter(has_text="The prediction is for the whole photograph")).to_be_visible()
    expect(opened.locator(f"{RESULT} .shot")).to_be_visible()
    expect(opened.locator(ROWS.format(1))).to_have_count(8)
    drawn().save(tmp_path / "somebody.png")
    give(opened, tmp_path / "somebody.png")
    expect(opened.get_by_role("alert")).to_have_count(0)


@needs_chromium
def test_a_file_too_large_is_refused_before_it_is_sent(opened: Page, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(request_filter.MAX_UPLOAD_BYTES + 1))
    give(opened, tmp_path / "large.jpg")
    expect(opened.get_by_text("exceed the maximum allowed size of 20.0 Mb")).to_be_visible()


@needs_chromium
def test_the_webcam_and_the_keyboard_work(opened: Page) -> None:
    with opened.expect_file_chooser():
        opened.get_by_role("button", name="to upload").focus()
        opened.keyboard.press("Enter")
    opened.get_by_role("button", name="Capture from camera").focus()
    opened.keyboard.press("Enter")
    opened.get_by_text("Click to Access Webcam").click()
    opened.wait_for_function("document.querySelector('video')?.videoWidth > 0")
    opened.get_by_role("button", name="capture photo").click()
    expect(opened.get_by_role("alert").filter(has_text="No face was detected")).to_be_visible()


CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = rgb => { const [r, g, b] = rgb.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = node => { for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor);
    if (c.length === 3 || c[3] > 0.5) return c.slice(0, 3); } return [255, 255, 255]; };
  const ratios = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) { const node = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
    if (!text || node.closest("script, style") || !node.checkVisibility({checkVisibilityCSS: true})) continue;
    const style = getComputedStyle(node), svg = node.closest("svg");
    const [a, b] = [light(parse(svg ? style.fill : style.color)), light(ground(node))].sort((x, y) => y - x);
    ratios.push([text, (a + 0.05) / (b + 0.05)]); }
  return ratios; }"""


COPY = """async address => {
  const picture = await (await fetch(address)).blob();
  await navigator.clipboard.write([new ClipboardItem({"image/png": picture})]); }"""


@needs_chromium
def test_a_photograph_is_pasted(opened: Page) -> None:
    opened.evaluate(COPY, data_uri(np.asarray(drawn()), "PNG"))
    opened.get_by_role("button", name="Paste from clipboard").click()
    expect(opened.get_by_role("img", name="1 face framed and numbered")).to_be_visible()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_and_controls_have_names(scheme: Any, opened: Page, tmp_path: Path) -> None:
    opened.emulate_media(color_scheme=scheme)
    opened.reload()
    expect(opened.locator(f"{RESULT} .empty")).to_be_visible()
    give(opened, two_faces(tmp_path / "two.png"))
    expect(opened.locator(f"{RESULT} .shot")).to_be_visible()
    contrasts = opened.evaluate(CONTRAST)
    assert len(contrasts) > 30 and [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []
    dark = opened.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(v => v < 60)")
    assert dark == (scheme == "dark")
    named = opened.evaluate(
        "[...document.querySelectorAll('button, input:not([type=file])')].filter(e => e.checkVisibility())"
        ".map(e => [e.outerHTML, e.ariaLabel || e.title || e.innerText || [...(e.labels || [])].map(l => l.innerText).join('')])"
    )
    assert len(named) >= 6 and [html for html, name in named if not name.strip()] == []
    assert opened.locator("h1").count() == 1


def test_no_file_of_the_server_can_be_had(served: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder,) = served.temporary.iterdir()
    (folder / "link.txt").symlink_to(secret)
    (folder / "own.txt").write_text("secret")
    paths = (secret, "/etc/passwd", folder / ".." / ".." / ".." / "demo0", ROOT / "README.md", folder / "link.txt", folder / "own.txt")
    forms = [
        f"{prefix}{path}" for path in paths for prefix in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/gradio_api/file=/../")
    ]
    forms += [form.replace("..", "%2e%2e") for form in forms] + ["/static/../../../routes.py", "/assets/..%2f..%2f..%2froutes.py"]
    for form in (*forms, "/gradio_api/file=http://127.0.0.1/", "/gradio_api/proxy=http://127.0.0.1/"):
        status, body = served.ask("GET", form)
        assert (status, body) == (200, request_filter.BLANK) or status in {403, 404}, (form, status)
    for path in (*paths[:-1], "http://127.0.0.1:1/x.png", "relative.png", "", "\0"):
        described = {"path": str(path), "url": None, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
        assert "no longer there" in served.predict(described), path
        assert "unreadable image" in served.predict({"path": str(folder / "own.txt"), "other": described, "meta": described["meta"]})
        (folder / "own.txt").write_text("secret")
    assert sorted(served.kept()) == [folder / "link.txt", folder / "own.txt"]  # nothing was copied there
    assert secret.read_text() == "secret" and (folder / "link.txt").is_symlink()
    for name in ("link.txt", "own.txt"):
        (folder / name).unlink()


def test_only_its_own_page_is_answered(served: Served) -> None:
    address = f"http://127.0.0.1:{served.port}"
    assert served.ask("GET", "/")[0] == served.ask("GET", "/", Host=f"localhost:{served.port}")[0] == 200
    assert served.ask("GET", "/", Host="example.org")[0] == served.ask("GET", "/", Host=f"example.org:{served.port}")[0] == 403
    foreign: tuple[dict[str, str], ...] = (
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Origin": f"http://localhost:{served.port}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    )
    for headers in foreign:
        assert served.upload("a.png", b"", **headers)[0] == 403
    status, body = served.upload("../../a b.png", b"content", Origin=address, Sec_Fetch_Site="same-origin")
    (path,) = (Path(name) for name in json.loads(body))
    assert status == 200 and path.read_bytes() == b"content" and served.temporary in path.parents
    assert "unreadable image" in served.predict({"path": str(path)})
    assert served.kept() == [] and not path.parent.exists()
    closed = ("info", "openapi.json", "call/predict", "run/predict", "api/predict", "startup-events", "vibe-code", "runs", "app_id")
    for name in (*(f"/gradio_api/{name}" for name in closed), "/docs", "/openapi.json", "/monitoring", "/login", "/gradio_api/mcp/"):
        assert {served.ask(method, name, b"{}" if method == "POST" else None)[0] for method in ("GET", "POST")} == {404}, name


def test_a_page_behind_a_forwarded_port_says_where_it_answers_and_how_to_let_it_through(served: Served, tmp_path: Path) -> None:
    status, body = served.ask("GET", "/", Host="localhost:8000")
    said = f"refused: this page is at http://127.0.0.1:{served.port} and http://localhost:{served.port}, not at localhost:8000."
    assert status == 403 and body.decode().startswith(said) and "affectnet demo --host localhost:8000" in body.decode()
    assert served.ask("GET", "/", Host="<script>")[1] == b"refused\n"


def test_a_host_that_was_named_is_answered_and_no_other(tmp_path: Path) -> None:
    async def answered(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    opened = request_filter.RequestFilter(answered, 7860, tmp_path, ["localhost:8000", "Box.example.org"])

    def status(host: str, **headers: str) -> int:
        pairs = [(b"host", host.encode()), *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())]
        scope = {"type": "http", "path": "/", "method": "GET", "query_string": b"", "headers": pairs}
        events: list[Any] = []

        async def send(event: Any) -> None:
            events.append(event)

        with ThreadPoolExecutor(1) as other_thread:  # the browser's tests leave an event loop running in this one
            other_thread.submit(asyncio.run, opened(scope, None, send)).result()
        return int(events[0]["status"])

    assert {status(host) for host in ("localhost:8000", "box.example.org", "localhost:7860", "127.0.0.1:7860")} == {200}
    assert status("box.example.org", origin="https://box.example.org", sec_fetch_site="same-origin") == 200
    assert {status(host) for host in ("localhost:8001", "box.example.org:81", "example.org", "evil-box.example.org", "")} == {403}
    assert status("box.example.org", origin="https://evil.example") == status("localhost:8000", sec_fetch_site="cross-site") == 403


@pytest.mark.parametrize("host", ["https://localhost:8000", "a b", "", "*", "localhost:port", "a/b"])
def test_a_host_that_is_none_is_one_line(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "--host", host])
    err = capsys.readouterr().err
    assert "is not a host such as localhost:8000" in err and err.count("\n") == 1


def test_what_is_too_long_is_refused_before_it_is_read(served: Served) -> None:
    long = str(request_filter.MAX_UPLOAD_BYTES * 2)
    assert served.ask("POST", "/gradio_api/upload", b"x", Content_Length=long)[0] == 413
    assert served.ask("POST", "/gradio_api/queue/join", b" " * (request_filter.MAX_REQUEST_BYTES + 1))[0] == 413
    assert served.ask("POST", "/gradio_api/queue/join", None, Transfer_Encoding="chunked")[0] == 413
    assert served.upload("a.png", bytes(request_filter.MAX_UPLOAD_BYTES + 1))[0] == 413
    for asked in (b"", b"[]", b'{"data": []}', b'{"data": [{"path": 3}], "session_hash": ""}', b"[" * 60_000):
        assert served.ask("POST", "/gradio_api/queue/join", asked)[0] == 400
    assert served.kept() == []


def with_faces(**changes: Any) -> str:
    """The page of a drawn photograph by a model with this metadata."""
    write_model(**changes)
    predictor = Predictor.load(MODEL)
    drawn().save("face.png")
    return page.about(predictor.metadata) + server.predict_html(predictor, Path("face.png").read_bytes())


def test_a_model_of_seven_expressions_has_seven_bars(workspace: Path) -> None:
    html = with_faces(labels=EXPRESSIONS[:7], affect=False)
    assert re.findall(r'<th scope="row">(\w+)', html) == list(EXPRESSIONS[:7])
    assert f"<dd>{', '.join(EXPRESSIONS[:7])}</dd>" in html
    assert "This model predicts no valence and arousal." in html and "<svg" not in html


def test_a_model_of_valence_and_arousal_has_no_bars(workspace: Path) -> None:
    html = with_faces(labels=(), affect=True)
    assert "This model predicts no expressions." in html and "<tr" not in html and html.count("<svg") == 1


def test_a_grey_photograph_larger_than_the_page_is_answered_at_its_own_size(workspace: Path) -> None:
    write_model()
    predictor = Predictor.load(MODEL)
    photograph = drawn(900).convert("L")
    photograph.save("large.png")
    html = server.predict_html(predictor, Path("large.png").read_bytes())
    (face,) = predictor.predict("large.png")
    assert f"left:{face.box[0] / 900:.2%}" in html and f"{face.probabilities['Happy']:.2f}" in html


@pytest.mark.parametrize("grey", [False, True])
def test_the_face_is_shown_as_the_network_saw_it(workspace: Path, grey: bool) -> None:
    html = with_faces(grey=grey)
    (data,) = re.findall(r'class="crop"><img alt="" src="data:image/png;base64,([^"]+)"', html)
    assert all_grey(torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))[None]) == grey
    assert ("32 × 32 px, RGB, converted to grey" in html) == grey


def test_text_of_a_message_is_no_html() -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.message("<script>alert(1)</script>")


def test_a_port_that_is_taken_or_none_is_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["demo", "--port", port]) == 2
    _, error = capsys.readouterr().err.splitlines()  # after the line that names the model
    assert error == f"error: --port: {port} cannot be used: Address already in use; give another, or 0 for any"
    with pytest.raises(SystemExit):
        main(["demo", "--port", "70000"])
    assert capsys.readouterr().err.startswith("error: argument --port: '70000' is not a port from 0 to 65535")
    assert main(["demo", "--model", "none.safetensors"]) == 2 and "none.safetensors" in capsys.readouterr().err


def test_without_gradio_the_demo_says_what_to_install(workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    write_model()
    monkeypatch.setattr("affectnet.web.server.find_spec", lambda _: None)
    assert main(["demo"]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == ["error: affectnet demo: needs gradio; pip install 'affectnet-pipeline[demo]'"]
