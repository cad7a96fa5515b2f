"""Photographs that are there more than once: exactly, or nearly, by the Hamming distance of their difference hashes."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_BYTES = 16
BLOCK = 1 << 22


def near_duplicate_groups(hashes: NDArray[np.uint8], bits: int) -> NDArray[np.int32]:
    """(n,) group numbers from (n, 16) hashes: hashes at most `bits` bits apart share a group, and so do chains of such.

    Exact, without comparing all pairs: of bits + 1 bands of bytes, two hashes within `bits` bits agree in at least one
    (pigeonhole), so only hashes that share a band are compared. bits: 0–15.
    """
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    pairs = [_close_pairs(unique, band, bits) for band in np.array_split(np.arange(HASH_BYTES), bits + 1)]
    left, right = np.concatenate(pairs, axis=1) if unique.size else np.empty((2, 0), np.int64)
    graph = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(len(unique), len(unique)))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels, np.int32)[inverse.ravel()]


def _close_pairs(unique: NDArray[np.uint8], band: NDArray[np.intp], bits: int) -> NDArray[np.int64]:
    """(2, m) positions of hashes that agree in the band and are at most `bits` bits apart."""
    keys = np.ascontiguousarray(unique[:, band]).view(f"V{len(band)}").ravel()
    _, bucket = np.unique(keys, return_inverse=True)
    order = np.argsort(bucket, kind="stable")
    bucket = bucket[order]
    last = np.searchsorted(bucket, bucket, side="right")
    found = [np.empty((2, 0), np.int64)]
    position, distance = np.arange(len(bucket)), 1
    while len(position := position[position + distance < last[position]]):
        for part in np.array_split(position, len(position) // BLOCK + 1):
            left, right = order[part], order[part + distance]
            close = np.bitwise_count(unique[left] ^ unique[right]).sum(1, dtype=np.int64) <= bits
            found.append(np.stack([left[close], right[close]]))
        distance += 1
    return np.concatenate(found, axis=1)


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
