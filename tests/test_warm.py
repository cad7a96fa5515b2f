"""The warm server: a command that runs in a fork of it ends, prints and is stopped as the real program."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from clones import ENVIRONMENT, Clone

if os.environ.get("WARM", "0") == "0":
    pytest.skip("there is no warm server: WARM=0, or a system without pidfd_open", allow_module_level=True)

PARENT = """
import os, sys
from pathlib import Path
parent = Path("/proc", str(os.getppid()))
print((parent / "cmdline").read_text())
print(len(list((parent / "task").iterdir())), [name for name in sys.modules if name.startswith(("affectnet", "stages"))])
"""
"""Prints the command line of its parent, which in a fork is the server, and how many threads that has."""

WAITS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(6))
signal.signal(signal.SIGINT, signal.default_int_handler)  # with nohup, or in the background of a shell, both are ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
try:
    print(os.getpid(), flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(5)
"""

PROGRAMS = {
    "answers": "import os, sys; print(__name__, __file__, sys.argv, sys.path[0], os.getcwd(), os.environ['WORD'], sys.stdin.read())",
    "fails": "def divide():\n    1 / 0\ndivide()",
    "fails in another": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise ValueError('text')",
    "interrupts itself": "raise KeyboardInterrupt",
    "kills itself": "import os, signal; print('before', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    "exits with text": "import sys; sys.exit('text')",
    "exits with a large number": "import sys; sys.exit(1000)",
    "exits late": "import atexit, threading; atexit.register(print, 'exit'); threading.Timer(0.1, print, ['thread']).start()",
    "asks the network": "import socket; socket.create_connection(('192.0.2.1', 9), timeout=5)",
    "warns": "import warnings; warnings.warn('text')",
    "syntax": "1 +",
}
COMMANDS = {
    "a stage": ("python", "-m", "stages.fingerprint"),
    "a mistake": ("python", "-m", "stages.evaluate"),
    "info": ("python", "-m", "affectnet", "info", "pretrained/fer2013.safetensors"),
    "dvc status": ("dvc", "status"),
    "a wrong option of dvc": ("dvc", "repro", "--wrong"),
    "a wrong option": ("affectnet", "info"),
    "an unknown module": ("python", "-m", "stages.unknown"),
    **{name: ("python", f"{name}.py", "an argument") for name in PROGRAMS},
}
EXIT_CODES = {"a mistake": 2, "an unknown module": 1, "kills itself": -signal.SIGKILL, "interrupts itself": -signal.SIGINT}


@pytest.fixture(scope="module")
def clone(fresh: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with the programs."""
    clone = fresh.copy(tmp_path_factory.mktemp("warm") / "clone")
    for name, text in {**PROGRAMS, "parent": PARENT, "waits": WAITS}.items():
        (clone.folder / f"{name}.py").write_text(text)
    return clone


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_and_prints_as_the_real_program(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("REFUSED_CONNECTIONS", str(tmp_path / "refused.txt"))
    monkeypatch.setitem(ENVIRONMENT, "WORD", "a word")
    warm = clone.attempt(*COMMANDS[name])
    monkeypatch.setenv("WARM", "0")
    real = clone.attempt(*COMMANDS[name])
    assert (warm.returncode, warm.stdout, warm.stderr) == (real.returncode, real.stdout, real.stderr)
    assert warm.returncode == EXIT_CODES.get(name, warm.returncode)
    assert (tmp_path / "refused.txt").exists() == (name == "asks the network")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 5), (signal.SIGTERM, 6), (signal.SIGHUP, -signal.SIGHUP)])
def test_a_signal_reaches_the_fork(clone: Clone, number: signal.Signals, code: int) -> None:
    with clone.start("python", "waits.py") as process:
        assert process.stdout and process.stdout.readline()
        process.send_signal(number)
        assert process.wait(60) == code


def test_a_killed_command_leaves_no_fork(clone: Clone) -> None:
    with clone.start("python", "waits.py") as process:
        assert process.stdout
        fork = psutil.Process(int(process.stdout.readline()))
        process.kill()
        fork.wait(60)


def is_warm(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether the program that prints its parent's command line ran in a fork."""
    assert done.returncode == 0, done.stderr
    return "server.py" in done.stdout


def test_a_fork_has_one_thread_and_none_of_this_projects_modules(clone: Clone) -> None:
    done = clone.attempt("python", "parent.py")
    assert is_warm(done) and done.stdout.splitlines()[1:] == ["1 []"]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "PYTHONHASHSEED", "PYTHONPATH", "TORCH_LOGS"])
def test_with_other_settings_the_real_program_runs(clone: Clone, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(ENVIRONMENT, name, "7")
    assert not is_warm(clone.attempt("python", "parent.py"))


@pytest.mark.parametrize("options", [("-c", PARENT), ("-B", "parent.py"), ("-m", "parent")], ids=["code", "option", "module"])
def test_with_options_of_python_the_real_program_runs(clone: Clone, options: tuple[str, ...]) -> None:
    assert is_warm(clone.attempt("python", *options)) == (options[0] == "-m")


def test_without_a_server_the_real_program_runs(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(os.environ["WARM"]) / "python", tmp_path)
    monkeypatch.setenv("WARM", str(tmp_path))
    assert not is_warm(clone.attempt("python", "parent.py"))
