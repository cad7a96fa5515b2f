"""The map from a detector's box to the annotated one: fitted, kept in the model file, and applied before a face is cropped."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import metadata
from numpy.typing import NDArray
from portraits import MODEL, drawn, write_model

from affectnet.errors import UserError
from affectnet.images.box_map import BoxMap, overlap
from affectnet.images.crop import crop_face
from affectnet.images.pictures import file_content
from affectnet.images.resize import decode_face
from affectnet.models.metadata import read_metadata
from affectnet.predict.predictor import Predictor

SMALLER = BoxMap(0.05, -0.1, 0.9, 0.8)

MAPS = st.builds(BoxMap, *(st.floats(-0.5, 0.5) for _ in range(2)), *(st.floats(0.3, 3) for _ in range(2)))
BOXES = st.tuples(st.floats(-50, 500), st.floats(-50, 500), st.floats(1, 300), st.floats(1, 300)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


def boxes(count: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(count)
    corners = generator.uniform(0, 300, (count, 2))
    return np.hstack([corners, corners + generator.uniform(40, 200, (count, 2))])


def test_the_map_of_exact_pairs_is_fitted_exactly() -> None:
    detected = boxes(50)
    annotated = np.array([SMALLER.mapped((left, top, right, bottom)) for left, top, right, bottom in detected.tolist()])
    assert BoxMap.fitted(detected, annotated) == SMALLER


def test_a_few_wrong_pairs_change_little() -> None:
    detected, generator = boxes(100), np.random.default_rng(1)
    annotated = np.array([SMALLER.mapped((left, top, right, bottom)) for left, top, right, bottom in detected.tolist()])
    annotated += generator.normal(0, 2, annotated.shape)
    annotated[:25] += 400
    assert np.allclose(list(asdict(BoxMap.fitted(detected, annotated)).values()), list(asdict(SMALLER).values()), atol=0.03)


@given(MAPS, BOXES)
def test_a_mapped_box_overlaps_the_detected_one(box_map: BoxMap, box: tuple[float, float, float, float]) -> None:
    assert overlap(box_map.mapped(box), box) > 0.01
    assert overlap(box, box) == pytest.approx(1) and overlap(box, (1e4, 1e4, 2e4, 2e4)) == 0


def test_a_model_file_crops_the_mapped_box_of_its_detector(workspace: Path) -> None:
    """The face keeps the detector's box; boxes of the caller, and of a detector without a map, are cropped as they are."""
    write_model(box_maps={"libfacedetection": SMALLER})
    predictor, picture = Predictor.load(MODEL), drawn(320)
    content, name = file_content(picture)
    ((box, pixels, detector),) = predictor.crops(picture)
    region = SMALLER.mapped(box)
    assert detector == "libfacedetection" and region != box
    assert np.array_equal(pixels, decode_face(crop_face(content, region, None, predictor.policy, name).content, 32))
    (as_it_is,) = predictor.crops(picture, [box])
    assert as_it_is.detector is None and not np.array_equal(as_it_is.pixels, pixels)
    ((haar_box, haar_pixels, haar),) = Predictor.load(MODEL, detector="haar").crops(picture)
    assert haar == "haar" and np.array_equal(haar_pixels, predictor.crops(picture, [haar_box])[0].pixels)
    (face,) = predictor.predict(picture)
    assert (face.box, face.detector) == (box, "libfacedetection")
    assert predictor.predict(picture, "whole")[0].detector is None


def test_an_older_model_file_has_no_map() -> None:
    content = asdict(metadata())
    del content["box_maps"]
    assert read_metadata(Path("a"), json.dumps(content)).box_maps == {}
    kept = metadata(box_maps={"haar": SMALLER})
    assert read_metadata(Path("a"), json.dumps(asdict(kept))).box_maps == {"haar": SMALLER}


@pytest.mark.parametrize(
    "change", [{"right": 0.6}, {"down": None}, {"width": 0.0}, {"height": 4.0}, {"width": "1"}, {"down": float("nan")}, {"depth": 1.0}]
)
def test_a_map_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    content = {**asdict(metadata()), "box_maps": {"haar": {**asdict(SMALLER), **change}}}
    with pytest.raises(UserError, match=r"^a: invalid model metadata: box_maps\.haar"):
        read_metadata(Path("a"), json.dumps(content))
