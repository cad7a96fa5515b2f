"""The maps of boxes: fitted on training photographs only, the same bytes for any number of workers, and in the model file."""

import json
from pathlib import Path

import numpy as np
import pytest
from chain import TINY, local, metrics, refused, run_data_stages, run_stage
from trees import images_2017, row, tree_2017, write_2017

from affectnet.images.box_map import BoxMap, read_box_maps
from affectnet.models.checkpoint import load_model
from affectnet.params import parse, read_document
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene
from affectnet.tables.source_pointer import Pointer
from stages import detect

TRAINING, TESTS = 64, 16
MAPS = Path("data/box_maps.json")


def tree_of_photographs(root: Path) -> Pointer:
    """Drawn photographs; the annotated boxes of the test list are twice as large, so that a map that sees them differs."""
    rows: list[str] = []
    (images_2017(root) / "1").mkdir(parents=True)
    for number in range(TRAINING + TESTS):
        generator = np.random.default_rng(number)
        shot = draw_photograph(draw_actions("Happy", generator), generator, draw_scene(generator, 180, 220))
        shot.image.convert("RGB").save(images_2017(root) / "1" / f"{number}.jpg", quality=95)
        left, top, side = shot.box
        edges = (left, top, side, side) if number < TRAINING else (left - side // 2, top - side // 2, 2 * side, 2 * side)
        rows.append(row(f"1/{number}.jpg", ",".join(map(str, edges)), expression=number % 8))
    return write_2017(root, rows[:TRAINING], rows[TRAINING:])


def prepare(pointer: Pointer) -> None:
    pointer.write(Path("data/raw"))
    for stage in ("verify", "clean"):
        run_stage(stage)


def test_the_map_brings_detected_boxes_to_the_annotated_ones(workspace: Path) -> None:
    prepare(tree_of_photographs(workspace / "root"))
    line = run_stage("detect", detectors=["libfacedetection", "haar"])
    training = metrics("clean")["by_split"]["train"]
    count = sum(training.values()) if isinstance(training, dict) else training
    assert f"libfacedetection detects {count} of {count} annotated faces; mapped by " in line and "haar detects " in line
    before, after = (float(line.split(f"{word} ")[1][:4]) for word in ("before", "boxes is"))
    assert after > max(before, 0.8)
    maps = read_box_maps(MAPS)
    assert set(maps) == {"libfacedetection", "haar"} and 0.5 < maps["libfacedetection"].height < 1.2


def test_the_bytes_do_not_depend_on_workers_and_the_sample_is_drawn_by_the_seed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tree_of_photographs(workspace / "root"))
    shipped, written = parse(read_document(), "detect", detect.DetectParams), []
    for workers in (1, 3):
        paths = [Path("data") / name for name in ("raw", "inventory.parquet", "annotations.parquet")]
        detect.run(shipped, local(workers), *paths, box_maps=MAPS)
        written.append(MAPS.read_bytes())
    assert written[0] == written[1]
    looked_at: dict[int, list[str]] = {}
    for seed in (1, 1, 2):
        names: list[str] = []
        monkeypatch.setattr(detect, "_matched", lambda root, detector, row, names=names: names.append(row["image"]))
        assert "detects 0 of 30 annotated faces, too few for a map" in run_stage("detect", photographs=30, seed=seed)
        assert len(names) == 30 and all(int(Path(name).stem) < TRAINING for name in names)
        assert looked_at.setdefault(seed, names) == names
    assert looked_at[1] != looked_at[2] and json.loads(MAPS.read_text()) == {}


def test_data_without_boxes_in_photographs_have_no_map(workspace: Path) -> None:
    prepare(tree_2017(workspace / "root"))
    assert run_stage("detect") == "detect: libfacedetection detects 0 of 40 annotated faces, too few for a map"
    rows = [row(f"{number % 3 + 1}/{number:056x}.jpg", box="0,0,96,96", expression=number % 8) for number in range(64)]
    prepare(write_2017(workspace / "root", rows[:48], rows[48:]))
    assert run_stage("detect").startswith("detect: no map, 0 training photographs with a box around part of it")
    assert json.loads(MAPS.read_text()) == {}


def test_a_photograph_that_changed_since_verify_is_one_line(workspace: Path) -> None:
    prepare(tree_of_photographs(workspace / "root"))
    for path in (images_2017(workspace / "root") / "1").iterdir():
        path.write_bytes(path.read_bytes() + b"\0")
    with refused("has changed since verify read it"):
        run_stage("detect")


def test_the_model_file_carries_the_map(workspace: Path) -> None:
    run_data_stages(tree_of_photographs(workspace / "root"))
    run_stage("train", model=TINY, epochs=1, batch=16)
    (name, box_map), *others = load_model(Path("models/model.safetensors"))[1].box_maps.items()
    assert name == "libfacedetection" and isinstance(box_map, BoxMap) and not others
    assert read_box_maps(MAPS) == {name: box_map}
    MAPS.write_text('{"haar": {"right": 2}}')
    with refused("data/box_maps.json: not the maps of boxes that `detect` writes: .*; run `dvc repro detect`"):
        run_stage("train", model=TINY, epochs=1, batch=16)
