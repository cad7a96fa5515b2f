"""A user's copy of a data set through every stage, by the real commands."""

from pathlib import Path

import pytest
from clones import Clone, files_of
from running import STAGES, executed
from tally import every
from trees import CLASSES, DOWNLOADS


@pytest.mark.parametrize("layout", every(["affectnet_plus", "affectnet2017", "folder", "huggingface"], 1))
def test_a_users_own_copy_runs_through_every_stage(reproduced: Clone, tmp_path: Path, layout: str) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    DOWNLOADS[layout](tmp_path / "own", each=8, tests=3)
    before = files_of(tmp_path, "own")
    switches = [f"dataset={layout}", f"datasets.{layout}.root={tmp_path / 'own'}", f"datasets.{layout}.expected=null"]
    switches.append("evaluate.least_group=6")
    output = clone.dvc("exp", "run", *(part for switch in switches for part in ("-S", switch)))
    assert executed(output) == [stage for stage in STAGES if stage != "fingerprint"]
    classes = CLASSES[layout]
    assert clone.metrics("clean")["read"] == clone.metrics("clean")["kept"] == classes * 11
    scores = clone.metrics("evaluate")
    assert scores["faces"] == classes * 3 and len(scores["expression"]["recall"]) == classes
    if layout == "affectnet_plus":
        assert clone.metrics("clean")["without_landmarks"] == 22 and clone.metrics("clean")["without_soft_label"] == 0
        numbers = {name: [group["n"] for group in by["group"].values()] for name, by in clone.metrics("groups")["by"].items()}
        assert numbers == {"subset": [8, 8, 8], "age": [20], "gender": [12, 12], "race": [12, 12]}
    assert files_of(tmp_path, "own") == before
    assert [path.name for path in (clone.folder / "data" / "raw").iterdir()] == ["source.json"]
