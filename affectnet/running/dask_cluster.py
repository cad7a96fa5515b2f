"""The workers of a Dask cluster in place of this machine's processes: `verify` and `crop` map their chunks over either."""

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
from affectnet.running.parallel import Chunk, Pool, Result, in_order, over

Software = Mapping[str, str]

CONNECT_S = 5.0
"""So long a scheduler may take to be connected to; a server that is none is given up after twice as long."""

PLACE = "runtime.scheduler"
LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "asyncio")


def spread(function: Callable[[Chunk], Result], chunks: Iterable[Chunk], runtime: Runtime, root: Path) -> Iterator[Result]:
    """function(chunk) for each chunk, in the order of the chunks, by this machine's processes or a cluster, as the runtime says.

    root: the folder of the download, which each worker of a cluster sees under the same path. Errors: what `function`
    raises; UserError when a process is killed, or the cluster is not there, is not of this code, or goes away.
    """
    if runtime.engine == "local":
        return in_order(function, chunks, runtime.workers)
    own = software()
    return over(_cluster(runtime.scheduler, own, root), partial(_checked, own, root, function), chunks)


@cache
def software() -> Software:
    """What decides the bytes that come out: this package's code as it was first used in this process, and the libraries."""
    # Pillow reads its list of formats while another thread still fills it, so all are there before the first thread asks.
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


def differences(wanted: Software, root: Path | None) -> str:
    """What differs between this process and the one whose software is wanted, in words; empty when nothing does."""
    own = software()
    found = [f"{name} is {own.get(name)}, here {value}" for name, value in wanted.items() if own.get(name) != value]
    if found:
        return f"{', '.join(found)}; give it the same code and packages and start it again"
    if root is not None and not _sees(root):
        return f"does not see {root}; mount the download there under the same path"
    return ""


def _sees(root: Path) -> bool:
    """Whether the folder holds something: where a disk is not mounted there is often an empty folder."""
    try:
        with os.scandir(root) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _checked(wanted: Software, root: Path, function: Callable[[Chunk], Result], chunk: Chunk) -> Result:
    """function(chunk), on a worker, which may have joined after the others were asked."""
    if wrong := differences(wanted, root):
        raise UserError(f"{PLACE}: the worker on {platform.node()}: {wrong}")
    return function(chunk)


@contextmanager
def _cluster(address: str | None, wanted: Software, root: Path) -> Iterator[Pool]:
    """The cluster's workers, each asked for its software first, two chunks under way for each of their threads."""
    distributed = _library()
    client = _connected(distributed, address)
    try:
        _refuse_others(client, address, wanted, root)
        executor = client.get_executor(pure=False)  # pure: a result of yesterday's file would be taken for today's
        try:
            yield Pool(executor, 2 * sum(client.nthreads().values()), partial(_look_after, client, address))
        finally:
            executor.shutdown(wait=False)
    except distributed.KilledWorker as error:
        raise UserError(f"{PLACE}: workers died over the same chunk, most often for lack of memory: {_first_line(error)}") from None
    except (CancelledError, distributed.CancelledError, distributed.comm.CommClosedError):
        raise UserError(f"{PLACE}: {address} has gone away; start it and its workers again, then run this again") from None
    finally:
        client.close()


def _library() -> Any:
    try:
        import distributed  # noqa: PLC0415 (an extra)
        import distributed.comm  # noqa: PLC0415
    except ModuleNotFoundError:
        raise UserError("runtime.engine: dask wants a package that is not there; pip install distributed") from None
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what goes wrong is told here, in one line
    return distributed


def _connected(distributed: Any, address: str | None) -> Any:
    """The client. Errors: UserError when no scheduler answers at the address."""
    if not address:
        raise UserError(f"{PLACE}: dask wants the address of a scheduler, as tcp://host:8786")
    gc.collect()  # a client that failed before would be collected in the thread that the next one starts, and wait there for itself
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions, which are compared here
            return _within(2 * CONNECT_S, lambda: distributed.Client(address, timeout=CONNECT_S, set_as_default=False))
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{PLACE}: no Dask scheduler answers at {address}: {_first_line(error)}; is it running?") from None


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """function(), which is left to itself when it takes longer. Errors: TimeoutError then; what `function` raises."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result(seconds)


def _refuse_others(client: Any, address: str | None, wanted: Software, root: Path) -> None:
    """Errors: UserError when the cluster has no worker, or the scheduler or a worker differs from this process."""
    if not client.nthreads():
        raise UserError(f"{PLACE}: {address} has no worker; start some, as `dask worker {address}`")
    try:
        answers: dict[str, Any] = {"": client.run_on_scheduler(differences, wanted, None)}
    except Exception as error:  # whatever keeps the package from being imported there
        answers = {"": error}
    answers |= client.run(differences, wanted, root, on_error="return")
    for name, answer in sorted(answers.items()):
        who = f"the worker {name}" if name else f"the scheduler {address}"
        if isinstance(answer, Exception):
            raise UserError(
                f"{PLACE}: {who} cannot use affectnet: {_first_line(answer)}; start it with PYTHONPATH set to a clone of this code"
            )
        if answer:
            raise UserError(f"{PLACE}: {who}: {answer}")


def _look_after(client: Any, address: str | None) -> None:
    try:
        left = client.nthreads()
    except OSError:
        left = {}
    if not left:
        raise UserError(f"{PLACE}: {address} has no worker left; start some, then run this again")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
