import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chain import run_data_stages
from PIL import Image
from trees import tree_2017, tree_folder

from affectnet.errors import UserError
from affectnet.files.cache_dir import cache_folder
from affectnet.images.resize import decode_face
from affectnet.models.dataset import KEEP_DECODED, load_faces, shards_sha256
from affectnet.tables.face_shards import shard_paths

FACES = Path("data/faces")


def test_pixels_and_labels_are_those_of_the_shards(workspace: Path) -> None:
    run_data_stages(tree_folder(workspace / "root"))
    faces = load_faces(FACES, "test", 48, 1)
    assert faces.images.shape == (14, 48, 48, 3) and faces.expression.bincount(minlength=8).tolist() == [2] * 7 + [0]
    assert bool(faces.valence.isnan().all())
    first = np.asarray(Image.open(workspace / "root" / "validation" / "angry" / "0.jpg").convert("RGB"))
    assert np.array_equal(faces.images[0].numpy(), first)


def test_workers_change_nothing_and_a_second_reading_decodes_nothing(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_data_stages(tree_2017(workspace / "root"))
    first = load_faces(FACES, "train", 32, 1).images.clone()
    (kept,) = cache_folder("decoded").iterdir()
    (kept / "pixels.uint8").unlink()
    assert np.array_equal(load_faces(FACES, "train", 32, 2).images, first)
    monkeypatch.setattr("affectnet.models.dataset._decode_group", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(load_faces(FACES, "train", 32, 1).images, first)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def cut(path: Path, left: int) -> None:
    path.write_bytes(path.read_bytes()[:left])


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a flipped bit in the first face": ("pixels.uint8", lambda path: flip(path, 0)),
    "a flipped bit in the last face": ("pixels.uint8", lambda path: flip(path, -1)),
    "a page of zeros, as after a power cut": ("pixels.uint8", lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(4096))),
    "cut": ("pixels.uint8", lambda path: cut(path, path.stat().st_size // 2)),
    "cut by a byte": ("pixels.uint8", lambda path: cut(path, -1)),
    "with a byte too much": ("pixels.uint8", lambda path: path.write_bytes(path.read_bytes() + b"0")),
    "empty": ("pixels.uint8", lambda path: cut(path, 0)),
    "no checksums": ("checksums.json", Path.unlink),
    "cut checksums": ("checksums.json", lambda path: cut(path, 9)),
    "other checksums": ("checksums.json", lambda path: path.write_text('{"crc32": null}')),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_pixels_are_decoded_again_and_reported(workspace: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    run_data_stages(tree_2017(workspace / "root"))
    first = load_faces(FACES, "train", 32, 1).images.clone()
    (folder,) = cache_folder("decoded").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["checksums.json", "pixels.uint8"]
    name, spoil = DAMAGE[damage]
    spoil(folder / name)
    capsys.readouterr()
    assert np.array_equal(load_faces(FACES, "train", 32, 1).images, first)
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith(f"decode: {folder / 'pixels.uint8'}: ") and message.endswith("; decoding again")
    assert np.array_equal(load_faces(FACES, "train", 32, 1).images, first)
    assert capsys.readouterr().err == ""


def test_the_pixels_are_mapped_read_only(workspace: Path) -> None:
    """A private writable map counts as memory: the kernel refuses one that is larger."""
    run_data_stages(tree_2017(workspace / "root"))
    faces = load_faces(FACES, "train", 32, 1)
    assert len(faces)
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("pixels.uint8")]
    assert {fields[1] for fields in maps} == {"r--s"}


def test_only_the_newest_decoded_arrays_are_kept(workspace: Path) -> None:
    run_data_stages(tree_2017(workspace / "root"))
    for image_px in range(16, 16 + KEEP_DECODED + 3):
        load_faces(FACES, "test", image_px, 1)
    assert len(list(cache_folder("decoded").iterdir())) == KEEP_DECODED


def test_a_face_is_resized_to_the_networks_input_in_rgb() -> None:
    buffer = io.BytesIO()
    Image.new("L", (30, 20), 77).save(buffer, "PNG")
    face = decode_face(buffer.getvalue(), 24)
    assert face.shape == (24, 24, 3) and face.dtype == np.uint8 and set(face.ravel()) == {77}


def test_a_fingerprint_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert shards_sha256([tmp_path / "a"]) != shards_sha256([tmp_path / "b"])
    before = shards_sha256([tmp_path / "a"])
    (tmp_path / "a").write_bytes(b"2")
    assert shards_sha256([tmp_path / "a"]) != before


def test_an_empty_split_and_an_incomplete_series_are_one_line(workspace: Path) -> None:
    run_data_stages(tree_2017(workspace / "root"))
    shard = shard_paths(FACES, "train")[0]
    shard.rename(shard.with_name("train-00000-of-00002.parquet"))
    with pytest.raises(UserError, match="not a complete series"):
        load_faces(FACES, "train", 32, 1)
    with pytest.raises(UserError, match="no shard of the split nothing"):
        load_faces(FACES, "nothing", 32, 1)
