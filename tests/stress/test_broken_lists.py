"""Broken annotations: the broken row is a counted rejection, or the run ends in one line; the valid rows are unchanged."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounds import MOST_MB, in_time, real_stage
from broken_lists import FILES, LINES, NEIGHBOUR, PATHS, claimed, json_cases, npy_cases
from chain import annotations, metrics, run_stage
from hypothesis import given, settings
from hypothesis import strategies as st
from tally import Tally, every
from trees import LANDMARKS, images_2017, noise, row, tree_2017, tree_2021, tree_folder, tree_plus

from affectnet.errors import UserError
from affectnet.sources.registry import open_source
from affectnet.tables.annotations import REJECTED
from affectnet.tables.inventory import INVENTORY
from affectnet.tables.source_pointer import Pointer

__all__ = ["in_time"]
TRAINING = Path("root/Manually_Annotated_file_lists/training.csv")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid download of 2017: two training rows and one test row per expression, and one more photograph."""
    root = tmp_path_factory.mktemp("template") / "root"
    tree_2017(root, 2, 1)
    noise(images_2017(root) / NEIGHBOUR, 4321)
    return root


@pytest.fixture
def sound(template: Path, workspace: Path) -> list[str]:
    """The lines of the valid training list, in a copy of the template as the download of the working folder."""
    root = workspace / "root"
    for path in template.rglob("*"):
        if path.is_file():
            (root / path.relative_to(template)).parent.mkdir(parents=True, exist_ok=True)
            (os.link if path.suffix == ".jpg" else _copy)(path, root / path.relative_to(template))
    Pointer("affectnet2017", str(root)).write(Path("data/raw"))
    return TRAINING.read_text(encoding="utf-8").splitlines()


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def rejected() -> dict[str, str]:
    return {entry["image"]: entry["reason"] for entry in REJECTED.read(Path("data/rejected.parquet")).to_pylist()}


def run_stages() -> dict[str, Any]:
    """The counts of clean, after verify; each row is kept or rejected."""
    run_stage("verify", tolerance=1.0)
    run_stage("clean")
    counts = metrics("clean")
    assert counts["read"] == counts["kept"] + counts["rejected"] == len(annotations()) + counts["rejected"]
    return counts


def one_line() -> str:
    """The message with which the stages end."""
    with pytest.raises(UserError) as caught:
        run_stages()
    assert all(problem and "\n" not in problem.strip() for problem in caught.value.problems), caught.value
    return str(caught.value)


def assert_sound_rows(but: int = 0) -> None:
    """Each valid row is kept with its values. but: the number of other rows that are kept."""
    rows = [entry for entry in annotations() if not entry["image"].endswith(NEIGHBOUR)]
    assert len(rows) == 24 and len(annotations()) == 24 + but
    for entry in rows:
        number = int(Path(entry["image"]).stem, 16)
        assert entry["expression"] == number % 8 and (entry["split"] == "test") == (number >= 16)
        assert [entry[edge] for edge in ("left", "top", "right", "bottom")] == [10, 10, 80, 80]
        assert np.allclose(entry["landmarks"], np.array(LANDMARKS.split(";"), float))


@pytest.mark.parametrize("what", every(list(LINES), 12))
def test_a_broken_line_is_counted_and_the_lines_around_it_come_out_right(sound: list[str], tally: Tally, what: str) -> None:
    line, reason = LINES[what]
    TRAINING.write_text("\n".join([*sound[:4], line, *sound[4:]]) + "\n", encoding="utf-8")
    counts = run_stages()
    is_kept = reason in {None, "dropped", "absent"}
    assert_sound_rows(but=int(is_kept))
    assert counts["rejected_by"] == ({} if is_kept else {reason: 1})
    if is_kept:
        (neighbour,) = [entry for entry in annotations() if entry["image"].endswith(NEIGHBOUR)]
        assert neighbour["row"] == 4 and (neighbour["landmarks"] is None) == (
            reason == "absent" or (reason == "dropped" and "landmarks" in what)
        )
        assert sum(counts["kept_without"].values()) == (reason == "dropped")
    tally("bad lists", {None: "sound after all", "absent": "sound after all"}.get(reason, "counted rejection"))


@pytest.mark.parametrize("what", every(list(PATHS), 5))
def test_an_odd_path_is_missing_or_refused_and_nothing_outside_is_read(
    sound: list[str], tally: Tally, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, end = PATHS[what]
    noise(Path("outside.jpg"), 1)
    read = opened_outside(monkeypatch, Path("root"))
    TRAINING.write_text("\n".join([*sound[:4], row(path), *sound[4:]]) + "\n", encoding="utf-8")
    if end == "error":
        assert "listed paths lead out of the root, 1: " in one_line()
        tally("bad paths", "one-line error")
    else:
        assert run_stages()["rejected_by"] == {end: 1}
        assert_sound_rows()
        tally("bad paths", "counted rejection")
    assert read == []


def opened_outside(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[Path]:
    """The images and lists outside the root that are opened, with links resolved."""
    paths: list[Path] = []
    original, inside = Path.open, root.resolve()

    def watched(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.suffix in {".jpg", ".csv", ".npy"} or "etc" in path.parts:
            paths.extend([path] * (not path.resolve().is_relative_to(inside)))
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", watched)
    return paths


@pytest.mark.parametrize("what", every(list(FILES), 6))
def test_a_broken_list_is_one_line_or_as_good_as_a_sound_one(sound: list[str], tally: Tally, what: str) -> None:
    change, message = FILES[what]
    TRAINING.write_bytes(change("\n".join([*sound, ""]).encode()))
    if message is None:
        assert run_stages()["rejected"] == 0
        assert_sound_rows()
        tally("bad lists", "sound after all")
    elif message == "counted":
        assert run_stages()["rejected"] > 0
        assert all(entry["expression"] == int(Path(entry["image"]).stem, 16) % 8 for entry in annotations())
        assert len([entry for entry in annotations() if entry["split"] == "test"]) == 8
        tally("bad lists", "counted rejection")
    else:
        said = one_line()
        assert re.search(message, said) and ("training.csv" in said or "for the split train" in said)
        tally("bad lists", "one-line error")


def replaced_by_folder(path: Path) -> None:
    path.mkdir()


def replaced_by_link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


NO_FILES: dict[str, Callable[[Path], None]] = {
    "a folder": replaced_by_folder,
    "a pipe": os.mkfifo,
    "a link to nothing": replaced_by_link("nothing"),
    "a link to a pipe": linked_pipe,
    "a link to a device": replaced_by_link("/dev/zero"),
    "a link to what is outside": replaced_by_link("/etc/passwd"),
    "gone": lambda _: None,
}


@pytest.mark.parametrize(
    "case", every([(layout, what) for layout in ("affectnet2017", "affectnet2021", "affectnet_plus") for what in NO_FILES], 8)
)
def test_an_annotation_that_is_no_file_is_never_opened(
    workspace: Path, tally: Tally, case: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, what = case
    tree, folder = {
        "affectnet2017": (tree_2017, TRAINING),
        "affectnet2021": (tree_2021, Path("root/train_set/annotations/3_exp.npy")),
        "affectnet_plus": (tree_plus, Path("root/human_annotated/train_set/annotations/3.json")),
    }[layout]
    pointer = tree(workspace / "root", 2, 1)
    pointer.write(Path("data/raw"))
    folder.unlink()
    NO_FILES[what](folder)
    read = opened_outside(monkeypatch, Path("root"))
    if "outside" in what or "device" in what:
        assert "links lead out of the root, 1: " in (said := one_line()) and "verify.follow_links: true" in said
        tally("bad paths", "one-line error")
    elif layout == "affectnet2017":
        assert "no training.csv below it" in one_line()
        tally("bad paths", "one-line error")
    else:
        gone = layout == "affectnet_plus" and what == "gone"  # one file per image: without it there is no row
        assert run_stages()["rejected_by"] == ({} if gone else {"malformed": 1}) and len(annotations()) == 23
        tally("bad paths", "counted rejection")
    assert read == []


def per_image(pointer: Pointer, folder: Path, cases: Mapping[str, tuple[str, bytes, str | None]], tally: Tally) -> None:
    """All cases in one download, each in place of one file of an image of its own: (file's end, content, fault).

    The photographs are all the same, which is no fault here: what is held against the case is the reader's own rejection.
    """
    images = folder.parent / "images"
    names = {what: str(90_000 + number) for number, what in enumerate(cases)}
    for what, (end, content, _) in cases.items():
        noise(images / f"{names[what]}.jpg", int(names[what]), 64)
        for sound in folder.glob(f"0{'_*.npy' if end.endswith('npy') else '.json'}"):
            (folder / sound.name.replace("0", names[what], 1)).write_bytes(sound.read_bytes())
        (folder / f"{names[what]}{end}").write_bytes(content)
    pointer.write(Path("data/raw"))
    counts = run_stages()
    reasons = {Path(image).stem: reason for image, reason in rejected().items()}
    rows = {Path(entry["image"]).stem: entry for entry in annotations()}
    for what, (_, _, fault) in cases.items():
        name = names[what]
        if fault == "malformed":
            assert reasons[name] == "malformed" and name not in rows, what
        else:
            assert name in rows and (rows[name]["landmarks"] is None or fault is None), what
        tally("bad npy and JSON", "counted rejection" if fault else "sound after all")
    assert counts["rejected_by"] == {"malformed": sum(fault == "malformed" for _, _, fault in cases.values())}
    assert counts["kept_without"] == {"landmarks_malformed": sum(fault == "landmarks_malformed" for _, _, fault in cases.values())}
    assert len(annotations()) == 24 + sum(fault != "malformed" for _, _, fault in cases.values())


def test_broken_npy_files_are_counted_and_no_code_in_them_runs(workspace: Path, tally: Tally) -> None:
    flag = workspace / "code_has_run"
    pointer = tree_2021(workspace / "root", 2, 1)
    cases = {what: (f"_{case.kind}.npy", case.content, case.fault) for what, case in npy_cases(flag).items()}
    per_image(pointer, workspace / "root" / "train_set" / "annotations", cases, tally)
    assert not flag.exists()


def test_broken_json_files_are_counted(workspace: Path, tally: Tally) -> None:
    pointer = tree_plus(workspace / "root", 2, 1)
    cases = {what: (".json", content, fault) for what, (content, fault) in json_cases().items()}
    per_image(pointer, workspace / "root" / "human_annotated" / "train_set" / "annotations", cases, tally)


@pytest.mark.parametrize("layout", ["affectnet2021", "affectnet_plus", "folder"])
def test_a_download_without_a_single_row_ends_in_one_line(workspace: Path, tally: Tally, layout: str) -> None:
    tree = {"affectnet2021": tree_2021, "affectnet_plus": tree_plus, "folder": tree_folder}[layout]
    tree(workspace / "root", 1, 1).write(Path("data/raw"))
    for path in (workspace / "root").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(UserError, match=r"no image is listed for the split train; of 0 files, 0 are images.*\n.*for the split test"):
        run_stages()
    tally("bad lists", "one-line error")


@pytest.mark.parametrize("layout", ["affectnet2021", "affectnet_plus", "folder"])
def test_names_that_are_no_utf8_are_counted_in_each_layout(workspace: Path, tally: Tally, layout: str) -> None:
    tree = {"affectnet2021": tree_2021, "affectnet_plus": tree_plus, "folder": tree_folder}[layout]
    tree(workspace / "root", 3, 1).write(Path("data/raw"))
    odd, count = os.fsdecode(b"\xe9"), len([*(workspace / "root").rglob("*.jpg")])
    for path in sorted((workspace / "root").rglob("*")):
        if path.is_file() and path.name.startswith("0") and "val" not in str(path.parent):
            path.rename(path.with_name(path.name.replace("0", odd, 1)))
    counts = run_stages()
    renamed = {name: status for name, status in zip(*_inventory("path", "status"), strict=True) if "\\udce9" in name and ".jpg" in name}
    assert renamed and set(renamed.values()) == {"unreadable"}
    assert counts["rejected_by"] == {"unreadable": len(renamed)} and counts["read"] == count
    run_stage("crop")
    tally("bad paths", "counted rejection", len(renamed))


def _inventory(*columns: str) -> list[list[Any]]:
    table = INVENTORY.read(Path("data/inventory.parquet"), columns)
    return [table[name].to_pylist() for name in columns]


def test_a_list_that_names_itself_as_a_photograph_is_counted(workspace: Path, tally: Tally) -> None:
    lists = workspace / "root" / "lists"
    for number, name in enumerate(("1/a.jpg", "1/c.jpg", "2/b.jpg")):
        noise(workspace / "root" / name, number)
    lists.mkdir()
    (lists / "training.csv").write_text("\n".join([row("1/a.jpg"), row("1/c.jpg"), row("lists/training.csv"), ""]))
    (lists / "validation.csv").write_text("\n".join([row("2/b.jpg"), ""]))
    Pointer("affectnet2017", str(workspace / "root")).write(Path("data/raw"))
    assert run_stages()["rejected_by"] == {"not_an_image": 1} and len(annotations()) == 3
    tally("bad lists", "counted rejection")


def test_broken_lists_end_real_processes_in_one_line_with_exit_code_2(sound: list[str], tally: Tally) -> None:
    outcomes: Counter[str] = Counter()
    for content in (b"\xff\xfe\0", "\n".join([*sound, row("../x.jpg"), ""]).encode()):
        TRAINING.write_bytes(content)
        ended = real_stage("verify")
        assert ended.code == 2 and ended.error.startswith("error: ") and ended.error.count("\n") == 1, ended.error
        assert ended.out == "" and ended.peak_mb < MOST_MB
        outcomes["one-line error"] += 1
    for outcome, count in outcomes.items():
        tally("bad lists", outcome, count)


FAULTS = {None, "malformed", "null_box"}


@pytest.mark.parametrize("examples", every([40, 1500], 1))
def test_any_bytes_in_a_list_are_rows_each_once_or_one_line(sound: list[str], tally: Tally, examples: int) -> None:
    outcomes: Counter[str] = Counter()
    whole, pointer = "\n".join([*sound, ""]).encode(), Pointer.read(Path("data/raw"))
    pieces = st.binary(max_size=5) | st.sampled_from(
        [b",", b";", b"\n", b"\r\n", b'"', b"\0", b"NULL", b"-", b"1e309", b"\xef\xbb\xbf", b"/../"]
    )
    edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), pieces), min_size=1, max_size=5)

    @settings(max_examples=examples)
    @given(edits, st.binary(max_size=80))
    def holds(edits: list[tuple[float, int, bytes]], other: bytes) -> None:
        changed = bytearray(whole)
        for offset, width, piece in edits:
            at = int(offset * len(changed))
            changed[at : at + width] = piece
        for content in (bytes(changed), other):
            TRAINING.write_bytes(content)
            try:
                source = open_source(pointer)
                rows = [entry for part in source.rows() for entry in part.to_pylist() if entry["split"] == "train"]
                images = [image for split, part in source.images() if split == "train" for image in part.to_pylist()]
            except UserError as error:
                assert "training.csv: " in str(error) and "\n" not in str(error)
                outcomes["one-line error"] += 1
                continue
            numbered = [entry["row"] for entry in rows]
            assert len(set(numbered)) == len(numbered) and len(images) <= len(rows) and min(numbered, default=1) >= 1
            assert {entry["fault"] for entry in rows} <= FAULTS
            sane = all(entry["expression"] is not None and entry["valence"] is not None for entry in rows if entry["fault"] is None)
            assert sane
            outcomes["counted rejection" if any(entry["fault"] for entry in rows) else "sound after all"] += 1

    holds()
    for outcome, count in outcomes.items():
        tally("bad lists", outcome, count)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(["human-label", "Human Label", "valence", "AROUSAL", "landmarks", "meta-data"])
SHAPES = st.sampled_from([(), (1,), (136,), (68, 2), (0,), (2**40,), (-1,), (1, 1)])
TYPES = st.sampled_from(["<f8", ">i2", "<U3", "|S2", "|O", "<f2", "|V4", "<U0", "|b1", "<M8[s]", "<c8", "|u1", "[('a', '<f4')]"])


@pytest.mark.parametrize("examples", every([40, 1500], 1))
@pytest.mark.parametrize("layout", ["affectnet2021", "affectnet_plus"])
def test_any_bytes_in_an_annotation_file_are_one_row_and_no_other_changes(
    workspace: Path, tally: Tally, layout: str, examples: int
) -> None:
    outcomes: Counter[str] = Counter()
    if layout == "affectnet2021":
        pointer, folder = tree_2021(workspace / "root", 1, 1), workspace / "root/train_set/annotations"
        files = [folder / f"3_{kind}.npy" for kind in ("exp", "val", "aro", "lnd")]
        made = st.builds(claimed, TYPES, SHAPES, st.binary(max_size=1100))
    else:
        pointer, files = tree_plus(workspace / "root", 1, 1), [workspace / "root/human_annotated/train_set/annotations/3.json"]
        made = (st.dictionaries(KEYS, JSON, max_size=5) | JSON).map(lambda value: json.dumps(value).encode())
    source = open_source(pointer)
    first = {entry["image"]: str(entry) for part in source.rows() for entry in part.to_pylist()}
    kept_content = {file: file.read_bytes() for file in files}

    @settings(max_examples=examples)
    @given(st.sampled_from(files), made | st.binary(max_size=60))
    def holds(file: Path, content: bytes) -> None:
        file.write_bytes(content)
        rows = [entry for part in source.rows() for entry in part.to_pylist()]
        assert len(rows) == len(first)
        for entry in rows:
            if "train_set" in entry["image"] and entry["image"].endswith("/3.jpg"):
                assert entry["fault"] in FAULTS and (entry["fault"] == "malformed" or entry["expression"] is not None)
                outcomes["counted rejection" if entry["fault"] else "sound after all"] += 1
            else:
                assert str(entry) == first[entry["image"]]
        file.write_bytes(kept_content[file])

    holds()
    for outcome, count in outcomes.items():
        tally("bad npy and JSON", outcome, count)
