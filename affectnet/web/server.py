"""The server of `affectnet demo`: a page for one photograph at a time, only on this machine, that keeps nothing."""

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
from affectnet.web.request_filter import HOST, MAX_UPLOAD_BYTES, RequestFilter

KEPT_S = 30
"""Seconds after which an upload without a request is removed."""

Predict = Callable[[Any], tuple[Any, Any]]


def serve(predictor: Predictor, port: int, browser: bool, hosts: Sequence[str] = ()) -> None:
    """Serves until it is interrupted. port: 0 for any that is free; hosts: further names of the page in the browser.

    Errors: UserError without Gradio, and when the port is taken.
    """
    if find_spec("gradio") is None:
        raise UserError("affectnet demo: needs gradio; pip install 'affectnet-pipeline[demo]'")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _listen(port) as listener, tempfile.TemporaryDirectory(prefix="affectnet-demo-") as folder:
        _set_gradio_environment(folder)
        import uvicorn  # noqa: PLC0415 (comes with gradio)

        address = f"http://{HOST}:{listener.getsockname()[1]}"
        uploads = Path(folder).resolve()
        application = RequestFilter(_application(predictor, uploads), listener.getsockname()[1], uploads, hosts)
        server = uvicorn.Server(
            uvicorn.Config(
                application, log_level="warning", proxy_headers=False, server_header=False, timeout_graceful_shutdown=2, lifespan="on"
            )
        )
        print(f"demo: {address}, Ctrl-C ends it", file=sys.stderr, flush=True)
        if browser:
            webbrowser.open(address)
        server.run([listener])


def predict_html(predictor: Predictor, content: bytes) -> str:
    """HTML of the faces in a photograph, or of one line about why there are none."""
    try:
        pixels = open_photograph(content, "photograph").pixels()
        crops = predictor.crops(content)
        whole = not crops
        crops = crops or predictor.crops(content, "whole")
        faces = predictor.predict_crops([crops])[0]
    except UserError as error:
        return page.message(one_line(str(error)))
    if predictor.metadata.grey:  # as the network saw them
        crops = [crop._replace(pixels=np.asarray(Image.fromarray(crop.pixels).convert("L").convert("RGB"))) for crop in crops]
    return (page.NO_FACE if whole else "") + page.result(pixels, crops, faces)


def _application(predictor: Predictor, folder: Path) -> Any:
    import gradio  # noqa: PLC0415 (optional, and takes seconds)
    from fastapi import FastAPI  # noqa: PLC0415 (comes with gradio)

    def predict(upload: Any) -> tuple[Any, Any]:
        """Empties the input and returns the result; removes the upload."""
        if upload is None:  # when the webcam starts
            return gradio.skip(), gradio.skip()
        path = Path(upload["path"])
        if not path.is_file():
            return None, page.message("photograph: no longer there; choose it again")
        try:
            return None, predict_html(predictor, path.read_bytes())
        finally:
            shutil.rmtree(path.parent if path.parent != folder else path, ignore_errors=True)

    theme = gradio.themes.Base(
        primary_hue="cyan", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return gradio.mount_gradio_app(
        FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
        _blocks(predict, page.about(predictor.metadata)),
        path="/",
        server_name=HOST,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=MAX_UPLOAD_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css=page.CSS,
    )


def _blocks(predict: Predict, about: str) -> Any:
    import gradio as gr  # noqa: PLC0415

    with gr.Blocks(title="Facial expressions", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)) as blocks:
        gr.HTML(page.HEAD)
        with gr.Row(elem_id="layout"):
            with gr.Column(elem_id="input"):
                photograph = gr.Image(
                    label="Photograph",
                    sources=["upload", "webcam", "clipboard"],
                    placeholder=page.INVITATION,
                    height=300,
                    buttons=[],
                    elem_id="photograph",
                )
            result = gr.HTML(page.WAITING, elem_id="result")
            with gr.Column(elem_id="about"):
                gr.HTML(page.NOT_EMOTION)
                gr.HTML(about)
        # Without preprocessing: Gradio would decode any file.
        photograph.upload(
            predict,
            photograph,
            [photograph, result],
            preprocess=False,
            trigger_mode="multiple",
            api_visibility="private",
            show_progress="minimal",
        )
    return blocks


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # early requests wait
    except OSError as error:
        listener.close()
        raise UserError(f"--port: {port} cannot be used: {error.strerror}; give another, or 0 for any") from None
    return listener


def _set_gradio_environment(folder: str) -> None:
    """Replaces all that Gradio reads from the environment, before it is imported."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1")
