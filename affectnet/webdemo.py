"""The server of `affectnet demo`: a page for one photograph at a time, on this machine alone, that keeps nothing."""

import os
import shutil
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectnet import page
from affectnet.errors import UserError, one_line
from affectnet.photograph import open_photograph
from affectnet.predictor import Predictor

if TYPE_CHECKING:
    import gradio

HOST = "127.0.0.1"
MOST_BYTES, MOST_PIXELS = 20 * 2**20, 50_000_000
"""Of a photograph that is answered: of its file, and of its picture."""
MOST_ASKED = 2**16
"""Bytes of any other request; they name an upload, and hold no picture."""
KEPT_S = 60
"""An upload that nobody asked about any more is removed after so many seconds."""

PATHS = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json")
BELOW = ("/assets/", "/static/", "/gradio_api/heartbeat/")
ASKED = (
    "/gradio_api/upload",
    "/gradio_api/upload_progress",
    "/gradio_api/queue/join",
    "/gradio_api/queue/data",
    "/gradio_api/startup-events",
)
FILE = "/gradio_api/file="
"""What of Gradio's many routes the page uses; no other is answered."""

HEADERS = {
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; form-action 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
"""The browser asks nobody but this server, whatever the page says, shows it in no other page, and stores nothing."""

Answer = Callable[[Any], tuple[None, str]]


def serve(predictor: Predictor, port: int, browser: bool) -> None:
    """Serves until it is interrupted. port: 0 for any that is free. Errors: UserError without Gradio, and when the port is taken."""
    if find_spec("gradio") is None:
        raise UserError("affectnet demo: needs gradio; run `pip install 'gradio>=6'`")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _listening(port) as listening, tempfile.TemporaryDirectory(prefix="affectnet-demo-") as folder:
        _only_ours(folder)
        import uvicorn  # noqa: PLC0415 (comes with gradio)

        address = f"http://{HOST}:{listening.getsockname()[1]}"
        application = Guarded(_application(predictor, Path(folder).resolve()), listening.getsockname()[1], Path(folder).resolve())
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=2, lifespan="on"))
        print(f"demo: {address}, Ctrl-C ends it", file=sys.stderr, flush=True)
        if browser:
            webbrowser.open(address)
        server.run([listening])


def answer(predictor: Predictor, content: bytes) -> str:
    """HTML of the faces in a photograph, or of the one line that says why there are none."""
    try:
        photograph = open_photograph(content, "photograph")
        width, height = photograph.dimensions
        if width * height > MOST_PIXELS:
            raise UserError(f"photograph: {width} × {height} px are too many; give one of at most {MOST_PIXELS // 10**6} megapixels")
        pixels = photograph.pixels()
        found = predictor.crops(content)
    except UserError as error:
        return page.message(one_line(str(error)))
    if not found:
        return page.message("photograph: no face found; give one with a face seen from the front, well lit, not too small")
    return page.result(pixels, found, predictor.answer([found])[0])


class Guarded:
    """An ASGI application that answers this machine's own page alone, by the routes that the page uses."""

    def __init__(self, application: Any, port: int, folder: Path) -> None:
        self.application, self.folder = application, folder
        self.hosts = {f"{host}:{port}" for host in (HOST, "localhost")}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        status = self._refused(scope) if scope["type"] == "http" else 404

        async def with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                kept = [(name, value) for name, value in event["headers"] if name.decode().lower() not in HEADERS]
                event = {**event, "headers": kept + [(name.encode(), value.encode()) for name, value in HEADERS.items()]}
            await send(event)

        if not status:
            await self.application(scope, receive, with_headers)
        elif scope["type"] == "http":
            await with_headers({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"refused\n"})

    def _refused(self, scope: Any) -> int:
        """The status of a refusal, 0 for none: another site's request, one that is too long, or one for something else."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        own = (
            headers.get("host") in self.hosts and headers.get("origin", f"http://{headers.get('host')}") == f"http://{headers.get('host')}"
        )
        if not own or headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return 403
        path: str = scope["path"]
        if scope["method"] == "POST":
            long = headers.get("content-length", "")
            most = MOST_BYTES + MOST_ASKED if path == ASKED[0] else MOST_ASKED
            if not long.isdecimal() or int(long) > most:
                return 413
        if path.startswith(FILE):
            return 0 if Path(path.removeprefix(FILE)).resolve().is_relative_to(self.folder) else 404
        return 0 if path in {*PATHS, *ASKED} or path.startswith(BELOW) else 404


def _application(predictor: Predictor, folder: Path) -> Any:
    import gradio  # noqa: PLC0415 (optional, and takes seconds)
    from fastapi import FastAPI  # noqa: PLC0415 (comes with gradio)

    def answered(upload: Any) -> tuple[None, str]:
        """The input empty again, and the answer; the upload is gone."""
        path = Path(upload["path"]).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            return None, page.message("photograph: not there any more; choose it again")
        try:
            return None, answer(predictor, path.read_bytes())
        finally:
            shutil.rmtree(path.parent if path.parent != folder else path, ignore_errors=True)

    theme = gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return gradio.mount_gradio_app(
        FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
        _blocks(gradio, answered, page.about(predictor.card)),
        path="/",
        server_name=HOST,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css=page.CSS,
    )


def _blocks(gr: "gradio", answered: Answer, about: str) -> Any:
    with gr.Blocks(title="Facial expressions", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)) as blocks:
        gr.HTML(page.HEAD)
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                photograph = gr.Image(
                    label="Photograph", sources=["upload", "webcam", "clipboard"], height=300, buttons=[], elem_id="photograph"
                )
            with gr.Column(scale=3, min_width=320):
                found = gr.HTML(page.WAITING, elem_id="found")
        with gr.Row(elem_classes="below"):
            gr.HTML(about)
            gr.HTML(page.NOT_EMOTION)
        # Not preprocessed: Gradio would decode whatever it gets, and fetch it when it is an address.
        photograph.input(answered, photograph, [photograph, found], preprocess=False, api_visibility="private", show_progress="minimal")
    return blocks


def _listening(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise UserError(f"--port: {port} cannot be had: {error.strerror}; give another, or 0 for any") from None
    return listening


def _only_ours(folder: str) -> None:
    """What Gradio reads of the environment is what is said here, before it is imported."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1")
