"""Duplicate photographs: exact, or near by the Hamming distance of their difference hashes."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from affectnet.tables.inventory import DHASH_BYTES

PAIRS_PER_STEP = 1 << 22
"""Pairs of hashes compared at a time."""


def near_duplicate_groups(hashes: NDArray[np.uint8], bits: int) -> NDArray[np.int32]:
    """(n,) group numbers from (n, 16) hashes: hashes at most `bits` bits apart share a group, also through chains.

    Exact, without comparing all pairs: of bits + 1 bands of bytes, two hashes within `bits` bits agree in at least one
    (pigeonhole), so only hashes that share a band are compared. bits: 0–15.
    """
    unique, inverse = _unique(hashes)
    bands = np.array_split(np.arange(DHASH_BYTES), bits + 1) if bits else []
    pairs = [np.empty((2, 0), np.int64), *(_close_pairs(unique, band, bits) for band in bands)]
    left, right = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(len(unique), len(unique)))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels, np.int32)[inverse]


def _unique(hashes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """The distinct hashes, sorted, and the position of each hash among them: as np.unique(axis=0), but by 64-bit words."""
    words = np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    order = np.lexsort((words[:, 1], words[:, 0]))
    differs = np.ones(len(words), np.bool_)
    differs[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    inverse = np.empty(len(hashes), np.intp)
    inverse[order] = np.cumsum(differs) - 1
    return hashes[order[differs]], inverse


def _close_pairs(unique: NDArray[np.uint8], band: NDArray[np.intp], bits: int) -> NDArray[np.int64]:
    """(2, m) positions of hashes that agree in the band, of 8 bytes at most, and are at most `bits` bits apart."""
    width = 2 if len(band) <= 2 else 8  # numpy sorts two-byte numbers by radix
    padded = np.zeros((len(unique), width), np.uint8)
    padded[:, : len(band)] = unique[:, band]
    bucket = padded.view(f"u{width}").ravel()
    order = np.argsort(bucket, kind="stable")
    bucket, words = bucket[order], unique.view(np.uint64)[order]
    last = np.searchsorted(bucket, bucket, side="right")
    pairs = [np.empty((2, 0), np.int64)]
    position, distance = np.arange(len(bucket)), 1
    while len(position := position[position + distance < last[position]]):
        for part in np.array_split(position, len(position) // PAIRS_PER_STEP + 1):
            apart = np.bitwise_count(words[part] ^ words[part + distance])
            close = part[apart[:, 0] + apart[:, 1] <= bits]
            pairs.append(order[np.stack([close, close + distance])])
        distance += 1
    return np.concatenate(pairs, axis=1)


def repeated_faces(
    content: NDArray[np.integer], box: NDArray[np.floating], expression: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(n,) true for each further occurrence of a face, and true for every occurrence of a face with differing labels.

    content: (n,) a number for each distinct photograph; box: (n, 4) px, NaN for the whole photograph.
    """
    faces = np.column_stack([content, np.nan_to_num(box, nan=-1e9)])
    _, first, face = np.unique(faces, axis=0, return_index=True, return_inverse=True)
    face = face.ravel()
    repeated = np.ones(len(faces), np.bool_)
    repeated[first] = False
    lowest, highest = np.full(len(first), 99), np.full(len(first), -1)
    np.minimum.at(lowest, face, expression)
    np.maximum.at(highest, face, expression)
    return repeated, (lowest != highest)[face]
