"""What stands before the page of `affectnet demo`: just the requests that the page itself makes are let through."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
MOST_BYTES = 20 * 2**20
"""Of the file of a photograph."""
MOST_ASKED = 2**16
"""Bytes of any other request; they name an upload, and hold no picture."""

UPLOAD, FILE, ASK = "/gradio_api/upload", "/gradio_api/file=", "/gradio_api/queue/join"
PATHS = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", UPLOAD, f"{UPLOAD}_progress", ASK, "/gradio_api/queue/data"}
BELOW = ("/assets/", "/static/")
"""What of Gradio's many routes the page uses; no other is answered."""

HEADERS = {
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; form-action 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""The browser asks nobody but this server, whatever the page says, and shows it in no other page."""

BLANK = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
"""What the browser gets when it wants to show the upload, which may be gone by then: no file is ever served."""

NAMELESS, DONE = (f"{UPLOAD}_progress", b"upload_id="), b'data: {"msg": "done"}\n\n'
"""Of a picture of the webcam Gradio's page asks for the progress without a name; by Gradio's own answer it would log an error."""


AS_A_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
"""A host as the browser's address has it: a name or number, and a port unless it is the usual one."""


class Gate:
    """An ASGI application before another one.

    port: where it is served; folder: where uploads fall, the only files that a request may name; hosts: under which other names the
    browser knows it, behind a forwarded port.
    """

    def __init__(self, application: Any, port: int, folder: Path, hosts: Sequence[str] = ()) -> None:
        self.application, self.folder = application, folder
        self.own = [f"{host}:{port}" for host in (HOST, "localhost")]
        self.hosts = {*self.own, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        path: str = scope["path"]

        added = HEADERS if path.startswith(BELOW) else {**HEADERS, "cache-control": "no-store"}

        async def with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                kept = [(name, value) for name, value in event["headers"] if name.decode().lower() not in added]
                event = {**event, "headers": kept + [(name.encode(), value.encode()) for name, value in added.items()]}
            await send(event)

        if status := self._refused(scope):
            await _send(with_headers, status, b"text/plain", self._reason(scope))
        elif path.startswith(FILE):
            await _send(with_headers, 200, b"image/svg+xml", BLANK)
        elif (path, scope["query_string"]) == NAMELESS:
            await _send(with_headers, 200, b"text/event-stream", DONE)
        elif path != ASK:
            await self.application(scope, receive, with_headers)
        elif (body := self._asked(await _body(receive))) is None:
            await _send(with_headers, 400, b"text/plain", b"refused\n")
        else:
            kept = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
            scope = {**scope, "headers": [*kept, (b"content-length", str(len(body)).encode())]}
            await self.application(scope, _Received(body, receive), with_headers)

    def _refused(self, scope: Any) -> int:
        """The status of a refusal, 0 for none: another site's request, one that is too long, or one for something else."""
        headers = _headers(scope)
        host = headers.get("host", "").lower()
        if host not in self.hosts or headers.get("origin", f"http://{host}").lower() not in {f"http://{host}", f"https://{host}"}:
            return 403
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return 403
        path: str = scope["path"]
        if scope["method"] == "POST":
            long = headers.get("content-length", "")
            most = MOST_BYTES + MOST_ASKED if path == UPLOAD else MOST_ASKED
            if not long.isdecimal() or int(long) > most:
                return 413
        if path.startswith(FILE):
            return 0 if self._upload(path.removeprefix(FILE)) else 404
        return 0 if path in PATHS or path.startswith(BELOW) else 404

    def _reason(self, scope: Any) -> bytes:
        """The text of a refusal; for a request to another host it names the hosts at which the page answers."""
        host = _headers(scope).get("host", "").lower()
        if host in self.hosts or not AS_A_HOST.fullmatch(host):
            return b"refused\n"
        own = " and ".join(f"http://{name}" for name in self.own)
        return (
            f"refused: this page answers at {own}, not at {host}. Behind a forwarded port, forward the same port number and open one of "
            f"these, or start it by: affectnet demo --host {host}\n"
        ).encode()

    def _upload(self, path: str) -> Path | None:
        """The path of an upload, links followed; None for any other."""
        try:
            found = Path(path).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return found if found.is_relative_to(self.folder) and found != self.folder else None

    def _asked(self, body: bytes) -> bytes | None:
        """The question as the page puts it, made anew; None when it is none.

        Gradio copies each file that is described in a question, of the whole machine, into its own folder, and fetches addresses. So
        nothing is left of it but the path of an upload.
        """
        try:
            asked = json.loads(body)
            given, session = asked["data"][0], asked["session_hash"]
            upload = None if given is None else {"path": str(self._upload(given["path"]) or "")}
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return None
        return json.dumps({"data": [upload], "fn_index": 0, "session_hash": str(session)}).encode()


class _Received:
    """A body that was read already, then whatever else comes."""

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
    found, more = b"", True
    while more:
        event = await receive()
        found, more = found + event.get("body", b""), event.get("more_body", False)
    return found


async def _send(send: Any, status: int, kind: bytes, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})
