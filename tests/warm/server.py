"""The warm server: runs each command in a fork of itself, which has imported third-party modules already.

It has nothing of this project in memory: each clone has code of its own. `python server.py NUMBER` takes the listening socket of that
number from its parent, and ends with it.
"""

import atexit
import gc
import json
import os
import re
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, NoReturn

MODULES = (
    *("concurrent.futures.process", "multiprocessing.forkserver", "multiprocessing.queues"),
    *("numpy", "pandas", "pyarrow.compute", "pyarrow.csv", "pyarrow.dataset", "pyarrow.parquet"),
    *("cv2", "PIL.features", "PIL.ImageChops", "PIL.ImageDraw", "simplejpeg"),
    *("scipy.optimize", "scipy.sparse.csgraph", "scipy.special", "scipy.stats", "sklearn.metrics"),
    *("jinja2", "pydantic.dataclasses", "pydantic.type_adapter", "ruamel.yaml.mergevalue", "tqdm"),
    *("torchvision.transforms.v2", "torch.export._trace", "torch.onnx._internal.exporter._torchlib.ops", "safetensors.torch"),
    *("torch.distributed.launcher.api", "onnxscript.function_libs.torch_lib.ops", "optuna.storages._rdb.storage", "dvclive.live"),
    *("dvc.cli.parser", "dvc.api", "dvc.repo.experiments.queue.celery", "dvc.repo.reproduce", "dvc.utils.hydra"),
    *("configobj", "dulwich.porcelain", "fsspec.implementations.memory", "networkx", "pygit2", "pyparsing"),
)
"""What most commands import. None of it starts a thread, which a fork would lack; onnxruntime does."""

READ_BY_IMPORTS = re.compile(r"(ARROW|CUDA|KMP|LC|LD|MALLOC|MKL|OMP|OPENBLAS|OPENCV|PYTORCH|TORCH)_\w+|PYTHON\w+|HOME|LANG|TZ")
"""Environment variables that Python and these modules read when they start."""


class Command(NamedTuple):
    """What a client asks for. files: the descriptors that become 0, 1 and 2."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    files: list[int]

    @property
    def words(self) -> list[str]:
        """What `python` is called with, for `dvc` and `affectnet` their script."""
        return self.arguments[1:] if Path(self.arguments[0]).name == "python" else self.arguments


class Server:
    """Forks for commands, passes signals on to the forks, and their ends to the clients."""

    def __init__(self, listener: socket.socket) -> None:
        self.events, self.listener = selectors.DefaultSelector(), listener
        self._on(listener, self._accept)
        self._on(os.pidfd_open(os.getppid()), lambda: os._exit(0))

    def serve(self) -> Command:
        """The command to run; returns in forks only."""
        while True:
            event = self.events.select()[0][0]  # one at a time: it may unregister the next
            command: Command | None = event.data()
            if command:
                self._close()
                return command

    def _on(self, file: socket.socket | int, act: Callable[[], Command | None]) -> None:
        self.events.register(file, selectors.EVENT_READ, act)

    def _accept(self) -> Command | None:
        """Forks for a client's command; returns it in the fork. The answer None has the client run the real program."""
        client, _ = self.listener.accept()
        command = receive(client)
        if not command or not fits(command):
            end(client, None)
        elif process := fork():
            ended = os.pidfd_open(process)
            self._on(client, partial(self._signal, client, process))
            self._on(ended, partial(self._end, client, process, ended))
        else:
            client.close()
            return command
        for file in command.files if command else ():
            os.close(file)
        return None

    def _signal(self, client: socket.socket, process: int) -> None:
        """Sends the fork the signals that its client received, and SIGKILL when the client was killed."""
        numbers = client.recv(64)
        if not numbers:
            self.events.unregister(client)
        for number in numbers or [signal.SIGKILL]:
            os.kill(process, number)

    def _end(self, client: socket.socket, process: int, ended: int) -> None:
        """Reports the end of a fork to its client."""
        self.events.unregister(ended)
        os.close(ended)
        with suppress(KeyError):  # its client was killed
            self.events.unregister(client)
        end(client, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))

    def _close(self) -> None:
        for key in list(self.events.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            else:
                os.close(key.fd)
        self.events.close()


def receive(client: socket.socket) -> Command | None:
    """The client's command; None when the client was killed before it had sent it all."""
    length, files, _, _ = socket.recv_fds(client, 4, 3)
    message = client.makefile("rb").read(int.from_bytes(length, "big"))
    try:
        return Command(**json.loads(message), files=files)
    except ValueError:
        return None


def end(client: socket.socket, code: int | None) -> None:
    """Tells the client the exit code, a signal as a negative number, or None when the real program is to run."""
    with client, suppress(OSError):  # the client was killed
        client.sendall(json.dumps(code).encode())


def fits(command: Command) -> bool:
    """Whether the command can run in a fork: a module or a script, without options of Python, a terminal, or other settings."""
    first, *others = command.words or [""]
    is_program = bool(others) if first == "-m" else Path(command.folder, first).is_file()
    return is_program and not any(map(os.isatty, command.files)) and settings(command.environment) == SETTINGS


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that count when Python and the modules start."""
    return {name: value for name, value in environment.items() if READ_BY_IMPORTS.fullmatch(name)}


def fork() -> int:
    """The number of the new process; 0 in it."""
    import_all()
    return os.fork()


SETTINGS = settings(os.environ)
"""Those of this server; some modules change os.environ when they are imported."""


@cache
def import_all() -> None:
    """Imports the modules, with the first command; the garbage collector, which would write to them, leaves them out."""
    for name in MODULES:
        with suppress(ImportError):  # another version may not have it
            import_module(name)
    gc.collect()
    gc.freeze()


def become(command: Command) -> None:
    """Gives this fork what a new process has: its files, folder, environment and random numbers."""
    for number, file in enumerate(command.files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(command.folder)
    os.environ.clear()
    os.environ.update(command.environment)
    tempfile.tempdir = None
    import_module("numpy").random.seed()  # Python seeds its own generator in each fork
    sys.modules["__main__"] = ModuleType("__main__")
    sys.orig_argv = command.arguments


def run(name: str, *arguments: str) -> None:
    """Runs `python NAME ARGUMENTS`; the name is `-m` or a script. Errors: those of the program, and SystemExit."""
    if name == "-m":
        sys.argv, sys.path[0] = ["-m", *arguments[1:]], str(Path.cwd())
        runpy._run_module_as_main(arguments[0])  # type: ignore[attr-defined]
    else:
        script = Path.cwd() / name
        sys.argv, sys.path[0] = [name, *arguments], str(script.resolve().parent)
        namespace = vars(sys.modules["__main__"])
        namespace.update(__file__=str(script), __builtins__=__builtins__)
        exec(compile(script.read_bytes(), script, "exec"), namespace)


def exit_code(error: BaseException) -> int:
    """The exit code after an error that ends a program, or the signal as a negative number. Prints the error as Python does."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_filename == __file__:
        error.__traceback__ = error.__traceback__.tb_next
    sys.excepthook(type(error), error, error.__traceback__)
    return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def main() -> NoReturn:
    """Serves. A fork runs its command, and ends as Python does, except that it takes no module apart, which would take half a second."""
    command = Server(socket.socket(fileno=int(sys.argv[1]))).serve()
    become(command)
    code = 0
    try:
        run(*command.words)
    except BaseException as error:
        code = exit_code(error)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
