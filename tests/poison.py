"""Pickles that run code when they are unpickled: each then creates a file that shows it."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Poison:
    """Creates the file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def _opcodes(module: str, name: str, argument: str) -> bytes:
    """A pickle of protocol 0 by hand: calls `module.name(argument)`."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def _torch(value: object, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _archive(data: bytes) -> bytes:
    """An archive as by torch.save, with this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"data.pkl": data, "version": b"3\n", "byteorder": b"little"}.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def _tar(data: bytes) -> bytes:
    """Torch's format before 2017, which weights_only did not guard before 2.6 (CVE-2025-32434)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _npy(value: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([value], object), allow_pickle=True)
    return buffer.getvalue()


CALLS: dict[str, Callable[[Path], tuple[str, str, str]]] = {
    "os.system": lambda trace: ("posix", "system", f"touch {trace}"),
    "eval": lambda trace: ("builtins", "eval", f"__import__('os').mkdir({str(trace)!r})"),
    "exec": lambda trace: ("builtins", "exec", f"__import__('os').mkdir({str(trace)!r})"),
    "mkdir": lambda trace: ("posix", "mkdir", str(trace)),
    "subprocess": lambda trace: ("subprocess", "getoutput", f"touch {trace}"),
}
"""The module, function and argument that such a pickle calls."""

POISONS: dict[str, Callable[[Path], bytes]] = {
    **{f"pickle protocol {protocol}": lambda trace, p=protocol: pickle.dumps(Poison(trace), p) for protocol in range(6)},  # type: ignore[misc]
    "torch.save": lambda trace: _torch({"features.0.weight": Poison(trace)}, True),
    "torch.save of 2017": lambda trace: _torch({"features.0.weight": Poison(trace)}, False),
    "torch.save before 2017": lambda trace: _tar(pickle.dumps(Poison(trace), 2)),
    "npy of objects": lambda trace: _npy(Poison(trace)),
    **{name: lambda trace, c=call: _opcodes(*c(trace)) for name, call in CALLS.items()},  # type: ignore[misc]
    **{f"{name} in torch's archive": lambda trace, c=call: _archive(_opcodes(*c(trace))) for name, call in CALLS.items()},  # type: ignore[misc]
}
"""File contents by kind, as functions of the file that they create."""
