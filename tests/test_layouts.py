"""A download of each layout through every stage, from its pointer to the score."""

from pathlib import Path

import pytest
from chain import TINY, metrics, run_data_stages, run_stage
from trees import CLASSES, TREES

from affectnet.models.checkpoint import load_model


@pytest.mark.parametrize("layout", TREES)
def test_each_layout_runs_through_every_stage(workspace: Path, layout: str) -> None:
    run_data_stages(TREES[layout](workspace / "root", each=8, tests=3))
    run_stage("train", model=TINY, epochs=1, batch=16)
    run_stage("evaluate", bootstrap=100)
    classes = CLASSES[layout]
    assert metrics("clean")["read"] == metrics("clean")["kept"] == classes * 11
    assert metrics("evaluate")["faces"] == classes * 3 and len(metrics("evaluate")["expression"]["recall"]) == classes
    assert len(load_model(Path("models/model.safetensors"))[1].labels) == classes
