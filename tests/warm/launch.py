"""Starts the warm server, and writes the programs that ask it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


@contextmanager
def warm_server(environment: Mapping[str, str]) -> Iterator[str]:
    """A folder for PATH, whose programs `python`, `dvc` and `affectnet` run in forks of a server with this environment."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        for name in ("python", "dvc", "affectnet"):
            program = Path(folder, name)
            program.write_text(f"#!{sys.executable} -IS\n{(HERE / 'client.py').read_text()}")
            program.chmod(0o755)
        listener.bind(f"{folder}/socket")
        listener.listen(64)
        command = [sys.executable, str(HERE / "server.py"), str(listener.fileno())]
        # Arrow's second allocator starts a thread when it is loaded, which a fork would lack.
        settings = {**environment, "JE_ARROW_MALLOC_CONF": "background_thread:false"}
        # In a session of its own Ctrl-C reaches a fork once, by its client.
        server = subprocess.Popen(
            command, env=settings, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()], start_new_session=True
        )
        listener.close()
        try:
            yield folder
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
