import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from chain import local, metrics, run_stage
from PIL import Image
from trees import LANDMARKS, images_2017, tree_2017, tree_2021

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS, SPLITS
from affectnet.params import parse, read_document
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.face_shards import FACES, read_policy, shard_paths
from affectnet.tables.source_pointer import Pointer
from stages import crop


def prepare(pointer: Pointer) -> None:
    pointer.write(Path("data/raw"))
    for stage in ("verify", "clean"):
        run_stage(stage)


def settle(root: Path) -> None:
    """Makes all files old, so that verify remembers them."""
    for path in root.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path("data/faces").iterdir())}


def test_faces_follow_the_annotations_row_by_row(workspace: Path) -> None:
    prepare(tree_2017(workspace / "root"))
    run_stage("crop")
    annotations = ANNOTATIONS.read(Path("data/annotations.parquet"))
    for split in SPLITS:
        rows = annotations.filter(np.asarray(annotations["split"]) == split)
        faces = pq.read_table(shard_paths(Path("data/faces"), split))
        assert faces["row"].to_pylist() == rows["row"].to_pylist() and faces["expression"].to_pylist() == rows["expression"].to_pylist()
        assert faces["image"].combine_chunks().field("path").to_pylist() == rows["image"].to_pylist()
        assert set(faces["width"].to_pylist()) == {70}
    x, y = np.array(faces["landmarks"][0].as_py()).reshape(68, 2)[0]
    assert (x, y) == pytest.approx(np.array(LANDMARKS.split(";")[:2], float) - 10)


def test_bytes_do_not_depend_on_workers_and_shards_are_whole(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tree_2017(workspace / "root", each=10))
    monkeypatch.setattr(crop, "ROWS_PER_GROUP", 8)
    shipped = parse(read_document(), "crop", crop.CropParams)
    params = crop.CropParams.model_construct(**{**shipped.model_dump(), "rows_per_shard": 24})
    for workers in (1, 2):
        crop.run(
            params,
            local(workers),
            Path("data/raw"),
            Path("data/inventory.parquet"),
            Path("data/annotations.parquet"),
            faces=Path("data/faces"),
        )
        if workers == 1:
            first = contents()
    assert contents() == first
    assert [path.name for path in shard_paths(Path("data/faces"), "train")] == [f"train-{n:05d}-of-00003.parquet" for n in range(3)]
    assert sum(pq.read_metadata(path).num_rows for path in shard_paths(Path("data/faces"), "train")) == 64


def test_images_of_224_px_pass_through_byte_for_byte(workspace: Path) -> None:
    prepare(tree_2021(workspace / "root"))
    assert "64 passed through unchanged" in run_stage("crop")
    face = pq.read_table(shard_paths(Path("data/faces"), "train"))["image"][0].as_py()
    assert face["bytes"] == (workspace / "root" / face["path"]).read_bytes()


def test_shards_carry_the_policy_and_the_features_of_hugging_face(workspace: Path) -> None:
    prepare(tree_2017(workspace / "root"))
    run_stage("crop", margin=0.25)
    for split in SPLITS:
        policy = read_policy(Path("data/faces"), split)
        assert policy["margin"] == 0.25 and "rows_per_shard" not in policy
    schema = pq.read_schema(shard_paths(Path("data/faces"), "test")[0])
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"} and features["expression"]["names"] == list(EXPRESSIONS)
    assert set(features) == set(FACES.schema.names)


def test_landmarks_align_where_they_exist_and_the_rest_is_counted(workspace: Path) -> None:
    pointer = tree_2017(workspace / "root")
    listing = workspace / "root" / "Manually_Annotated_file_lists" / "training.csv"
    listing.write_text(listing.read_text().replace(LANDMARKS, "", 5))
    prepare(pointer)
    assert "5 not aligned, without landmarks" in run_stage("crop", align=True)


def test_a_margin_needs_boxes(workspace: Path) -> None:
    prepare(tree_2021(workspace / "2021"))
    with pytest.raises(UserError, match=r"^crop.margin=0.1: no face of these data has a box.*set 0$"):
        run_stage("crop", margin=0.1)
    assert run_stage("crop", margin=0.1, align=True).endswith(", 0 not aligned, without landmarks")


def test_faces_without_a_box_are_counted_where_others_have_a_margin(workspace: Path) -> None:
    pointer = tree_2017(workspace / "root")
    listing = workspace / "root" / "Manually_Annotated_file_lists" / "training.csv"
    path, *_ = (line := listing.read_text().splitlines()[1]).split(",")
    edges = ",".join(line.split(",")[1:5])
    listing.write_text(listing.read_text().replace(f"{path},{edges},", f"{path},NULL,NULL,NULL,NULL,"))
    pointer.write(Path("data/raw"))
    run_stage("verify")
    run_stage("clean", null_box="whole")
    assert run_stage("crop", margin=0.1).endswith(", 1 without a box and a margin")
    assert "margin" not in run_stage("crop")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bit_that_the_disk_turned_is_found_by_the_command_that_the_message_names(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    pointer = tree_2017(workspace / "root")
    settle(workspace / "root")
    prepare(pointer)
    run_stage("crop")
    rotten = sorted((workspace / "root").rglob("*.jpg"))[20:22]
    for path in rotten:
        content, before = bytearray(path.read_bytes()), path.stat()
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    run_stage("verify", tolerance=1.0)
    assert metrics("verify")["ok"] == 64  # size and time are unchanged
    monkeypatch.setattr("chain.local", lambda: local(workers))
    with pytest.raises(UserError, match="has changed since verify read it; run `dvc repro -f verify`, which reads every file again"):
        run_stage("crop")
    run_stage("verify", tolerance=1.0)
    mended = Path("data/inventory.parquet").read_bytes()
    shutil.rmtree(".dvc")
    run_stage("verify", tolerance=1.0)
    assert Path("data/inventory.parquet").read_bytes() == mended and metrics("verify")["ok"] == 62
    run_stage("clean")
    run_stage("crop")
    assert metrics("clean")["rejected"] == 2


def test_a_photograph_that_changed_or_went_after_verify_is_refused(workspace: Path) -> None:
    prepare(tree_2017(workspace / "root"))
    run_stage("crop")
    before, path = contents(), next(images_2017(workspace / "root").rglob("*.jpg"))
    Image.new("RGB", (96, 96)).save(path)
    with pytest.raises(UserError, match="has changed since verify read it"):
        run_stage("crop")
    path.unlink()
    with pytest.raises(UserError, match="was readable for verify, now No such file"):
        run_stage("crop")
    assert contents() == before
