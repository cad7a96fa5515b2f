"""Lists of checksums as other systems write them."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from affectnet.files.checksums import mismatched, read_checksums

FILES = {"train/happy/a.jpg": b"a", "train/happy/b.jpg": b"b", "test/Sad/c.JPG": b"c", "odd\\name.jpg": b"d"}


def inventory(files: dict[str, bytes]) -> pa.Table:
    """The table of files as in verify, from contents by path."""
    sha256, md5 = ([hashlib.new(name, content).digest() for content in files.values()] for name in ("sha256", "md5"))
    return pa.table({"path": list(files), "sha256": pa.array(sha256, pa.binary(32)), "md5": pa.array(md5, pa.binary(16))})


def listed(folder: Path, lines: list[str], ends: str = "\n") -> pa.Table:
    (folder / "sums.txt").write_bytes("".join(line + ends for line in lines).encode())
    return read_checksums(folder / "sums.txt")


def line(path: str, content: bytes, mark: str = " ") -> str:
    return f"{hashlib.sha256(content).hexdigest()} {mark}{path}"


WINDOWS: dict[str, Callable[[str], str]] = {
    "backslashes": lambda path: path.replace("/", "\\"),
    "from the folder": lambda path: ".\\" + path.replace("/", "\\"),
    "capitals": str.upper,
    "small letters": str.lower,
    "capitals and backslashes": lambda path: path.upper().replace("/", "\\"),
}


@pytest.mark.parametrize("form", WINDOWS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_list_made_on_windows_is_held_against_the_files(form: str, ends: str, tmp_path: Path) -> None:
    files = {path: content for path, content in FILES.items() if "\\" not in path}
    lines = [line(WINDOWS[form](path), content, "*") for path, content in files.items()]
    lines[0] = lines[0][:64].upper() + lines[0][64:]
    assert mismatched(listed(tmp_path, lines, ends), inventory(FILES)) == []
    other = [*lines[:2], "0" * 64 + lines[2][64:]]
    assert mismatched(listed(tmp_path, other, ends), inventory(FILES)) == ["test/Sad/c.JPG"]  # by its own path


def test_a_file_of_the_very_name_comes_first(tmp_path: Path) -> None:
    lines = [line("odd\\name.jpg", b"d"), "\\" + line("odd\\\\name.jpg", b"d")]
    for one in lines:
        assert mismatched(listed(tmp_path, [one]), inventory({**FILES, "odd/name.jpg": b"other"})) == []


def test_a_name_that_two_files_may_mean_means_neither(tmp_path: Path) -> None:
    files = {"a/1.jpg": b"a", "A/1.jpg": b"a"}
    assert mismatched(listed(tmp_path, [line("a\\1.JPG", b"a")]), inventory(files)) == ["a\\1.JPG"]
    assert mismatched(listed(tmp_path, [line("A/1.jpg", b"a")]), inventory(files)) == []
