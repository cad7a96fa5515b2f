"""Files of phones, browsers and cameras: read by every walk, or one line each with the remedy."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from portraits import MODEL, drawn, write_model
from trees import tree_folder

from affectnet.__main__ import main
from affectnet.cleaning.inspection import inspect_file
from affectnet.images.decode import HEIF_UNREAD, pillow_heif
from affectnet.images.formats import PHOTOGRAPHS, SUFFIX_FORMATS
from affectnet.sources.registry import open_source
from tools.licensed import reason

Command = Callable[..., tuple[int, str, str]]
READ = [suffix for suffix, name in SUFFIX_FORMATS.items() if name != "HEIF"]
HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf\0\0\0\x08mdat" + bytes(200)
"""The first box of an iPhone's photograph, without an image."""


@pytest.fixture
def run(workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in a folder with a model: exit code, stdout, stderr."""
    write_model()

    def run(*arguments: object) -> tuple[int, str, str]:
        return main([str(argument) for argument in arguments]), *capsys.readouterr()

    return run


def save(path: Path) -> None:
    """A drawn face in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mpo":  # the photograph, and a second view of it
        drawn().save(path, "MPO", save_all=True, append_images=[drawn(64)])
    else:
        drawn(200).save(path, SUFFIX_FORMATS[path.suffix])


@pytest.mark.parametrize("suffix", READ)
def test_each_suffix_of_the_table_is_what_its_format_writes(suffix: str, tmp_path: Path) -> None:
    save(tmp_path / f"a{suffix}")
    entry = inspect_file(tmp_path / f"a{suffix}", "image", md5=False)
    assert (entry.status, entry.format, entry.misnamed) == ("ok", SUFFIX_FORMATS[suffix], False)


def test_a_folder_gives_every_format_and_names_each_file_that_needs_more(run: Command, workspace: Path) -> None:
    for suffix in READ:
        save(workspace / "mine" / f"photograph{suffix}")
    for name in ("phone.heic", "renamed.jpg", "other.HEIF"):
        (workspace / "mine" / name).write_bytes(HEIC)
    code, out, err = run("predict", "mine", "--json", "--model", MODEL)
    assert {Path(json.loads(line)["path"]).name for line in out.splitlines()} == {f"photograph{suffix}" for suffix in READ}
    *problems, last = err.splitlines()
    assert code == 2 and last.startswith(f"predict: {len(READ)} photographs, ") and last.endswith(", 3 unreadable")
    assert sorted(problems) == sorted(
        f"error: mine/{name}: unreadable image: {HEIF_UNREAD}" for name in ("phone.heic", "renamed.jpg", "other.HEIF")
    )


def test_a_labelled_folder_gives_every_format_and_counts_the_rest(run: Command, workspace: Path) -> None:
    for suffix in READ:
        save(workspace / "mine" / "happy" / f"a{suffix}")
    (workspace / "mine" / "happy" / "a.heic").write_bytes(HEIC)
    (workspace / "mine" / "happy" / "a.m4v").write_bytes(b"a video")
    code, _, err = run("evaluate", MODEL, "mine", "--labels", "happy=Happy")
    assert code == 2 and f"{len(READ)} photographs scored" in err and "1 unreadable, 1 other file skipped" in err
    assert HEIF_UNREAD in err


def test_a_reader_of_a_download_lists_every_format(tmp_path: Path) -> None:
    pointer = tree_folder(tmp_path)
    for suffix in SUFFIX_FORMATS:
        (tmp_path / "train" / "happy" / f"new{suffix}").write_bytes(b"x")
    listed = [path for _, paths in open_source(pointer).images() for path in paths.to_pylist()]
    assert {Path(path).suffix for path in listed if Path(path).stem == "new"} == set(SUFFIX_FORMATS)


@pytest.mark.parametrize("suffix", SUFFIX_FORMATS)
def test_the_guard_refuses_every_format_and_lists_of_it(suffix: str) -> None:
    assert reason(f"docs/a{suffix}", b"text", 4) and reason("list.csv", f"1/a{suffix},3\n".encode(), 20)


@pytest.mark.parametrize("content", [HEIC, HEIC.replace(b"ftypheic", b"ftypmif1")])
def test_the_inventory_knows_a_photograph_that_needs_another_library(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    entry = inspect_file(tmp_path / "a.jpg", "image", md5=False)
    assert (entry.status, entry.format, entry.misnamed) == ("unreadable", "HEIF", True)


def test_with_pillow_heif_its_opener_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replacement that opens the bytes after the first box as a PNG."""
    (tmp_path / "pillow_heif.py").write_text(
        "from PIL import Image, PngImagePlugin\nimport io\n"
        "def opened(file, name):\n    return PngImagePlugin.PngImageFile(io.BytesIO(file.read()[28:]))\n"
        "def register_heif_opener():\n    Image.register_open('HEIF', opened, lambda start: start[4:8] == b'ftyp')\n"
    )
    about = tmp_path / "pillow_heif-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pillow-heif\nVersion: 1.0\n")
    buffer = io.BytesIO()
    drawn(64).save(buffer, "PNG")
    (tmp_path / "a.heic").write_bytes(HEIC[:28] + buffer.getvalue())
    monkeypatch.syspath_prepend(str(tmp_path))
    identified: Any = Image.OPEN
    monkeypatch.setattr(Image, "OPEN", dict(identified))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    try:
        assert pillow_heif() == "1.0"
        entry = inspect_file(tmp_path / "a.heic", "image", md5=False)
    finally:
        sys.modules.pop("pillow_heif", None)
    assert (entry.status, entry.width) == ("ok", 64)


def test_each_format_of_the_table_has_a_suffix_of_its_own() -> None:
    suffixes = [suffix for names in PHOTOGRAPHS.values() for suffix in names]
    assert len(suffixes) == len(set(suffixes)) and all(PHOTOGRAPHS.values())


@pytest.mark.parametrize("files", [[], ["notes.txt", "b/more.txt"]])
def test_a_folder_that_gives_nothing_is_a_line_and_exit_code_2(files: list[str], run: Command, workspace: Path) -> None:
    for name in files:
        (workspace / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / "mine" / name).write_text("none")
    (workspace / "mine").mkdir(exist_ok=True)
    drawn().save(workspace / "a.png")
    code, out, err = run("predict", "mine", "a.png", "--model", MODEL)
    assert code == 2 and out.startswith("a.png") and "error: mine: no photograph and no video in it or below" in err


def test_a_class_folder_that_gives_nothing_is_a_line(run: Command, workspace: Path) -> None:
    save(workspace / "mine" / "happy" / "a.png")
    for name in ("sad", "unclear"):
        (workspace / "mine" / name).mkdir()
    code, _, err = run("evaluate", MODEL, "mine", "--labels", "unclear=null")
    assert code == 2 and "error: mine/sad: no photograph and no video in it or below" in err and "unclear: " not in err
