import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from affectnet.files.atomic import replacing, replacing_folder, write_text

WRITER = """
import sys, time
from pathlib import Path
from affectnet.files.atomic import replacing
path, content, go = map(Path, sys.argv[1:])
with replacing(path) as temporary:
    temporary.write_text(str(content))
    go.with_suffix(".ready").touch()
    while not go.exists():
        time.sleep(0.01)
"""
"""Writes a file, reports that, and renames it once the file `go` exists."""


def writer(path: Path, content: str, go: Path, *before: str) -> subprocess.Popen[bytes]:
    """The running writer once its file is written; before: the command that starts it."""
    command = [*before, sys.executable, "-c", WRITER, str(path), content, str(go)]
    process = subprocess.Popen(command)
    until = time.monotonic() + 60
    while not go.with_suffix(".ready").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    return process


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_content_is_on_the_disk_before_its_name_and_the_name_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, Any]] = []
    fsync, rename = os.fsync, Path.replace

    def fsyncing(descriptor: int) -> None:
        status = os.fstat(descriptor)
        done.append(("disk", (status.st_ino, Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() or status.st_size)))
        fsync(descriptor)

    def renaming(self: Path, target: Path) -> Path:
        done.append(("rename", target))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsyncing)
    monkeypatch.setattr(Path, "replace", renaming)
    path = tmp_path / "file"
    write_text(path, "content")
    assert done == [("disk", (path.stat().st_ino, 7)), ("rename", path), ("disk", (tmp_path.stat().st_ino, True))]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path, folder = tmp_path / "file", tmp_path / "folder"
    write_text(path, "old")
    with replacing_folder(folder) as unfinished:
        write_text(unfinished / "a", "old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    with pytest.raises(KeyError), replacing_folder(folder) as unfinished:
        write_text(unfinished / "b", "new")
        raise KeyError
    assert path.read_text() == "old" and left(folder) == ["a"] and left(tmp_path) == ["file", "folder"]


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with replacing_folder(tmp_path / "folder") as unfinished:
            write_text(unfinished / name, name)
    assert left(tmp_path / "folder") == ["b"] and left(tmp_path) == ["folder"]


def test_what_a_killed_process_left_goes_with_the_next_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    path, folder = tmp_path / "out" / "file", tmp_path / "out"
    killed = writer(path, "killed", tmp_path / "never")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(left(folder)) == 2
    living = writer(path, "living", tmp_path / "go")
    assert len(left(folder)) == 2  # its own
    write_text(path, "between")
    assert path.read_text() == "between"
    (tmp_path / "go").touch()
    assert living.wait(60) == 0
    assert path.read_text() == "living" and left(folder) == ["file"]


def test_a_folder_of_a_killed_process_goes_with_the_next(tmp_path: Path) -> None:
    killed = "import os, sys; from pathlib import Path; from affectnet.files.atomic import replacing_folder\n"
    killed += "with replacing_folder(Path(sys.argv[1])) as folder:\n    (folder / 'a').touch(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "folder")], check=False)
    assert len(left(tmp_path)) == 2
    with replacing_folder(tmp_path / "folder"):
        pass
    assert left(tmp_path) == ["folder"]


def test_processes_of_the_same_number_in_two_containers_write_side_by_side(tmp_path: Path) -> None:
    """As in containers: each process is number 1 of its own namespace, and does not see the other."""
    isolated = ["unshare", "--pid", "--fork", "--kill-child"]
    if not shutil.which("unshare") or subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace of processes can be made here")
    path = tmp_path / "out" / "file"
    first = writer(path, "first", tmp_path / "go1", *isolated)
    second = writer(path, "second", tmp_path / "go2", *isolated)
    write_text(path, "third")
    for process, go in ((second, "go2"), (first, "go1")):
        (tmp_path / go).touch()
        assert process.wait(60) == 0
    assert path.read_text() == "first" and left(path.parent) == ["file"]


def test_a_file_system_without_locks_writes_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    write_text(tmp_path / "file", "a")
    assert left(tmp_path) == ["file"]
