"""A layout that is selected for the tree of another: the line names the right one, or the names at the top."""

from dataclasses import replace
from pathlib import Path

import pytest
from chain import ROOT, refused
from trees import DOWNLOADS, FER_CLASSES, download_huggingface, noise, tree_2017

from affectnet.errors import UserError
from affectnet.params import read_document
from affectnet.sources.registry import layouts, open_layout
from affectnet.tables.source_pointer import Pointer

ENTRIES = read_document(ROOT / "params.yaml")["datasets"].values()
OPTIONS = {name: value for entry in ENTRIES for name, value in entry.items() if name not in Pointer.__dataclass_fields__}
"""The options of every layout, from params.yaml."""


def selected(layout: str, root: Path) -> Pointer:
    return Pointer(layout, str(root), FER_CLASSES, {"train": "train", "validation": "test"}, options=OPTIONS)


def test_every_layout_that_can_be_selected_has_a_tree_an_entry_and_its_paragraph() -> None:
    assert set(DOWNLOADS) <= {entry["layout"] for entry in ENTRIES}
    assert all(f"**`{layout}`**" in (ROOT / "docs" / "data.md").read_text(encoding="utf-8") for layout in DOWNLOADS)
    assert set(DOWNLOADS) == {name for name, reader in layouts().items() if reader.Params is not None}


@pytest.mark.parametrize("other", DOWNLOADS)
@pytest.mark.parametrize("layout", DOWNLOADS)
def test_another_layouts_tree_is_named_as_what_it_is(tmp_path: Path, layout: str, other: str) -> None:
    pointer = DOWNLOADS[other](tmp_path, 1, 1)
    if layout == other:
        open_layout(replace(pointer, options=OPTIONS))
        return
    with pytest.raises(UserError) as caught:
        open_layout(selected(layout, tmp_path))
    assert f"the tree looks like layout {other}: select dataset: {other} and give datasets.{other}.root" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", DOWNLOADS)
def test_of_any_other_tree_the_line_says_what_is_at_its_top(tmp_path: Path, layout: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="it is empty"):
        open_layout(selected(layout, tmp_path / "empty"))
    for number in range(7):
        noise(tmp_path / "strange" / f"person {number}" / "smile.jpg", number)
    (tmp_path / "strange" / "read\nme.txt").write_text("about")
    with refused(r"at its top is 8: person 0/, person 1/, person 2/, person 3/, person 4/, …"):
        open_layout(selected(layout, tmp_path / "strange"))


def test_a_fault_within_the_selected_layouts_tree_is_reported_without_a_guess(tmp_path: Path) -> None:
    pointer = tree_2017(tmp_path / "2017", 1, 1)
    (tmp_path / "2017" / "copy").mkdir()
    (tmp_path / "2017" / "copy" / "training.csv").write_text("")
    (tmp_path / "2017" / "other.parquet").write_text("")
    unmapped = replace(download_huggingface(tmp_path / "hub", 1, 1), classes={}, labels=("Happy", "Other"))
    for faulty, message in ((pointer, "leave one of each"), (unmapped, "to null to leave them out")):
        with pytest.raises(UserError, match=rf"{message}$"):
            open_layout(faulty)
