"""The server of `affectnet demo`: a page for one photograph at a time, on this machine alone, that keeps nothing."""

import os
import shutil
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from affectnet.errors import UserError, one_line
from affectnet.images.decode import open_photograph
from affectnet.predict.predictor import Predictor
from affectnet.web import page
from affectnet.web.request_filter import HOST, MOST_BYTES, Gate

KEPT_S = 30
"""An upload that nobody asked about any more is removed after so many seconds."""

Answer = Callable[[Any], tuple[Any, Any]]


def serve(predictor: Predictor, port: int, browser: bool, hosts: Sequence[str] = ()) -> None:
    """Serves until it is interrupted. port: 0 for any that is free; hosts: under which names the browser knows the page, too.

    Errors: UserError without Gradio, and when the port is taken.
    """
    if find_spec("gradio") is None:
        raise UserError("affectnet demo: needs gradio; run `pip install 'gradio>=6'`")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _listening(port) as listening, tempfile.TemporaryDirectory(prefix="affectnet-demo-") as folder:
        _only_ours(folder)
        import uvicorn  # noqa: PLC0415 (comes with gradio)

        address = f"http://{HOST}:{listening.getsockname()[1]}"
        own = Path(folder).resolve()
        application = Gate(_application(predictor, own), listening.getsockname()[1], own, hosts)
        server = uvicorn.Server(
            uvicorn.Config(
                application, log_level="warning", proxy_headers=False, server_header=False, timeout_graceful_shutdown=2, lifespan="on"
            )
        )
        print(f"demo: {address}, Ctrl-C ends it", file=sys.stderr, flush=True)
        if browser:
            webbrowser.open(address)
        server.run([listening])


def answer(predictor: Predictor, content: bytes) -> str:
    """HTML of the faces in a photograph, or of the one line that says why there are none."""
    try:
        pixels = open_photograph(content, "photograph").pixels()
        found = predictor.crops(content)
        faces = predictor.predict_crops([found])[0]
    except UserError as error:
        return page.message(one_line(str(error)))
    if not found:
        return page.message("photograph: no face found; give one with a face seen from the front, well lit, not too small")
    if predictor.metadata.grey:  # as the network saw them
        found = [(box, np.asarray(Image.fromarray(crop).convert("L").convert("RGB"))) for box, crop in found]
    return page.result(pixels, found, faces)


def _application(predictor: Predictor, folder: Path) -> Any:
    import gradio  # noqa: PLC0415 (optional, and takes seconds)
    from fastapi import FastAPI  # noqa: PLC0415 (comes with gradio)

    def answered(upload: Any) -> tuple[Any, Any]:
        """The input empty again, and the answer; the upload is gone."""
        if upload is None:  # as when the webcam starts
            return gradio.skip(), gradio.skip()
        path = Path(upload["path"])
        if not path.is_file():
            return None, page.message("photograph: not there any more; choose it again")
        try:
            return None, answer(predictor, path.read_bytes())
        finally:
            shutil.rmtree(path.parent if path.parent != folder else path, ignore_errors=True)

    theme = gradio.themes.Base(
        primary_hue="cyan", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return gradio.mount_gradio_app(
        FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
        _blocks(answered, page.about(predictor.metadata)),
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


def _blocks(answered: Answer, about: str) -> Any:
    import gradio as gr  # noqa: PLC0415

    with gr.Blocks(title="Facial expressions", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)) as blocks:
        gr.HTML(page.HEAD)
        with gr.Row(elem_id="layout"):
            with gr.Column(elem_id="given"):
                photograph = gr.Image(
                    label="Photograph",
                    sources=["upload", "webcam", "clipboard"],
                    placeholder=page.INVITATION,
                    height=300,
                    buttons=[],
                    elem_id="photograph",
                )
            found = gr.HTML(page.WAITING, elem_id="found")
            with gr.Column(elem_id="words"):
                gr.HTML(page.NOT_EMOTION)
                gr.HTML(about)
        # Not preprocessed: Gradio would decode whatever it gets.
        photograph.upload(
            answered,
            photograph,
            [photograph, found],
            preprocess=False,
            trigger_mode="multiple",
            api_visibility="private",
            show_progress="minimal",
        )
    return blocks


def _listening(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()  # who is early waits
    except OSError as error:
        listening.close()
        raise UserError(f"--port: {port} cannot be had: {error.strerror}; give another, or 0 for any") from None
    return listening


def _only_ours(folder: str) -> None:
    """What Gradio reads of the environment is what is said here, before it is imported."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1")
