"""An ASGI filter for the page of `affectnet demo`: only requests that the page itself makes pass."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
MAX_UPLOAD_BYTES = 20 * 2**20
"""Of a photograph."""
MAX_REQUEST_BYTES = 2**16
"""Of any other request: it names an upload and holds no picture."""

UPLOAD, FILE, ASK = "/gradio_api/upload", "/gradio_api/file=", "/gradio_api/queue/join"
PATHS = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", UPLOAD, f"{UPLOAD}_progress", ASK, "/gradio_api/queue/data"}
BELOW = ("/assets/", "/static/")
"""The routes of Gradio that the page uses; all others are refused."""

HEADERS = {
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; form-action 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""The browser requests nothing from other servers, and shows the page in no frame."""

BLANK = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
"""Served in place of the upload, which may be gone: no file is ever served."""

NAMELESS, DONE = (f"{UPLOAD}_progress", b"upload_id="), b'data: {"msg": "done"}\n\n'
"""For a webcam picture Gradio's page requests the progress without a name, and logs an error at Gradio's own response."""


HOST_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
"""A host as in the browser's address: a name or number, and a port unless it is the default."""


class RequestFilter:
    """An ASGI application in front of another one.

    port: where it is served; folder: of the uploads, the only files that a request may name; hosts: its names in the browser behind a
    forwarded port.
    """

    def __init__(self, application: Any, port: int, folder: Path, hosts: Sequence[str] = ()) -> None:
        self.application, self.folder = application, folder
        self.local = [f"{host}:{port}" for host in (HOST, "localhost")]
        self.hosts = {*self.local, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        path: str = scope["path"]

        headers = HEADERS if path.startswith(BELOW) else {**HEADERS, "cache-control": "no-store"}

        async def with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                kept = [(name, value) for name, value in event["headers"] if name.decode().lower() not in headers]
                event = {**event, "headers": kept + [(name.encode(), value.encode()) for name, value in headers.items()]}
            await send(event)

        if status := self._refused(scope):
            await _send(with_headers, status, b"text/plain", self._reason(scope))
        elif path.startswith(FILE):
            await _send(with_headers, 200, b"image/svg+xml", BLANK)
        elif (path, scope["query_string"]) == NAMELESS:
            await _send(with_headers, 200, b"text/event-stream", DONE)
        elif path != ASK:
            await self.application(scope, receive, with_headers)
        else:
            await self._pass_request(scope, receive, with_headers)

    async def _pass_request(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes a request for a prediction on, rebuilt."""
        body = self._rebuilt(await _body(receive))
        if body is None:
            await _send(send, 400, b"text/plain", b"refused\n")
            return
        kept = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        scope = {**scope, "headers": [*kept, (b"content-length", str(len(body)).encode())]}
        await self.application(scope, _Received(body, receive), send)

    def _refused(self, scope: Any) -> int:
        """The status of a refusal, or 0: a request of another site, one that is too long, or one for another route."""
        headers = _headers(scope)
        host = headers.get("host", "").lower()
        if host not in self.hosts or headers.get("origin", f"http://{host}").lower() not in {f"http://{host}", f"https://{host}"}:
            return 403
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return 403
        path: str = scope["path"]
        if scope["method"] == "POST":
            length = headers.get("content-length", "")
            limit = MAX_UPLOAD_BYTES + MAX_REQUEST_BYTES if path == UPLOAD else MAX_REQUEST_BYTES
            if not length.isdecimal() or int(length) > limit:
                return 413
        if path.startswith(FILE):
            return 0 if self._upload(path.removeprefix(FILE)) else 404
        return 0 if path in PATHS or path.startswith(BELOW) else 404

    def _reason(self, scope: Any) -> bytes:
        """The text of a refusal; for a request to another host it names the hosts of the page."""
        host = _headers(scope).get("host", "").lower()
        if host in self.hosts or not HOST_PATTERN.fullmatch(host):
            return b"refused\n"
        local = " and ".join(f"http://{name}" for name in self.local)
        return (
            f"refused: this page is at {local}, not at {host}. Behind a forwarded port, forward the same port number and open one of "
            f"these, or start it by: affectnet demo --host {host}\n"
        ).encode()

    def _upload(self, path: str) -> Path | None:
        """The path of an upload, with links resolved; None for any other."""
        try:
            resolved = Path(path).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return resolved if resolved.is_relative_to(self.folder) and resolved != self.folder else None

    def _rebuilt(self, body: bytes) -> bytes | None:
        """The request as the page makes it, rebuilt from the path of an upload; None when it is invalid.

        Gradio copies any file of the machine that a request describes into its folder, and fetches URLs. So only the path of an upload is
        kept.
        """
        try:
            request = json.loads(body)
            file, session = request["data"][0], request["session_hash"]
            upload = None if file is None else {"path": str(self._upload(file["path"]) or "")}
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return None
        return json.dumps({"data": [upload], "fn_index": 0, "session_hash": str(session)}).encode()


class _Received:
    """A body that was read already, then the further events."""

    def __init__(self, body: bytes, receive: Any) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Any:
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _headers(scope: Any) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    return body


async def _send(send: Any, status: int, kind: bytes, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})
