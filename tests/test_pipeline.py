"""The real commands, in clones of this repository whose demo is small: dvc repro, dvc exp run, dvc metrics diff, …"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import Clone, files_of
from running import STAGES, executed, is_up_to_date
from trees import tree_folder


def test_repro_leaves_a_clean_tree_and_a_second_one_runs_nothing(reproduced: Clone) -> None:
    assert reproduced.git("status", "--porcelain") == ""
    output = reproduced.dvc("repro")
    assert executed(output) == [] and output.count("didn't change, skipping") == len(STAGES) - 1
    assert is_up_to_date(reproduced.dvc("status")) and reproduced.git("status", "--porcelain") == ""


def test_every_row_of_the_demo_is_accounted_for_through_all_stages(reproduced: Clone) -> None:
    counts = reproduced.metrics("clean")
    kept = {split: sum(by.values()) for split, by in counts["by_split"].items()}
    assert counts["read"] == counts["kept"] + counts["rejected"] and sum(kept.values()) == counts["kept"]
    assert reproduced.metrics("evaluate")["faces"] == kept["test"]
    folder = reproduced.folder / "data" / "raw" / "Manually_Annotated_file_lists"
    for ending, headers in ((".csv", 1), ("_further.csv", 2)):
        lists = [(folder / f"{name}{ending}").read_text().splitlines() for name in ("training", "validation")]
        assert sum(map(len, lists)) - headers == counts["read"]


def mistake(name: str, value: str) -> Callable[[Clone], tuple[str, str]]:
    """Sets a param as text; the stage that must refuse it is the first part of `name`."""

    def make(clone: Clone) -> tuple[str, str]:
        stage, key = name.split(" ")
        path = clone.folder / "params.yaml"
        text, count = re.subn(rf"^({key}):[^#\n]*", rf"\1: {value} ", path.read_text(), count=1, flags=re.MULTILINE)
        assert count == 1
        path.write_text(text)
        return stage, key.strip()

    return make


MISTAKES: dict[str, Callable[[Clone], tuple[str, str]]] = {
    "unknown switch": mistake("train optimizer", "lion"),
    "unknown data set": mistake("acquire dataset", "rafdb"),
    "data set without its root": mistake("acquire dataset", "affectnet2017"),
}


@pytest.mark.parametrize("make", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(reproduced: Clone, tmp_path: Path, make: Callable[[Clone], tuple[str, str]]) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    stage, named = make(clone)
    before = files_of(clone.folder, "data", "models")
    done = clone.attempt("python", "-m", f"stages.{stage}")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: params.yaml: ") and named in line
    assert files_of(clone.folder, "data", "models") == before


def test_all_mistakes_in_params_are_reported_at_once(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    text = (clone.folder / "params.yaml").read_text()
    text = re.sub(r"^  patience:.*\n", "", text, flags=re.MULTILINE).replace("  epochs: 2 ", "  epochs: two ")
    text = re.sub(r"^  batch:", "  batchs:", text, flags=re.MULTILINE)
    (clone.folder / "params.yaml").write_text(text)
    done = clone.attempt("python", "-m", "stages.train")
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 4
    for name in ("train.patience: missing", "train.epochs: ", "train.batch: missing", "train.batchs: unknown"):
        assert any(name in line for line in lines), name


def test_a_root_that_goes_away_and_a_foreign_model_are_one_line_each(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    tree_folder(tmp_path / "own")
    clone.dvc("repro", "acquire")
    (clone.folder / "data" / "raw" / "source.json").unlink()
    (clone.folder / "data" / "raw" / "source.json").write_text(json.dumps({"layout": "folder", "root": str(tmp_path / "gone")}))
    done = clone.attempt("python", "-m", "stages.verify")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and str(tmp_path / "gone") in done.stderr
    model = clone.folder / "models" / "model.safetensors"
    model.unlink()
    model.write_bytes(b"PK\x03\x04 a pickle, perhaps")
    done = clone.attempt("python", "-m", "stages.evaluate")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "model.safetensors" in done.stderr
