import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from affectnet.splits import validation_faces


@given(
    groups=st.lists(st.integers(0, 60), min_size=1, max_size=200),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 99),
    classes=st.integers(1, 8),
)
def test_groups_stay_whole_and_no_expression_gives_more_than_its_share(groups: list[int], share: float, seed: int, classes: int) -> None:
    members = np.array(groups)
    expression = members % classes
    taken = validation_faces(expression, members, share, seed)
    assert all(len(set(taken[members == group])) == 1 for group in set(groups))
    for code in np.unique(expression):
        assert taken[expression == code].sum() <= np.floor((expression == code).sum() * share + 0.5)
    assert np.array_equal(taken, validation_faces(expression, members, share, seed))


def test_single_faces_give_just_their_share() -> None:
    expression = np.repeat([0, 1, 2], [100, 40, 7])
    taken = validation_faces(expression, np.arange(147), 0.15, 5)
    assert [int(taken[expression == code].sum()) for code in range(3)] == [15, 6, 1]


def test_no_face_gives_none() -> None:
    assert len(validation_faces(np.empty(0, np.int64), np.empty(0, np.int64), 0.2, 0)) == 0
