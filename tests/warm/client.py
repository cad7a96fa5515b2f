"""Stands on a test's PATH as `python`, `dvc` and `affectnet`: has the warm server run the command, or else runs the real program.

It ends as the command ends, by its exit code or its signal.
"""
# ruff: noqa: PTH109, PTH118, PTH120
# pathlib would take half of the time in which this starts.

import json
import os
import signal
import socket
import sys


def main() -> None:
    folder, name = os.path.split(__file__)
    program = os.path.join(os.path.dirname(sys.executable), name)
    command = [program, *sys.argv[1:]]
    code = run_warm(os.path.join(folder, "socket"), command)
    if code is None:
        os.execv(program, command)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def run_warm(path: str, command: list[str]) -> int | None:
    """The exit code, a signal as a negative number, or None when the server does not run such a command or is not there."""
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(path)
        except OSError:
            return None
        message = json.dumps({"arguments": command, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
        socket.send_fds(server, [len(message).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(message)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _: server.sendall(bytes([received])))
        code: int | None = json.loads(server.recv(16) or '"the warm server has ended"')
        return code


if __name__ == "__main__":
    main()
