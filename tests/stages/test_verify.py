import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from chain import local, metrics, refused, run_stage
from PIL import Image
from trees import TREES, images_2017, noise, row, tree_2017, tree_folder, write_2017

from affectnet.cleaning.inspection import inspect_file
from affectnet.errors import UserError
from affectnet.files.sha256 import file_sha256
from affectnet.images.formats import IMAGE_SUFFIXES
from affectnet.tables.inventory import INVENTORY
from affectnet.tables.source_pointer import Pointer
from stages import verify


def run(workspace: Path, pointer: Pointer, tolerance: float = 1.0, workers: int = 1, follow_links: bool = False) -> dict[str, Any]:
    """The counts of metrics/verify.json; the inventory is in the same folder."""
    pointer.write(workspace / "raw")
    params, runtime = verify.VerifyParams(tolerance=tolerance, follow_links=follow_links), local(workers)
    verify.run(params, runtime, workspace / "raw", inventory=workspace / "inventory.parquet", metrics=workspace / "verify.json")
    counts: dict[str, Any] = json.loads((workspace / "verify.json").read_text())
    return counts


def inventory(workspace: Path) -> dict[str, dict[str, Any]]:
    return {entry["path"]: entry for entry in INVENTORY.read(workspace / "inventory.parquet").to_pylist()}


def status(workspace: Path, name: str) -> str:
    status: str = inventory(workspace)[f"Manually_Annotated/Manually_Annotated_Images/{name}"]["status"]
    return status


def faulty(root: Path) -> Pointer:
    """One file of each kind that downloads contain."""
    images = images_2017(root)
    names = ["ok.jpg", "empty.jpg", "cut.jpg", "cut.png", "html.jpg", "stub.jpg", "png_named.jpg", "grey.jpg", "cmyk.jpg", "tiff.tif"]
    for number, name in enumerate(names):
        noise(images / "1" / name, number)
    (images / "1" / "empty.jpg").write_bytes(b"")
    for name in ("cut.jpg", "cut.png"):
        content = (images / "1" / name).read_bytes()
        (images / "1" / name).write_bytes(content[: len(content) // 2])
    (images / "1" / "stub.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (images / "1" / "html.jpg").write_text("<html>404</html>")
    noise(images / "1" / "png_named.jpg", 20, kind="PNG")
    noise(images / "1" / "grey.jpg", 21, mode="L")
    noise(images / "1" / "cmyk.jpg", 22, mode="CMYK")
    noise(images / "1" / "unlisted.jpg", 23)
    (images / "1" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    noise(images / "2" / "test.jpg", 30)
    return write_2017(root, [row(f"1/{name}") for name in [*names, "gone.jpg"]], [row("2/test.jpg")])


def test_every_kind_of_file_gets_its_status_and_is_counted(workspace: Path) -> None:
    counts = run(workspace, faulty(workspace / "root"))
    expected = {"ok.jpg": "ok", "empty.jpg": "empty", "cut.jpg": "truncated", "cut.png": "truncated", "stub.jpg": "truncated"}
    expected |= {"html.jpg": "not_an_image", "gone.jpg": "missing", "grey.jpg": "ok", "cmyk.jpg": "ok", "tiff.tif": "ok"}
    assert {name: status(workspace, f"1/{name}") for name in expected} == expected
    assert {name: counts[name] for name in ("files", "listed", "ok", "missing", "empty", "truncated", "not_an_image")} == {
        "files": 15,
        "listed": 12,
        "ok": 6,
        "missing": 1,
        "empty": 1,
        "truncated": 3,
        "not_an_image": 1,
    }
    assert (counts["misnamed"], counts["unreferenced"]) == (1, 2)
    assert counts["bytes"] == sum(path.stat().st_size for path in (workspace / "root").rglob("*") if path.is_file())


def test_a_row_of_the_inventory_is_what_the_file_is(workspace: Path) -> None:
    run(workspace, faulty(workspace / "root"))
    path = images_2017(workspace / "root") / "1" / "png_named.jpg"
    entry = inventory(workspace)[path.relative_to(workspace / "root").as_posix()]
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).digest() and entry["bytes"] == path.stat().st_size
    assert (entry["format"], entry["misnamed"], entry["width"], entry["height"], entry["mode"]) == ("PNG", True, 96, 96, "RGB")


def test_tolerance_decides_and_the_message_names_count_first_few_and_list(workspace: Path) -> None:
    pointer = faulty(workspace / "root")
    with pytest.raises(UserError) as caught:
        run(workspace, pointer, tolerance=0.4)
    line = str(caught.value)
    assert "6 of 12 listed images cannot be used" in line and "inventory.parquet" in line and "6: " in line and "\n" not in line
    assert INVENTORY.read(workspace / "inventory.parquet")["status"].to_pylist().count("truncated") == 3
    assert run(workspace, pointer, tolerance=0.5)["ok"] == 6


def test_a_repeat_reads_only_what_has_changed_and_gives_the_same(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pointer = tree_2017(workspace / "root")
    for path in (workspace / "root").rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    run(workspace, pointer)
    first = (workspace / "inventory.parquet").read_bytes()
    read: list[Path] = []
    original = inspect_file

    def counting(path: Path, kind: str, md5: bool) -> Any:
        read.append(path)
        return original(path, kind, md5)

    monkeypatch.setattr(verify, "inspect_file", counting)
    run(workspace, pointer)
    assert read == [] and (workspace / "inventory.parquet").read_bytes() == first
    changed = next(images_2017(workspace / "root").rglob("*.jpg"))
    noise(changed, 77)
    run(workspace, pointer)
    assert read == [changed]
    read.clear()
    monkeypatch.setattr(verify, "version", lambda name: "another")
    run(workspace, pointer)
    assert len(read) == sum(path.is_file() for path in (workspace / "root").rglob("*"))


@pytest.mark.parametrize("reason", [KeyboardInterrupt, UserError])
def test_what_was_read_before_an_interruption_is_not_read_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, reason: type[BaseException]
) -> None:
    pointer = tree_2017(workspace / "root")
    for path in (workspace / "root").rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    run(workspace, pointer)
    whole = (workspace / "inventory.parquet").read_bytes()
    shutil.rmtree(workspace / ".dvc")
    read: list[Path] = []
    original = inspect_file

    def interrupted(path: Path, kind: str, md5: bool) -> Any:
        read.append(path)
        if len(read) == 20:
            raise reason
        return original(path, kind, md5)

    monkeypatch.setattr(verify, "CHUNK", 8)
    monkeypatch.setattr(verify, "inspect_file", interrupted)
    with pytest.raises(reason):
        run(workspace, pointer)
    first = set(read[:16])
    read[:] = [Path()] * 20
    run(workspace, pointer)
    files = {path for path in (workspace / "root").rglob("*") if path.is_file()}
    assert set(read[20:]) == files - first and (workspace / "inventory.parquet").read_bytes() == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_any_name_is_found_and_its_suffix_says_whether_it_is_an_image(workspace: Path, workers: int) -> None:
    pointer, folder = tree_2017(workspace / "root"), workspace / "root" / "more.jpg"
    names = ["a.JPG", "b..jpeg", "c.tar.webp", ".png", "d.", "e.jpg.txt", "jpg", "new\nline.gif", "ſ.tiff", os.fsdecode(b"caf\xe9.bmp")]
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"\xff\xd8\xff")
    run(workspace, pointer, workers=workers)
    files = inventory(workspace)
    for name in names:
        entry = files[f"more.jpg/{name.encode('utf-8', 'backslashreplace').decode()}"]
        assert entry["kind"] == ("image" if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else "other")
        assert entry["sha256"] == hashlib.sha256(b"\xff\xd8\xff").digest()


def test_links_within_the_root_are_their_files_and_links_to_folders_nothing_or_themselves_are_none(workspace: Path) -> None:
    pointer, folder = tree_2017(workspace / "root"), images_2017(workspace / "root") / "1"
    before = run(workspace, pointer)["files"]
    (folder / "again.jpg").symlink_to(next(folder.glob("*.jpg")))
    for name, target in (("folder", folder), ("nothing.jpg", folder / "gone.jpg"), ("self.jpg", folder / "self.jpg")):
        (folder / name).symlink_to(target)
    assert run(workspace, pointer)["files"] == before + 1 and status(workspace, "1/again.jpg") == "ok"


def test_workers_do_not_change_the_inventory(workspace: Path) -> None:
    pointer = faulty(workspace / "root")
    run(workspace, pointer)
    first = (workspace / "inventory.parquet").read_bytes()
    for path in (workspace / ".dvc").rglob("*.parquet"):
        path.unlink()
    run(workspace, pointer, workers=2)
    assert (workspace / "inventory.parquet").read_bytes() == first


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_checksum_list_is_held_against_the_files(workspace: Path, algorithm: str) -> None:
    pointer = tree_folder(workspace / "root")
    files = sorted(path for path in (workspace / "root").rglob("*.jpg"))
    lines = [
        f"{hashlib.new(algorithm, path.read_bytes()).hexdigest()} *./{path.relative_to(workspace / 'root').as_posix()}" for path in files
    ]
    listing = workspace / "sums.txt"
    listing.write_text("\n".join(lines) + "\n")
    pointer = replace(pointer, checksums=str(listing))
    assert run(workspace, pointer)["checksum_mismatch"] == 0
    not_there = lines[1].replace(".jpg", "_not_there.jpg")
    listing.write_text("\n".join(["0" * 6 + lines[0][6:], *lines[1:], not_there]) + "\n")
    assert run(workspace, pointer)["checksum_mismatch"] == 2
    with pytest.raises(UserError, match="checksums differ"):
        run(workspace, pointer, tolerance=0.0)


def with_checksums(workspace: Path, pointer: Pointer) -> Pointer:
    """The pointer with a list of the checksums that its files have now."""
    files = [path for path in sorted(Path(pointer.root).rglob("*")) if path.is_file()]
    listing = workspace / "sums.txt"
    listing.write_text("".join(f"{file_sha256(path).hex()}  {path.relative_to(pointer.root)}\n" for path in files))
    return replace(pointer, checksums=str(listing))


def test_an_image_with_another_checksum_is_not_used_also_below_the_tolerance(workspace: Path) -> None:
    pointer = with_checksums(workspace, tree_folder(workspace / "root"))
    altered = next(Path(pointer.root).rglob("*.jpg"))
    noise(altered, 999)
    pointer.write(Path("data/raw"))
    assert "1 altered" in run_stage("verify", tolerance=0.5)
    run_stage("clean")
    assert metrics("verify")["checksum_mismatch"] == 1 and metrics("clean")["rejected_by"] == {"altered": 1}


def test_annotations_with_another_checksum_are_refused_whatever_the_tolerance(workspace: Path) -> None:
    pointer = with_checksums(workspace, tree_2017(workspace / "root"))
    listing = next(Path(pointer.root).rglob("training.csv"))
    listing.write_text(listing.read_text().replace(",0,", ",1,"))
    with refused(r"annotations have another checksum than .*sums.txt lists, 1: .*training.csv; fetch them again"):
        run(workspace, pointer, tolerance=1.0)


@pytest.mark.parametrize("above", ["AffectNet/", "./AffectNet/", "AffectNet\\"])
def test_a_checksum_list_whose_paths_begin_above_the_root_is_one_line(workspace: Path, above: str) -> None:
    pointer = with_checksums(workspace, tree_2017(workspace / "root"))
    listing = workspace / "sums.txt"
    listing.write_text(listing.read_text().replace("  ", f"  {above}"))
    with refused(r"sums.txt: lists 66 files, as .*AffectNet\S+ and .*root has none of them; its paths must count from the root"):
        run(workspace, pointer)
    listing.write_text("# no file\n")
    assert run(workspace, pointer)["checksum_mismatch"] == 0


def test_the_summary_counts_files_with_another_checksum(workspace: Path) -> None:
    pointer = with_checksums(workspace, tree_folder(workspace / "root"))
    pointer.write(Path("data/raw"))
    assert "checksum" not in run_stage("verify")
    (Path(pointer.root) / "readme.txt").write_text("about")
    with (workspace / "sums.txt").open("a") as listing:
        listing.write(f"{'0' * 64}  readme.txt\n{'0' * 64}  gone.txt\n")
    assert "; 2 files without the checksum that is listed" in run_stage("verify", tolerance=0.5)


def test_a_checksum_list_in_another_format_is_one_line(workspace: Path) -> None:
    (workspace / "sums.txt").write_text("abc file\n")
    with pytest.raises(UserError, match=r"not in the format of sha256sum or md5sum, 1: line 1"):
        run(workspace, replace(tree_folder(workspace / "root"), checksums=str(workspace / "sums.txt")))


def test_published_counts_are_compared(workspace: Path) -> None:
    pointer = replace(tree_2017(workspace / "root"), expected={"training": 50, "validation": 16})
    assert run(workspace, pointer)["expected_difference"] == {"training": -2, "validation": 0}
    with pytest.raises(
        UserError,
        match=r"datasets.affectnet2017.expected.training: 50, but the list names 48 images.* or datasets.affectnet2017.expected to null",
    ):
        run(workspace, pointer, tolerance=0.01)


@pytest.mark.parametrize("path", ["../outside.jpg", "/etc/passwd", "1/../../../outside.jpg", "..\\outside.jpg"])
def test_a_listed_path_that_climbs_out_of_the_root_is_refused(workspace: Path, path: str) -> None:
    pointer = tree_2017(workspace / "root")
    write_2017(workspace / "root", [row(path), row("1/" + "0" * 56 + ".jpg")], [row("1/" + "0" * 56 + ".jpg")])
    with pytest.raises(UserError, match=r"listed paths lead out of the root, 1: "):
        run(workspace, pointer)


def test_a_link_that_leads_out_of_the_root_is_refused(workspace: Path) -> None:
    pointer = tree_2017(workspace / "root")
    noise(workspace / "elsewhere.jpg", 5)
    (images_2017(workspace / "root") / "1" / "link.jpg").symlink_to(workspace / "elsewhere.jpg")
    with pytest.raises(UserError, match=r"links lead out of the root, 1: .*verify.follow_links: true"):
        run(workspace, pointer)


@pytest.mark.parametrize("layout", TREES)
def test_linked_folders_and_files_are_read_as_their_own_where_links_are_followed(workspace: Path, layout: str) -> None:
    pointer, elsewhere = TREES[layout](workspace / "root"), workspace / "elsewhere"
    before = run(workspace, pointer)
    whole = (workspace / "inventory.parquet").read_bytes()
    elsewhere.mkdir()
    shutil.rmtree(workspace / ".dvc")
    files = sorted(path for path in (workspace / "root").rglob("*") if path.is_file())
    for number, path in enumerate([files[0], files[-1]]):
        path.symlink_to(path.rename(elsewhere / f"{number}{path.suffix}"))
    for number, path in enumerate(sorted((workspace / "root").iterdir())):
        path.symlink_to(path.rename(elsewhere / f"folder{number}"))
    with pytest.raises(UserError, match="links lead out of the root"):
        run(workspace, pointer)
    assert run(workspace, pointer, follow_links=True) == before
    assert (workspace / "inventory.parquet").read_bytes() == whole
    pointer.write(workspace / "data" / "raw")
    shutil.copy(workspace / "inventory.parquet", workspace / "data")
    for stage in ("clean", "crop"):
        run_stage(stage)
    assert metrics("clean")["kept"] == before["ok"]


def test_followed_links_in_a_circle_end_and_each_folder_is_entered_once(workspace: Path) -> None:
    pointer, root = tree_2017(workspace / "root"), workspace / "root"
    before = run(workspace, pointer)["files"]
    for name in ("a", "b", "c"):
        (workspace / "disk" / name).mkdir(parents=True)
        noise(workspace / "disk" / name / "face.jpg", 50 + ord(name))
    for name, target in (("a/b", "b"), ("b/a", "a"), ("a/c", "c"), ("b/c", "c"), ("c/itself", "c"), ("c/root", "../root"), ("c/all", "/")):
        (workspace / "disk" / name).symlink_to(workspace / "disk" / target)
    for name, image in (
        ("up", root.parent),
        ("root", root),
        ("slash", Path("/")),
        ("disk", workspace / "disk" / "a"),
        ("z", workspace / "disk" / "b"),
    ):
        (root / name).symlink_to(image)
    (root / "to_itself").symlink_to("to_itself")
    assert run(workspace, pointer, follow_links=True)["files"] == before + 3
    assert sorted(path for path in inventory(workspace) if "face" in path) == ["disk/c/face.jpg", "disk/face.jpg", "z/face.jpg"]


def test_a_hidden_link_takes_no_folder_from_a_visible_one(workspace: Path) -> None:
    pointer, root, elsewhere = tree_folder(workspace / "root"), workspace / "root", workspace / "elsewhere"
    before = run(workspace, pointer)["ok"]
    (root / "train" / "happy").rename(elsewhere)
    (root / "train" / "happy").symlink_to(elsewhere)
    for hidden in (root / ".cache", root / ".hidden" / "link", root / "__MACOSX" / "link"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.symlink_to(elsewhere)
    assert run(workspace, pointer, follow_links=True)["ok"] == before


@pytest.mark.parametrize("when", ["opened", "read"])
def test_a_folder_that_cannot_be_read_is_one_line(workspace: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """As another user, since chmod does not keep root out."""
    pointer, original = tree_2017(workspace / "root"), os.scandir
    closed = images_2017(workspace / "root") / "2"

    @contextmanager
    def broken(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        with original(path) as entries:
            yield (entry if number < 2 else _raise(OSError(5, "Input/output error")) for number, entry in enumerate(entries))

    def scandir(path: str = ".") -> Any:
        if Path(path) == closed:
            return broken(path) if when == "read" else _raise(PermissionError(13, "Permission denied"))
        return original(path)

    monkeypatch.setattr("affectnet.files.file_walk.os.scandir", scandir)
    with pytest.raises(UserError, match=rf"folders cannot be read, 1: {closed} \((Permission denied|Input/output error)\)") as caught:
        run(workspace, pointer)
    assert "\n" not in str(caught.value) and not (workspace / "inventory.parquet").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_without_the_right_to_read_it_is_one_line(workspace: Path) -> None:
    pointer = tree_2017(workspace / "root")
    (closed := images_2017(workspace / "root") / "2").chmod(0)
    try:
        with pytest.raises(UserError, match="folders cannot be read, 1: "):
            run(workspace, pointer)
    finally:
        closed.chmod(0o755)


def _raise(error: OSError) -> Any:
    raise error


def test_a_photograph_of_too_many_pixels_is_unreadable_and_no_crash(workspace: Path) -> None:
    pointer = tree_folder(workspace / "root")
    Image.new("1", (20_000, 20_000)).save(workspace / "root" / "train" / "happy" / "bomb.png")
    assert run(workspace, pointer)["unreadable"] == 1
