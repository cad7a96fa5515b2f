"""Maps the chunks of `verify` and `crop` over this machine's processes or the workers of a Dask cluster."""

import gc
import hashlib
import logging
import os
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import PIL
import pyarrow as pa
import simplejpeg
from PIL import Image, features

from affectnet.errors import UserError
from affectnet.params import Runtime
from affectnet.running.parallel import Chunk, Pool, Result, in_order, map_over_pool

Software = Mapping[str, str]

CONNECT_S = 5.0
"""Timeout of a connection to a scheduler; a server that is not a scheduler is given up after twice as long."""

PARAM = "runtime.scheduler"
LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "asyncio")


def map_chunks(function: Callable[[Chunk], Result], chunks: Iterable[Chunk], runtime: Runtime, root: Path) -> Iterator[Result]:
    """function(chunk) for each chunk, in the order of the chunks, by this machine's processes or a cluster, as the runtime says.

    root: the folder of the download, which each worker of a cluster sees under the same path. Errors: what `function`
    raises; UserError when a process is killed, or the cluster cannot be reached, runs other code, or goes away.
    """
    if runtime.engine == "local":
        return in_order(function, chunks, runtime.workers)
    required = software()
    return map_over_pool(_cluster(runtime.scheduler, required, root), partial(_checked, required, root, function), chunks)


@cache
def software() -> Software:
    """The versions that decide the output bytes: the code of this package, read at its first use in this process, and the libraries."""
    # Initialise Pillow's plugin registry up front; it is not thread-safe.
    Image.preinit()
    Image.init()
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    codecs = {name: str(features.version(name)) for name in ("jpg", "zlib", "libtiff", "webp")}
    python = ".".join(platform.python_version_tuple()[:2])
    versions = {
        "Python": python,
        "Pillow": PIL.__version__,
        "OpenCV": cv2.__version__,
        "simplejpeg": simplejpeg.__version__,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
    }
    return {"affectnet": digest.hexdigest()[:12], **versions, **codecs}


def differences(required: Software, root: Path | None) -> str:
    """How this process differs from the one that requires this software, in words; empty when it does not."""
    installed = software()
    others = [f"{name} is {installed.get(name)}, here {version}" for name, version in required.items() if installed.get(name) != version]
    if others:
        return f"{', '.join(others)}; give it the same code and packages and start it again"
    if root is not None and not _sees(root):
        return f"does not see {root}; mount the download there under the same path"
    return ""


def _sees(root: Path) -> bool:
    """Whether the folder has an entry: the mount point of a disk that is not mounted is often an empty folder."""
    try:
        with os.scandir(root) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _checked(required: Software, root: Path, function: Callable[[Chunk], Result], chunk: Chunk) -> Result:
    """function(chunk), on a worker that may have joined after the others were checked."""
    if wrong := differences(required, root):
        raise UserError(f"{PARAM}: the worker on {platform.node()}: {wrong}")
    return function(chunk)


@contextmanager
def _cluster(address: str | None, required: Software, root: Path) -> Iterator[Pool]:
    """The cluster's workers, once the software of each is checked; two chunks under way per thread."""
    distributed = _library()
    client = _connected(distributed, address)
    try:
        _refuse_others(client, address, required, root)
        executor = client.get_executor(pure=False)  # pure=True would return an earlier result for a file that has changed since
        try:
            yield Pool(executor, 2 * sum(client.nthreads().values()), partial(_check_workers, client, address))
        finally:
            executor.shutdown(wait=False)
    except distributed.KilledWorker as error:
        raise UserError(f"{PARAM}: workers died over the same chunk, most often for lack of memory: {_first_line(error)}") from None
    except (CancelledError, distributed.CancelledError, distributed.comm.CommClosedError):
        raise UserError(f"{PARAM}: {address} has gone away; start it and its workers again, then run this again") from None
    finally:
        client.close()


def _library() -> Any:
    try:
        import distributed  # noqa: PLC0415 (an extra)
        import distributed.comm  # noqa: PLC0415
    except ModuleNotFoundError:
        raise UserError("runtime.engine: dask needs the package distributed; pip install distributed") from None
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # errors are reported here, in one line
    return distributed


def _connected(distributed: Any, address: str | None) -> Any:
    """The client. Errors: UserError when no scheduler answers at the address."""
    if not address:
        raise UserError(f"{PARAM}: dask needs the address of a scheduler, as tcp://host:8786")
    gc.collect()  # an earlier, failed client that is finalised inside the next client's thread deadlocks
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions, which are compared here
            return _within(2 * CONNECT_S, lambda: distributed.Client(address, timeout=CONNECT_S, set_as_default=False))
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{PARAM}: no Dask scheduler answers at {address}: {_first_line(error)}; is it running?") from None


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """function(), abandoned when it takes longer. Errors: TimeoutError then; what `function` raises."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result(seconds)


def _refuse_others(client: Any, address: str | None, required: Software, root: Path) -> None:
    """Errors: UserError when the cluster has no worker, or the scheduler or a worker differs from this process."""
    if not client.nthreads():
        raise UserError(f"{PARAM}: {address} has no worker; start some, as `dask worker {address}`")
    try:
        replies: dict[str, Any] = {"": client.run_on_scheduler(differences, required, None)}
    except Exception as error:  # any error that keeps the package from being imported there
        replies = {"": error}
    replies |= client.run(differences, required, root, on_error="return")
    for name, reply in sorted(replies.items()):
        process = f"the worker {name}" if name else f"the scheduler {address}"
        if isinstance(reply, Exception):
            raise UserError(
                f"{PARAM}: {process} cannot use affectnet: {_first_line(reply)}; start it with PYTHONPATH set to a clone of this code"
            )
        if reply:
            raise UserError(f"{PARAM}: {process}: {reply}")


def _check_workers(client: Any, address: str | None) -> None:
    """Errors: UserError when no worker is left."""
    try:
        workers = client.nthreads()
    except OSError:
        workers = {}
    if not workers:
        raise UserError(f"{PARAM}: {address} has no worker left; start some, then run this again")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
