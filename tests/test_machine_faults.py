"""A fault of the machine while data are read is not recorded as a fault of the data: one line, nothing remembered."""

import errno
import os
import resource
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import metrics, run_data_stages, run_stage
from trees import TREES, tree_2017, tree_2021

from affectnet.cleaning import inspection
from affectnet.errors import UserError, exit_code
from affectnet.models import dataset
from affectnet.models.dataset import load_faces
from affectnet.predict import batch
from affectnet.sources import per_image
from affectnet.sources.affectnet2021 import AffectNet2021
from affectnet.tables.face_shards import FACES
from affectnet.tables.inventory import INVENTORY
from affectnet.tables.source_pointer import Pointer
from stages import crop, verify

NUMBERS = [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOMEM]


def raising(error: BaseException, when: Callable[..., bool], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises the error for some calls."""

    def call(*arguments: Any, **options: Any) -> Any:
        if when(*arguments):
            raise error
        return otherwise(*arguments, **options)

    return call


def one_line_of(command: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which the command ends, with exit code 2."""
    capsys.readouterr()
    assert exit_code(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@contextmanager
def no_more_files() -> Iterator[None]:
    """Limits the open files to the current number."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def without_files(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called while no further file can be opened."""

    def call(*arguments: Any, **options: Any) -> Any:
        with no_more_files():
            return function(*arguments, **options)

    return call


def settled(root: Path) -> None:
    """Makes all files old, so that verify remembers them."""
    for path in root.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))


def prepared(pointer: Pointer) -> None:
    settled(Path(pointer.root))
    pointer.write(Path("data/raw"))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("when", ["opened", "read"])
def test_verify_ends_and_remembers_nothing_of_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, when: str
) -> None:
    prepared(tree_2017(workspace / "root"))
    victim = sorted((workspace / "root").rglob("*.jpg"))[20]
    error = OSError(number, os.strerror(number), *([str(victim)] if when == "opened" else []))
    with monkeypatch.context() as patch:
        if when == "opened":
            patch.setattr(Path, "open", raising(error, lambda path, *_: path == victim, Path.open))
        else:  # by the file's descriptor, without its path
            patch.setattr(os, "fstat", raising(error, lambda file: Path(f"/proc/self/fd/{file}").resolve() == victim, os.fstat))
        line = one_line_of(lambda: run_stage("verify", tolerance=1.0), capsys)
    assert str(victim) in line and os.strerror(number) in line and line.endswith("and run again")
    run_stage("verify", tolerance=1.0)
    assert metrics("verify")["ok"] == 64 and not Path("data/inventory.parquet").with_suffix(".part").exists()


@pytest.mark.parametrize("function", ["open_image", "upright", "difference_hash", "decode_plain"])
def test_a_memory_that_is_full_is_no_fault_of_the_photograph(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], function: str
) -> None:
    pointer = tree_2017(workspace / "root")
    for path in sorted((workspace / "root").rglob("*.jpg"))[:10]:  # Pillow reads these
        path.write_bytes(path.read_bytes().replace(b"\xff\xdb", b"\xff\xe2\x00\x06MPF\0\xff\xdb", 1))
    prepared(pointer)
    with monkeypatch.context() as patch:
        patch.setattr(inspection, function, raising(MemoryError(), lambda *_: True, lambda: None))
        assert "memory is full" in one_line_of(lambda: run_stage("verify", tolerance=1.0), capsys)
    run_stage("verify", tolerance=1.0)
    assert metrics("verify")["ok"] == 64


def test_a_file_without_permission_is_the_datas_fault_and_not_remembered(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tree_2017(workspace / "root"))
    victim = sorted((workspace / "root").rglob("*.jpg"))[20]
    with monkeypatch.context() as patch:
        denied = PermissionError(errno.EACCES, "Permission denied", str(victim))
        patch.setattr(Path, "open", raising(denied, lambda path, *_: path == victim, Path.open))
        run_stage("verify", tolerance=1.0)
        assert (metrics("verify")["ok"], metrics("verify")["unreadable"]) == (63, 1)
    run_stage("verify", tolerance=1.0)
    assert metrics("verify")["ok"] == 64


@pytest.mark.parametrize("stage", ["verify", "crop", "load_faces"])
def test_too_many_open_files_are_one_line_as_the_kernel_tells_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    prepared(tree_2017(workspace / "root"))
    commands: dict[str, tuple[Any, str, Callable[[], object]]] = {
        "verify": (verify, "_inspect_chunk", lambda: run_stage("verify", tolerance=1.0)),
        "crop": (crop, "_cut_chunk", lambda: run_stage("crop")),
        "load_faces": (dataset, "_decode_group", lambda: load_faces(Path("data/faces"), "train", 32, 1)),
    }
    for name, (module, function, command) in commands.items():
        if name == stage:
            with monkeypatch.context() as patch:
                patch.setattr(module, function, without_files(getattr(module, function)))
                assert "Too many open files; raise `ulimit -n`" in one_line_of(command, capsys)
        command()
        if name == "verify":
            run_stage("clean")
    assert metrics("verify")["ok"] == 64 and len(load_faces(Path("data/faces"), "train", 32, 1)) == 40


@pytest.mark.parametrize("number", NUMBERS)
def test_crop_ends_in_its_own_words(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    run_data_stages(tree_2017(workspace / "root"))
    before = {path.name: path.read_bytes() for path in Path("data/faces").iterdir()}
    victim = sorted((workspace / "root").rglob("*.jpg"))[20]
    error = OSError(number, os.strerror(number))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", raising(error, lambda path: path == victim, Path.read_bytes))
        line = one_line_of(lambda: run_stage("crop"), capsys)
    assert str(victim) in line and os.strerror(number) in line and "verify" not in line
    assert {path.name: path.read_bytes() for path in Path("data/faces").iterdir()} == before


@pytest.mark.parametrize("error", [MemoryError(), *(OSError(number, os.strerror(number)) for number in NUMBERS)], ids=repr)
def test_decoding_ends_and_leaves_nothing_half(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    run_data_stages(tree_2017(workspace / "root"))
    whole = load_faces(Path("data/faces"), "train", 24, 1).images.clone()
    load_faces(Path("data/faces"), "train", 32, 1)
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "decode_face", raising(error, lambda *_: True, lambda: None))
        assert "dvc repro" not in one_line_of(lambda: load_faces(Path("data/faces"), "train", 16, 1), capsys)
        patch.setattr(zlib, "crc32", raising(error, lambda *_: True, lambda: None))
        assert "damaged" not in one_line_of(lambda: load_faces(Path("data/faces"), "train", 24, 1), capsys)
    capsys.readouterr()
    assert np.array_equal(load_faces(Path("data/faces"), "train", 24, 1).images, whole) and capsys.readouterr().err == ""


@pytest.mark.parametrize("layout", ["affectnet2021", "affectnet_plus"])
@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "Input/output error")])
def test_no_annotation_is_malformed_because_of_the_machine(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], layout: str, error: Exception
) -> None:
    prepared(TREES[layout](workspace / "root"))
    run_stage("verify", tolerance=1.0)
    module = f"affectnet.sources.{layout}.read_limited"
    with monkeypatch.context() as patch:
        patch.setattr(module, raising(error, lambda path, _: path.stem.startswith("3"), per_image.read_limited))
        one_line_of(lambda: run_stage("clean"), capsys)
    run_stage("clean")
    assert metrics("clean")["rejected"] == 0


@pytest.mark.parametrize("shape", ["(10**15,)", f"({'-' * 9000}1,)"], ids=["more than any memory holds", "deeper than a parser goes"])
def test_an_array_whose_header_takes_the_memory_is_malformed(workspace: Path, shape: str) -> None:
    pointer = tree_2021(workspace / "root")
    (file, *_) = sorted((workspace / "root" / "train_set" / "annotations").glob("*_exp.npy"))
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    annotation = AffectNet2021(pointer).read((file,))
    assert annotation.fault == "malformed"


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_predict_goes_on_after_a_broken_file_and_ends_with_a_broken_machine(error: Exception) -> None:
    assert isinstance(batch.problem("a.jpg", ValueError("broken")), UserError)
    with pytest.raises(type(error)):
        batch.problem("a.jpg", error)


def test_a_shard_or_table_that_cannot_be_opened_is_not_said_to_be_broken(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_data_stages(tree_2017(workspace / "root"))

    for read in (lambda: INVENTORY.read(Path("data/inventory.parquet")), lambda: FACES.read(next(Path("data/faces").iterdir()))):
        assert "Too many open files; raise" in one_line_of(without_files(read), capsys)
