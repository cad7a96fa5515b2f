"""On PYTHONPATH it refuses to this Python, and to each one started by it, every address but the machine's own.

What was refused is written down in the file that REFUSED_CONNECTIONS names, so that a caller who swallows the error is found too.
"""

import errno
import ipaddress
import os
import sys
from typing import Any

ASKS_AN_ADDRESS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
ASKS_A_NAME = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def is_this_machine(host: object) -> bool:
    """Whether the host is this machine, by its name or its own address."""
    if host in {None, "", "localhost", os.uname().nodename}:
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ASKS_AN_ADDRESS:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # others are of this machine: a path, or none
    elif event in ASKS_A_NAME:
        host = arguments[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if not is_this_machine(host):
        if log := os.environ.get("REFUSED_CONNECTIONS"):
            with open(log, "a", encoding="utf-8") as file:  # noqa: PTH123 (pathlib is not imported this early)
                file.write(f"{event} {host}: {' '.join(sys.orig_argv)}\n")
        raise OSError(errno.ENETUNREACH, f"{event}: the tests have no network", host)


sys.addaudithook(refuse)
