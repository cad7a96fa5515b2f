import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain import refused
from trees import download_fer2013_csv, download_huggingface, unpacked_rows

from affectnet.errors import UserError
from affectnet.sources.registry import open_layout, open_source
from affectnet.sources.unpacked import LIST, Container, unpack
from affectnet.tables.source_pointer import Pointer


def unpacked(pointer: Pointer, folder: Path) -> Path:
    reader = open_layout(pointer)
    assert isinstance(reader, Container)
    return Path(unpack(reader, folder).root)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("download", [download_fer2013_csv, download_huggingface])
def test_a_complete_folder_is_kept_and_an_incomplete_one_is_written_again(tmp_path: Path, download: Callable[[Path], Pointer]) -> None:
    pointer, folder = download(tmp_path / "root"), tmp_path / "unpacked"
    images = unpacked(pointer, folder)
    first, stamps = contents(images), times(images)
    assert unpacked(pointer, folder) == images and times(images) == stamps
    files = sorted(path for path in images.rglob("*") if path.is_file() and path.name != LIST)
    for change in (files[0].unlink, lambda: files[1].write_bytes(b""), (images / LIST).unlink):
        change()
        assert unpacked(pointer, folder) == images and contents(images) == first


def test_other_bytes_and_other_options_have_another_folder(tmp_path: Path) -> None:
    pointer, folder = download_fer2013_csv(tmp_path / "root"), tmp_path / "unpacked"
    folders = {unpacked(pointer, folder), unpacked(replace(pointer, options={"test": "PrivateTest", "other": "unused"}), folder)}
    file = tmp_path / "root" / "fer2013.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:1], lines[2], lines[1], *lines[3:]]))
    folders.add(unpacked(pointer, folder))
    assert len(folders) == 3 and all(path.is_dir() for path in folders)


def test_a_test_share_unpacks_again_since_it_changes_the_splits(tmp_path: Path) -> None:
    pointer, folder = download_huggingface(tmp_path / "root"), tmp_path / "unpacked"
    (path,) = (tmp_path / "root" / "data").glob("test-*")
    path.rename(path.with_name("validation-00000-of-00001.parquet"))
    assert Counter(row["split"] for row in unpacked_rows(pointer, folder)[1]) == {"train": 48, "test": 16}
    shared = replace(pointer, test_share=0.2)
    assert Counter(row["split"] for row in unpacked_rows(shared, folder)[1]) == {"train": 48, "validation": 16}


def test_several_at_once_write_it_once(tmp_path: Path) -> None:
    pointer, folder = download_huggingface(tmp_path / "root"), tmp_path / "unpacked"
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: unpacked(pointer, folder), range(8)))
    (images,) = folders
    assert len(list(images.rglob("*.jpg"))) == 64
    assert {path.name for path in folder.iterdir()} == {images.name, f"{images.name}.lock"}


def test_files_of_a_killed_process_are_replaced(tmp_path: Path) -> None:
    pointer, folder = download_huggingface(tmp_path / "root"), tmp_path / "unpacked"
    images = unpacked(pointer, folder)
    whole = contents(images)
    unfinished = images.rename(folder / f".{images.name}.0123.part")
    unfinished.with_suffix(".lock").touch()
    (unfinished / LIST).unlink()
    assert unpacked(pointer, folder) == images and contents(images) == whole
    assert {path.name for path in folder.iterdir()} == {images.name, f"{images.name}.lock"}


def test_a_place_that_is_gone_or_broken_is_one_line_that_says_the_way_out(tmp_path: Path) -> None:
    reader = open_layout(download_fer2013_csv(tmp_path / "root"))
    assert isinstance(reader, Container)
    pointer = unpack(reader, tmp_path / "unpacked")
    pointer.write(tmp_path)
    assert json.loads((tmp_path / "source.json").read_text())["unpacked_from"] == str(tmp_path / "root")
    (Path(pointer.root) / LIST).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"rows.parquet: cannot be read.*run `dvc repro -f acquire`"):
        list(open_source(Pointer.read(tmp_path)).rows())
    Path(pointer.root).rename(tmp_path / "elsewhere")
    with refused(r"where the images of .*root were unpacked, is not there; run `dvc repro -f acquire`"):
        Pointer.read(tmp_path)


def test_a_download_that_is_still_to_be_unpacked_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"are not unpacked; run `dvc repro -f acquire`"):
        open_source(download_fer2013_csv(tmp_path))


def test_images_and_rows_name_the_same_files(tmp_path: Path) -> None:
    reader = open_layout(download_huggingface(tmp_path / "root"))
    assert isinstance(reader, Container)
    source = open_source(unpack(reader, tmp_path / "unpacked"))
    listed: list[Any] = [path for _, part in source.images() for path in part.to_pylist()]
    assert sorted(listed) == sorted(row["image"] for part in source.rows() for row in part.to_pylist())
    assert all((source.root / path).is_file() for path in listed) and source.annotation_files() == [LIST]
