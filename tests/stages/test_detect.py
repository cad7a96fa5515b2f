"""The maps of boxes: fitted on training photographs only, the same bytes for any number of workers, and in the model file."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from chain import TINY, local, metrics, refused, run_data_stages, run_stage
from trees import FER_CLASSES, images_2017, row, tree_2017, write_2017

from affectnet.images.box_map import BoxMap, read_box_maps
from affectnet.images.decode import open_photograph
from affectnet.images.detection import detect as detected
from affectnet.images.detection import load_detector
from affectnet.images.yunet_files import PACKAGED
from affectnet.models.checkpoint import load_model
from affectnet.params import parse, read_document
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import Photograph, draw_photograph, draw_scene
from affectnet.tables.source_pointer import Pointer
from stages import detect

TRAINING, TESTS = 64, 16
MAPS = Path("data/box_maps.json")


def photograph(number: int) -> Photograph:
    generator = np.random.default_rng(number)
    return draw_photograph(draw_actions("Happy", generator), generator, draw_scene(generator, 180, 220))


def tree_of_photographs(root: Path) -> Pointer:
    """Drawn photographs; the annotated boxes of the test list are twice as large, so that a map that sees them differs."""
    rows: list[str] = []
    (images_2017(root) / "1").mkdir(parents=True)
    for number in range(TRAINING + TESTS):
        shot = photograph(number)
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
    assert f"libfacedetection detects {count} of {count} training faces; mapped by " in line and "haar detects " in line
    before, after = (float(line.split(f"{word} ")[1][:4]) for word in ("before", "crops is"))
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
        assert "detects 0 of 30 training faces, too few for a map" in run_stage("detect", photographs=30, seed=seed)
        assert len(names) == 30 and all(int(Path(name).stem) < TRAINING for name in names)
        assert looked_at.setdefault(seed, names) == names
    assert looked_at[1] != looked_at[2] and json.loads(MAPS.read_text()) == {}


def test_two_detectors_of_one_name_are_one_line(workspace: Path) -> None:
    prepare(tree_of_photographs(workspace / "root"))
    copy = Path("copy.onnx")
    copy.write_bytes(PACKAGED.read_bytes())
    for detectors in (["haar", "haar"], ["libfacedetection", str(copy)]):
        with refused(rf"detect\.detectors: several of the name {detectors[0]}: .*{detectors[1]}; "):
            run_stage("detect", detectors=detectors)
    assert not MAPS.exists()


def test_too_few_detected_faces_have_no_map(workspace: Path) -> None:
    prepare(tree_2017(workspace / "root"))
    assert run_stage("detect") == "detect: libfacedetection detects 0 of 40 training faces, too few for a map"
    assert json.loads(MAPS.read_text()) == {}
    prepare(tree_2017(workspace / "few", each=2))
    assert run_stage("detect").startswith("detect: no map from ")


def test_of_images_that_are_crops_the_whole_image_is_the_region(workspace: Path) -> None:
    """Crops of twice the side of the detected box: a detected face is cropped so in a photograph, too."""
    for number in range(TRAINING):
        image, content = photograph(number).image.convert("RGB"), io.BytesIO()
        image.save(content, "PNG")
        boxes = detected(open_photograph(content.getvalue(), "a"), load_detector())
        if not boxes:  # in one of these
            continue
        left, top, right, bottom = boxes[0]
        x, y, half = (left + right) / 2, (top + bottom) / 2, bottom - top
        folder = workspace / "root" / ("train", "test")[number % 4 == 0] / ("happy", "sad")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.crop((round(x - half), round(y - half), round(x + half), round(y + half))).save(folder / f"{number}.png")
    prepare(Pointer("folder", str(workspace / "root"), classes=FER_CLASSES, splits={"train": "train", "test": "test"}))
    run_stage("detect")
    (box_map,) = read_box_maps(MAPS).values()
    assert box_map.height == pytest.approx(2, abs=0.05) and box_map.width > 2
    assert abs(box_map.right) <= 0.02 and abs(box_map.down) <= 0.02


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
