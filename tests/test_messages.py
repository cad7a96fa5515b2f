"""A param in a message exists in params.yaml, belongs to the selected data set, and changing it fixes the problem."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import ROOT, run_stage
from PIL import Image
from ruamel.yaml import YAML
from trees import tree_2017, tree_2021, tree_folder, tree_plus

from affectnet.errors import UserError
from affectnet.params import read_document

SECTIONS = [name for name, value in read_document(ROOT / "params.yaml").items() if isinstance(value, dict)]
PARAM = re.compile(rf"(?<!affectnet\.)\b(?:{'|'.join(SECTIONS)})(?:\.(?:[a-z_0-9]+|<name>|\{{\}}))+")
FILE = re.compile(r"\.(json|parquet|csv|html|py|onnx|safetensors)$")
TREES: dict[str, Callable[..., object]] = {
    "affectnet2017": tree_2017,
    "affectnet2021": tree_2021,
    "affectnet_plus": tree_plus,
    "fer2013": tree_folder,
    "folder": tree_folder,
}


def texts(path: Path) -> Iterator[str]:
    """The strings of a module without its docstrings, with `{}` for the values of an f-string."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner | statements:
            yield node.value


def is_param(name: str, document: Any) -> bool:
    """Whether params.yaml has the dotted name; `<name>` and `{}` stand for any entry."""
    key, _, rest = name.partition(".")
    if not isinstance(document, dict):
        return False
    values = list(document.values()) if key in {"<name>", "{}"} else [document[key]] if key in document else []
    return any(not rest or is_param(rest, value) for value in values)


def test_every_param_in_a_text_of_the_code_is_in_the_shipped_file() -> None:
    document = read_document(ROOT / "params.yaml")
    files = [*(ROOT / "affectnet").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
    named = {(path.name, name) for path in files for text in texts(path) for name in PARAM.findall(text) if not FILE.search(name)}
    assert len(named) > 20
    assert sorted((file, name) for file, name in named if not is_param(name, document)) == []


def put(document: dict[str, Any], name: str, value: object) -> None:
    *sections, last = name.split(".")
    for section in sections:
        document = document[section]
    document[last] = value


def problems(document: dict[str, Any]) -> list[str]:
    """The problems that acquire, verify and clean report with these params; empty without any."""
    selected = document["dataset"]
    read = {name: document[name] for name in ("dataset", "labels", "acquire", "verify", "clean", "runtime")}
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump({**read, "datasets": {selected: document["datasets"][selected]}}, file)
    try:
        for stage in ("acquire", "verify", "clean"):
            run_stage(stage)
    except UserError as error:
        return list(error.problems)
    return []


def document_of(dataset: str, root: Path | None) -> dict[str, Any]:
    document = read_document(ROOT / "params.yaml")
    document["dataset"] = dataset
    document["datasets"][dataset] |= {"root": None if root is None else str(root), "expected": None}
    return document


def mends(document: dict[str, Any], name: str, value: object) -> None:
    """Asserts that a problem names the param, and none of another data set, and that changing the param fixes it."""
    said = " ".join(problems(document))
    assert re.search(rf"\b{re.escape(name)}(?![.\w])", said), said
    assert {other.split(".")[1] for other in PARAM.findall(said) if other.startswith("datasets.")} <= {document["dataset"]}, said
    put(document, name, value)
    assert problems(document) == []


@pytest.mark.parametrize("wrong", [None, Path("data"), Path("/nowhere/at/all")])
@pytest.mark.parametrize("dataset", TREES)
def test_a_root_that_is_not_there_is_mended_by_the_selected_data_sets_root(workspace: Path, dataset: str, wrong: Path | None) -> None:
    TREES[dataset](workspace / "own")
    mends(document_of(dataset, wrong), f"datasets.{dataset}.root", str(workspace / "own"))


@pytest.mark.parametrize("dataset", ["affectnet2021", "affectnet_plus", "fer2013", "folder"])
def test_a_root_with_more_than_the_data_set_is_mended_by_its_root(workspace: Path, dataset: str) -> None:
    for name in ("one", "two"):
        TREES[dataset](workspace / "own" / name)
    mends(document_of(dataset, workspace / "own"), f"datasets.{dataset}.root", str(workspace / "own" / "one"))


@pytest.mark.parametrize("dataset", TREES)
def test_published_counts_are_mended_by_the_selected_data_sets_expectation(workspace: Path, dataset: str) -> None:
    TREES[dataset](workspace / "own")
    document = document_of(dataset, workspace / "own")
    document["datasets"][dataset]["expected"] = {"training": 287651, "validation": 3999}
    said = problems(document)
    counts = [int(number) for line in said for number in re.findall(r"set it to (\d+)", line)]
    assert len(said) == 2 and all(f"datasets.{dataset}.expected" in line for line in said)
    document["datasets"][dataset]["expected"] = dict(zip(("training", "validation"), counts, strict=True))
    assert problems(document) == []
    document["datasets"][dataset]["expected"] = {"training": 1}
    mends(document, f"datasets.{dataset}.expected", None)


@pytest.mark.parametrize("wrong", ["list.txt", "/nowhere/list.txt"])
@pytest.mark.parametrize("dataset", ["affectnet2017", "fer2013"])
def test_a_list_of_checksums_that_is_not_there_is_mended_by_its_param(workspace: Path, dataset: str, wrong: str) -> None:
    TREES[dataset](workspace / "own")
    document = document_of(dataset, workspace / "own")
    document["datasets"][dataset]["checksums"] = wrong
    mends(document, f"datasets.{dataset}.checksums", None)


def strange_class(root: Path) -> None:
    for split in ("train", "validation"):
        (root / split / "happy").rename(root / split / "joy")


def strange_split(root: Path) -> None:
    (root / "validation").rename(root / "held_out")


def no_test(root: Path) -> None:
    (root / "train").rename(root.parent / "classes")
    for split in root.iterdir():
        split.rename(root.parent / "unused")
    root.rmdir()
    (root.parent / "classes").rename(root)


def both_tests(root: Path) -> None:
    (root / "validation").rename(root / "test")


@pytest.mark.parametrize("dataset", ["fer2013", "folder"])
@pytest.mark.parametrize(
    ("change", "wrong", "name", "value"),
    [
        (strange_class, {}, "classes", {"joy": "Happy"}),
        (strange_class, {}, "classes", {"joy": None}),
        (strange_split, {}, "splits", {"held_out": "test"}),
        (strange_split, {"test_share": 0.3}, "splits", {"held_out": None}),
        (no_test, {}, "test_share", 0.3),
        (both_tests, {"test_share": 0.3}, "test_share", None),
    ],
)
def test_folders_are_mended_by_the_map_or_share_that_is_named(
    workspace: Path, dataset: str, change: Callable[[Path], None], wrong: dict[str, Any], name: str, value: Any
) -> None:
    tree_folder(workspace / "own")
    change(workspace / "own")
    document = document_of(dataset, workspace / "own")
    entry = document["datasets"][dataset]
    entry |= wrong
    mends(document, f"datasets.{dataset}.{name}", {**entry[name], **value} if isinstance(value, dict) else value)


def test_unusable_images_are_mended_by_verifys_tolerance(workspace: Path) -> None:
    tree_folder(workspace / "own")
    (workspace / "own" / "train" / "happy" / "0.jpg").write_bytes(b"")
    mends(document_of("folder", workspace / "own"), "verify.tolerance", 0.02)


def test_links_out_of_the_root_are_mended_by_verifys_follow_links(workspace: Path) -> None:
    tree_folder(workspace / "own")
    photograph = workspace / "own" / "train" / "happy" / "0.jpg"
    photograph.symlink_to(photograph.rename(workspace / "elsewhere.jpg"))
    mends(document_of("folder", workspace / "own"), "verify.follow_links", True)


def test_a_cut_without_a_face_is_mended_by_cleans_bits(workspace: Path) -> None:
    """Each expression has three photographs of one person, whose hashes differ in few bits."""
    draws = np.random.default_rng(0)
    for split, name in ((split, name) for split in ("train", "test") for name in ("happy", "sad")):
        cells = draws.integers(0, 256, (12, 12), np.uint8)
        for number in range(3 if split == "train" else 1):
            path = workspace / "own" / split / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cells[2 * number + 1, 6] = 255 - cells[2 * number + 1, 6]
            Image.fromarray(cells).resize((96, 96), Image.Resampling.BICUBIC).save(path)
    mends(document_of("folder", workspace / "own"), "clean.near_duplicate_bits", 0)
