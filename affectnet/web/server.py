"""The server of `affectnet demo`: the page's files, only to this machine. It receives nothing: photographs stay in the browser."""

import re
import signal
import sys
import webbrowser
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from affectnet.errors import UserError
from affectnet.web.site import Files

HOST = "127.0.0.1"

HOST_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
"""A host as in the browser's address: a name or number, and a port unless it is the default."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
}

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""The second to fourth isolate the page from others, without which browsers give it no threads. The rest of the content security
policy is in index.html, so that it holds on every host."""


def serve(files: Files, port: int, browser: bool, hosts: Sequence[str] = ()) -> None:
    """Serves until it is interrupted. port: 0 for any that is free; hosts: further names of the page in the browser.

    Errors: UserError when the port is taken.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with page_server(files, port, hosts) as server:
        address = f"http://{HOST}:{server.server_port}"
        print(f"demo: {address}, Ctrl-C ends it", file=sys.stderr, flush=True)
        if browser:
            webbrowser.open(address)
        server.serve_forever()


def page_server(files: Files, port: int, hosts: Sequence[str] = ()) -> ThreadingHTTPServer:
    """A server that listens already. Errors: UserError when the port is taken."""
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(files, hosts))
    except OSError as error:
        raise UserError(f"--port: {port} cannot be used: {error.strerror}; give another, or 0 for any") from None
    server.daemon_threads = True
    return server


def _handler(files: Files, hosts: Sequence[str]) -> type[BaseHTTPRequestHandler]:
    """A request passes when it names the page's own host: else another site could read the model through its own name for 127.0.0.1."""
    named = {host.lower() for host in hosts}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        server: ThreadingHTTPServer

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").lower()
            local = [f"{name}:{self.server.server_port}" for name in (HOST, "localhost")]
            name = urlsplit(self.path).path.removeprefix("/") or "index.html"
            if host not in {*local, *named}:
                self._answer(HTTPStatus.FORBIDDEN, _refusal(host, local), ".txt")
            elif name not in files:
                self._answer(HTTPStatus.NOT_FOUND, b"no such file\n", ".txt")
            else:
                self._answer(HTTPStatus.OK, files[name], PurePosixPath(name).suffix)

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, status: HTTPStatus, content: bytes, suffix: str) -> None:
            self.send_response(status)
            headers = {"Content-Type": TYPES.get(suffix, "application/octet-stream"), "Content-Length": str(len(content)), **HEADERS}
            for header, value in headers.items():
                self.send_header(header, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def version_string(self) -> str:
            return "affectnet"

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    return Handler


def _refusal(host: str, local: Sequence[str]) -> bytes:
    if not HOST_PATTERN.fullmatch(host):
        return b"refused\n"
    addresses = " and ".join(f"http://{name}" for name in local)
    return (
        f"refused: this page is at {addresses}, not at {host}. Behind a forwarded port, forward the same port number and open one of "
        f"these, or start it by: affectnet demo --host {host}\n"
    ).encode()
