import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as arrays

from affectnet.images.landmarks import PAIRS, mirrored

POINTS = arrays.arrays(np.float64, (2, 136), elements={"min_value": 0, "max_value": 224})


@given(POINTS)
def test_a_mirror_twice_is_the_face_itself(points: np.ndarray) -> None:
    assert np.allclose(mirrored(mirrored(points, 224), 224), points)


def test_left_and_right_trade_places_so_that_a_symmetric_face_stays() -> None:
    assert len({index for pair in PAIRS for index in pair}) == 2 * len(PAIRS) == 58
    face = np.full((68, 2), 112.0)
    for step, (left, right) in enumerate(PAIRS):
        face[left], face[right] = (100 - step, step), (124 + step, step)
    assert np.array_equal(mirrored(face.ravel(), 224), face.ravel())


def test_missing_landmarks_stay_missing_and_the_given_ones_are_not_changed() -> None:
    points = np.full(136, np.nan)
    assert np.isnan(mirrored(points, 100)).all()
    points[:2] = (10, 20)
    found = mirrored(points, 100)
    assert found[32:34].tolist() == [90, 20] and points[:2].tolist() == [10, 20]
