"""The Predictor gives the pipeline's predictions, for every type of picture."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from chain import local, run_data_stages
from PIL import Image
from portraits import MODEL, drawn, write_model
from trees import tree_2017

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.models.outputs import Outputs
from affectnet.predict.predictor import Predictor
from affectnet.reporting.split_predictions import predict_split


@pytest.fixture
def root(workspace: Path) -> Path:
    """A small download after the data stages, and a model."""
    tree = tree_2017(workspace / "root", tests=3)
    run_data_stages(tree)
    write_model()
    return workspace / "root"


def test_pipeline_and_predictor_give_equal_probabilities_for_the_same_photograph(root: Path) -> None:
    expected = predict_split(MODEL, Path("data/faces"), local(), "none")
    rows = [row for row in pq.read_table("data/annotations.parquet").to_pylist() if row["split"] == "test"]
    predictor = Predictor.load(MODEL, averaging="none")
    for position, row in enumerate(rows):
        box = tuple(row[edge] for edge in ("left", "top", "right", "bottom"))
        (face,) = predictor.predict(root / row["image"], "whole" if box[0] is None else [box])
        assert list(face.probabilities) == list(EXPRESSIONS)
        np.testing.assert_allclose(list(face.probabilities.values()), expected.probabilities[position], atol=1e-6)
        np.testing.assert_allclose(np.array([face.valence, face.arousal], np.float64), expected.affect[position], atol=1e-5)
        assert face.expression == expected.names[expected.predicted[position]]


def test_of_equal_probabilities_the_first_counts_as_in_evaluation(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    equal = Outputs(np.zeros((1, len(EXPRESSIONS)), np.float32), np.zeros((1, 2), np.float32))
    monkeypatch.setattr(Predictor, "outputs", lambda *_: equal)
    (face,) = Predictor.load(MODEL).predict(next(root.rglob("*.jpg")), "whole")
    assert face.expression == EXPRESSIONS[0] and set(face.probabilities.values()) == {1 / 8}


def as_path(image: Image.Image) -> Path:
    image.save("photo.png")
    return Path("photo.png")


def as_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "form",
    [
        as_path,
        lambda image: str(as_path(image)),
        as_bytes,
        lambda image: image,
        np.asarray,
        lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1),
        lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1).double() / 255,
    ],
    ids=["path", "string", "bytes", "Pillow", "array", "tensor of bytes", "tensor of floats"],
)
def test_a_photograph_may_come_in_any_form(form: Callable[[Image.Image], Any], root: Path) -> None:
    predictor, box = Predictor.load(MODEL), (20.0, 30.0, 200.0, 210.0)
    expected = predictor.predict(drawn(), [box])
    assert predictor.predict(form(drawn()), [box]) == expected
    assert expected[0].box == box and abs(sum(expected[0].probabilities.values()) - 1) < 1e-9


def test_faces_are_found_the_largest_first_and_many_photographs_answered_at_once(root: Path) -> None:
    predictor, one = Predictor.load(MODEL), drawn()
    two = Image.new("RGB", (640, 320), "grey")
    two.paste(one.resize((200, 200)), (20, 60))
    two.paste(one, (320, 0))
    single, none, both = predictor.predict_many([one, Image.new("RGB", (200, 200)), two])
    assert len(single) == 1 and not none and len(both) == 2
    assert both[0].box[0] > 320 > both[1].box[2]
    assert predictor.predict(two)[0].expression == both[0].expression
    areas = [(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]) for face in both]
    assert areas == sorted(areas, reverse=True)


def test_a_model_of_affect_only_names_no_expression(root: Path) -> None:
    write_model(labels=())
    (face,) = Predictor.load(MODEL).predict(drawn(), "whole")
    assert face.expression is None and face.probabilities == {} and face.valence is not None
    write_model(affect=False)
    (face,) = Predictor.load(MODEL).predict(drawn(), "whole")
    assert face.expression in EXPRESSIONS and face.valence is None and face.arousal is None


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("absent.jpg", "absent.jpg: No such file or directory"),
        (b"no image", "photograph: unreadable image"),
        (np.zeros((4, 4, 4), np.uint8), r"array of uint8, shape \(4, 4, 4\)"),
        (np.zeros((4, 4)), "array of float64"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (torch.zeros(4, 4), "tensor of torch.float32"),
        (torch.full((3, 8, 8), 2.0), "not all in 0–1"),
    ],
)
def test_what_is_no_photograph_is_one_line(picture: Any, message: str, root: Path) -> None:
    with pytest.raises(UserError, match=message):
        Predictor.load(MODEL).predict(picture)


@pytest.mark.parametrize("box", [(10, 10, 10, 20), (500, 0, 600, 50), (-50, 0, -1, 50), (float("nan"), 0, 5, 5)])
def test_a_box_outside_the_photograph_is_one_line(box: tuple[float, float, float, float], root: Path) -> None:
    with pytest.raises(UserError, match="does not overlap the 320 × 320 px photograph"):
        Predictor.load(MODEL).predict(drawn(), [box])


def test_the_package_gives_the_predictor_by_name_and_nothing_that_is_not_there() -> None:
    import affectnet  # noqa: PLC0415

    assert affectnet.Predictor is Predictor and affectnet.UserError is UserError
    with pytest.raises(AttributeError, match="no attribute 'Absent'"):
        affectnet.Absent  # noqa: B018
