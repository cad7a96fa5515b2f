import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from affectnet.cleaning.splits import stratified_cut


def due(faces: int, share: float) -> int:
    """The number of an expression's faces that is the target of the cut."""
    return max(1, int(np.floor(faces * share + 0.5)))


@given(
    groups=st.lists(st.integers(0, 60), min_size=1, max_size=200),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 99),
    classes=st.integers(1, 8),
)
def test_groups_stay_whole_and_each_expression_gives_its_share_within_half_a_group(
    groups: list[int], share: float, seed: int, classes: int
) -> None:
    members = np.array(groups)
    expression = members % classes
    taken = stratified_cut(expression, members, share, seed)
    assert all(len(set(taken[members == group])) == 1 for group in set(groups))
    for code in np.unique(expression):
        lengths = np.unique(members[expression == code], return_counts=True)[1]
        cut = taken[expression == code].sum()
        if len(lengths) > 1:
            assert abs(cut - due(lengths.sum(), share)) <= lengths.max() / 2
            assert cut < lengths.sum()
        else:
            assert not cut
    assert np.array_equal(taken, stratified_cut(expression, members, share, seed))


@given(share=st.floats(0.02, 0.95), seed=st.integers(0, 99), largest=st.floats(0.05, 0.9), faces=st.integers(20, 400))
def test_a_large_group_never_keeps_single_faces_from_their_share(share: float, seed: int, largest: float, faces: int) -> None:
    together = int(largest * faces)
    groups = np.maximum(np.arange(faces), together - 1)
    taken = stratified_cut(np.zeros(faces, np.int64), groups, share, seed)
    singles = faces - together
    if due(faces, share) <= singles:
        assert taken.sum() == due(faces, share)


def test_one_group_of_a_fifth_leaves_every_seed_its_share() -> None:
    """The greedy prefix cut less than half of the target for 12 % of the seeds, and nothing for some."""
    groups = np.maximum(np.arange(400), 79)
    cuts = [int(stratified_cut(np.zeros(400, np.int64), groups, 0.15, seed).sum()) for seed in range(300)]
    assert set(cuts) == {60}


def test_single_faces_give_just_their_share() -> None:
    expression = np.repeat([0, 1, 2], [100, 40, 7])
    taken = stratified_cut(expression, np.arange(147), 0.15, 5)
    assert [int(taken[expression == code].sum()) for code in range(3)] == [15, 6, 1]


def test_an_expression_of_two_faces_gives_one_and_of_one_face_none() -> None:
    taken = stratified_cut(np.array([0, 0, 1]), np.arange(3), 0.05, 5)
    assert taken[:2].sum() == 1 and not taken[2]


def test_no_face_gives_none() -> None:
    assert len(stratified_cut(np.empty(0, np.int64), np.empty(0, np.int64), 0.2, 0)) == 0


def test_a_cut_by_content_depends_on_the_seed_and_hardly_on_other_faces() -> None:
    content = np.random.default_rng(0).integers(1 << 63, size=400, dtype=np.uint64)
    expression = np.arange(400) % 4
    cuts = [stratified_cut(expression, np.arange(400), 0.2, seed, content) for seed in range(5)]
    assert {int(cut.sum()) for cut in cuts} == {80}
    assert all((cuts[0] & other).sum() < 40 for other in cuts[1:])  # 16 by chance
    fewer = np.delete(np.arange(400), [3, 50, 77])
    again = stratified_cut(expression[fewer], fewer[::-1], 0.2, 0, content[fewer])
    assert (again != cuts[0][fewer]).sum() <= 6
