"""No photograph is in two splits, and test decides nothing."""

import ast
import ctypes
import hashlib
import os
import re
import shutil
import struct
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import ROOT, TINY, annotations, entry, metrics, run_data_stages, run_stage
from drawn import NAMES, pointer, tree_drawn
from PIL import Image, ImageEnhance
from ruamel.yaml import YAML
from tally import Tally
from test_audit import run_audit
from trees import tree_2017

from affectnet.search import compare
from affectnet.synthetic.faults import Faults
from affectnet.synthetic.plan import DemoParams, plan_download
from affectnet.tables.annotations import REJECTED
from affectnet.tables.inventory import INVENTORY
from affectnet.tables.source_pointer import Pointer

BITS = 7
"""clean.near_duplicate_bits of params.yaml."""


def on_two_sides(rows: Iterable[tuple[Hashable, str]]) -> list[Hashable]:
    """The items that are in more than one split, of pairs (item, split)."""
    sides = defaultdict(set)
    for what, split in rows:
        sides[what].add(split)
    return [what for what, splits in sides.items() if len(splits) > 1]


def distances() -> Callable[[str, str], int]:
    """The bits in which the hashes of two files of the inventory differ."""
    hashes = {row["path"]: row["dhash"] for row in INVENTORY.read(Path("data/inventory.parquet")).to_pylist()}
    return lambda a, b: (int.from_bytes(hashes[a]) ^ int.from_bytes(hashes[b])).bit_count()


def near_pairs_on_two_sides(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Near duplicates in two splits, by comparison of all pairs of photographs, unlike clean."""
    split, apart = {row["image"]: row["split"] for row in rows}, distances()
    return [(a, b) for a, b in combinations(split, 2) if split[a] != split[b] and apart(a, b) <= BITS]


def assert_no_leak(root: Path, tally: Tally) -> None:
    rows = annotations()
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    digests = {row["image"]: hashlib.sha256((root / row["image"]).read_bytes()).hexdigest() for row in rows}
    for of in (lambda row: row["image"], lambda row: digests[row["image"]], lambda row: row["group"]):
        assert on_two_sides((of(row), row["split"]) for row in rows) == []
    assert near_pairs_on_two_sides(rows) == []
    tally("faces looked up in the other splits: by file, bytes, group, and all pairs of hashes", "in one split only", len(rows))


def test_no_face_of_the_demo_stands_in_two_splits(workspace: Path, tally: Tally) -> None:
    faults = dict.fromkeys(Faults.model_fields, 0)
    kinds = ("exact_duplicates", "near_duplicates", "contradictory_duplicates", "copies_of_validation", "near_copies_of_validation")
    faults |= dict.fromkeys((*kinds, "listed_twice"), 8)
    demo = {"layout": "demo", "training": 120, "validation": 48, "floor": 6, "smallest_px": 96, "largest_px": 128, "faults": faults}
    run_stage("acquire", dataset=demo)
    for stage in ("verify", "clean"):
        run_stage(stage)
    root = Path("data/raw")
    assert_no_leak(root, tally)
    items = plan_download(DemoParams.model_validate(demo), 17)
    drawing = {item.path: item.drawing for item in items}
    by_drawing = defaultdict(list)
    for row in annotations():
        by_drawing[drawing[row["image"].split("Images/")[1]]].append((row["image"], row["split"]))
    apart = distances()
    for copies in by_drawing.values():
        for (a, side), (b, other) in combinations(copies, 2):
            assert side == other or apart(a, b) > BITS
            tally(
                "near copies in the demo, faces of 96 to 128 px",
                "on one side" if side == other else f"unseen: hashes over {BITS} bits apart",
            )
    assert sum(map(len, by_drawing.values())) == len(annotations())
    assert metrics("clean")["rejected_by"].keys() >= {"listed_in_test", "copy_of_test", "near_duplicate_of_test", "exact_duplicate"}


def saved(change: Callable[[Image.Image], Image.Image], suffix: str, **how: Any) -> Callable[[Path, Path], None]:
    return lambda source, target: change(Image.open(source).convert("RGB")).save(target.with_suffix(suffix), **how)


COPIES: dict[str, Callable[[Path, Path], object]] = {
    "bytes": shutil.copyfile,
    "JPEG": saved(lambda image: image, ".jpg", quality=85),
    "coarse JPEG": saved(lambda image: image, ".jpg", quality=40),
    "smaller": saved(lambda image: image.resize((80, 80)), ".png"),
    "larger": saved(lambda image: image.resize((192, 192)), ".png"),
    "grey": saved(lambda image: image.convert("L"), ".png"),
    "brighter": saved(lambda image: ImageEnhance.Brightness(image).enhance(1.1), ".png"),
    "BMP": saved(lambda image: image, ".bmp"),
}
"""Ways to copy a photograph."""


def planted(root: Path) -> tuple[Pointer, dict[str, str]]:
    """Drawn faces; of each way two copies of test faces in training, one under its own and one under another class, and two of
    training faces within training. Returns the pointer and each copy's original."""
    tree_drawn(root, 40, 20, side=96)
    originals = {}
    for number, (way, copy) in enumerate(COPIES.items()):
        for source, name, other in (("test", 0, 0), ("test", 1, 2), ("train", 2, 2), ("train", 0, 1)):
            original = root / source / NAMES[name] / f"{NAMES[name]}{number}.png"
            target = root / "train" / NAMES[other] / f"copy{number}{source}{name}.png"
            copy(original, target)
            copied = next(target.parent.glob(f"{target.stem}.*"))
            originals[copied.relative_to(root).as_posix()] = original.relative_to(root).as_posix()
            assert copied.stat().st_size, way
    return pointer(root), originals


def test_no_planted_copy_of_a_test_face_is_learned_from_and_no_copy_stands_on_both_sides_of_the_cut(workspace: Path, tally: Tally) -> None:
    root = workspace / "root"
    download, originals = planted(root)
    download.write(Path("data/raw"))
    for stage in ("verify", "clean"):
        run_stage(stage)
    assert_no_leak(root, tally)
    split, apart = {row["image"]: row["split"] for row in annotations()}, distances()
    for copy, original in originals.items():
        leaks = len({split[path] for path in (copy, original) if path in split}) > 1
        assert not leaks or apart(copy, original) > BITS
        assert not original.startswith("test/") or (split[original] == "test" and (leaks or copy not in split))
        tally("planted copies of faces of 96 px", f"unseen: hashes over {BITS} bits apart" if leaks else "on one side")
    assert sum(image.startswith("test/") for image in split) == 60


def test_a_validation_split_of_its_own_shares_no_copy_with_training(workspace: Path, tally: Tally) -> None:
    root = workspace / "root"
    download, _ = planted(root)
    (root / "train").rename(root / "all")
    for name in NAMES:
        for split, numbers in (("train", range(15, 40)), ("valid", range(15))):
            (root / split / name).mkdir(parents=True)
            for number in numbers:
                (root / "all" / name / f"{name}{number}.png").rename(root / split / name / f"{name}{number}.png")
        for copy in sorted((root / "all" / name).iterdir()):
            copy.rename(root / "train" / name / copy.name)
    shutil.rmtree(root / "all")
    splits = {"train": "train", "valid": "validation", "test": "test"}
    Pointer("folder", str(root), classes=download.classes, splits=splits).write(Path("data/raw"))
    for stage in ("verify", "clean"):
        run_stage(stage)
    assert_no_leak(root, tally)
    rejected = metrics("clean")["rejected_by"]
    assert rejected.keys() >= {"copy_of_test", "near_duplicate_of_test", "near_duplicate_of_validation"}
    lost = [row for row in REJECTED.read(Path("data/rejected.parquet")).to_pylist() if row["list"].startswith("valid/")]
    assert {row["reason"] for row in lost} <= {"near_duplicate_of_test"}  # a copy in training costs validation nothing


@contextmanager
def opened(folder: Path) -> Iterator[set[str]]:
    """The names of the files of a folder that are opened, by the kernel's inotify, since Arrow does not open files through Python."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        pytest.skip("needs Linux")
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(folder), 0x20) >= 0  # IN_OPEN
    names: set[str] = set()
    try:
        yield names
        content = b""
        while True:
            try:
                content += os.read(watch, 1 << 16)
            except BlockingIOError:
                break
        while content:
            _, _, _, length = struct.unpack("iIII", content[:16])
            names.add(content[16 : 16 + length].rstrip(b"\0").decode())
            content = content[16 + length :]
    finally:
        os.close(watch)


def outputs() -> dict[str, bytes]:
    """The files that rebalance and train wrote, by path."""
    files = [*Path("data").glob("*.parquet"), Path("metrics/rebalance.json"), *Path("models").iterdir(), *Path("metrics/train").rglob("*")]
    return {str(path): path.read_bytes() for path in files if path.is_file() and path.suffix not in {".tsv"}}


def learn() -> None:
    run_stage("rebalance", method="upsample")
    run_stage("train", model=TINY, epochs=2, batch=16, task=entry("task", "both"))


@pytest.fixture
def prepared(workspace: Path) -> Path:
    run_data_stages(tree_2017(workspace / "root", each=8, tests=4), clean={"validation_share": 0.25})
    return workspace


def test_training_neither_needs_the_test_faces_nor_opens_them(prepared: Path) -> None:
    faces = Path("data/faces")
    with opened(faces) as names:
        learn()
    assert {name.split("-")[0] for name in names if name} == {"train", "validation"}
    whole = outputs()
    shutil.rmtree(".dvc", ignore_errors=True)
    (shard,) = faces.glob("test-*")
    shard.write_bytes(b"no Parquet")
    learn()
    assert outputs() == whole
    shard.unlink()
    shutil.rmtree("root")
    learn()
    assert outputs() == whole
    with pytest.raises(Exception, match="no shard of the split test"):
        run_stage("evaluate")


def splits_opened(run: Callable[[], object]) -> set[str]:
    with opened(Path("data/faces")) as names:
        run()
    return {name.split("-")[0] for name in names if name}


def readers(program: str) -> list[set[str]]:
    """The splits that the table in docs/data.md names for a program, row by row."""
    rows = re.findall(rf"^\| `{re.escape(program)}`[^|]*\| ([a-z, ]+) \|", (ROOT / "docs" / "data.md").read_text(), re.MULTILINE)
    return [set(row.split(", ")) for row in rows]


def test_each_program_opens_the_splits_that_the_document_names(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "stages" / "templates", "stages/templates")
    run_stage("rebalance")
    stages = YAML(typ="safe").load(Path("dvc.yaml"))["stages"]
    readers_of_faces = [name for name, stage in stages.items() if "data/faces" in stage["deps"]]
    small: dict[str, dict[str, Any]] = {"train": {"model": TINY, "epochs": 1, "batch": 16}, "evaluate": {"bootstrap": 100}}
    for name in readers_of_faces:
        assert [splits_opened(partial(run_stage, name, **small.get(name, {})))] == readers(name)[:1], name
    monkeypatch.setattr("sys.argv", ["compare", *["models/model.safetensors"] * 2, "--draws", "10"])
    assert [splits_opened(compare.main)] == readers("affectnet compare")
    assert [splits_opened(run_audit)] == readers("make audit")
    chosen: dict[str, dict[str, Any]] = {
        "evaluate": {"bootstrap": 100, "averaging": "flip"},
        "export": {"precision": "int8", "most_lost": 1.0},
    }
    for name, changes in chosen.items():
        assert [splits_opened(partial(run_stage, name, **changes))] == readers(name)[1:], name


def test_no_other_module_can_open_the_test_faces() -> None:
    """All other modules that open shards of `data/faces` take the split's name as an argument."""
    able = set()
    for path in (path for folder in ("affectnet", "stages", "benchmarks") for path in (ROOT / folder).rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        constants = {node.value for node in nodes if isinstance(node, ast.Constant)}
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        if called & {"load_faces", "shard_paths"} and ("test" in constants or "SPLITS" in names):
            able.add(path.relative_to(ROOT).as_posix())
    programs = {f"benchmarks/{name}.py" for name in ("pixels_baseline", "label_audit", "label_noise", "gpu/trainings")}
    rooms = {f"affectnet/reporting/{name}.py" for name in ("split_predictions", "prediction_table", "contact_sheet")}
    assert able == {*rooms, *programs}
    assert readers("benchmarks.pixels_baseline") == [{"train", "test"}]
    for program in ("gpu", "label_audit", "label_noise"):
        assert readers(f"benchmarks.{program}") == [{"train", "validation", "test"}]


def test_the_labels_of_test_have_no_part_in_what_is_learned(prepared: Path) -> None:
    """verify, clean and crop need the test photographs, to hash them, to keep their copies out of training, and to crop them."""

    def learned() -> dict[str, bytes]:
        files = [*Path("data/faces").glob("train-*"), *Path("data/faces").glob("validation-*"), *Path("models").iterdir()]
        return {path.name: path.read_bytes() for path in [*files, Path("data/plan.parquet"), Path("data/class_weights.parquet")]}

    learn()
    before = learned()
    listing = Path("root/Manually_Annotated_file_lists/validation.csv")
    rows = [line.rsplit(",", 3) for line in listing.read_text().splitlines()]
    listing.write_text("".join(f"{row[0]},{(int(row[1]) * 3 + 1) % 8},0.5,-0.5\n" for row in rows))
    run_data_stages(Pointer("affectnet2017", str(prepared / "root")), clean={"validation_share": 0.25})
    assert np.unique([row["valence"] for row in annotations() if row["split"] == "test"]).tolist() == [0.5]
    learn()
    assert learned() == before
