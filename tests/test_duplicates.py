import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from affectnet.cleaning.near_duplicates import near_duplicate_groups
from affectnet.tables.inventory import DHASH_BYTES


def brute_force(hashes: np.ndarray, bits: int) -> list[frozenset[int]]:
    """Groups by comparison of all pairs, joined until nothing changes."""
    distance = np.unpackbits(hashes[:, None] ^ hashes[None], axis=2).sum(2)
    groups = [frozenset({n}) for n in range(len(hashes))]
    for a, b in zip(*np.nonzero(distance <= bits), strict=True):
        first, second = (next(group for group in groups if n in group) for n in (a, b))
        if first != second:
            groups = [group for group in groups if group not in (first, second)] + [first | second]
    return groups


@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(0, 15), count=st.integers(1, 40), flips=st.integers(0, 20))
def test_groups_are_those_of_comparing_all_pairs(seed: int, bits: int, count: int, flips: int) -> None:
    generator = np.random.default_rng(seed)
    parents = generator.integers(0, 256, (4, DHASH_BYTES), dtype=np.uint8)
    spread = np.unpackbits(parents[generator.integers(0, 4, count)], axis=1)
    for row in spread:
        row[generator.choice(128, generator.integers(0, flips + 1), replace=False)] ^= 1
    hashes = np.packbits(spread, axis=1)
    labels = near_duplicate_groups(hashes, bits)
    groups = {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}
    assert groups == set(brute_force(hashes, bits))


def test_no_hash_makes_no_group() -> None:
    assert near_duplicate_groups(np.empty((0, DHASH_BYTES), np.uint8), 7).shape == (0,)
