"""The 68 landmarks of a face under a mirror: points move, and left and right change names."""

import numpy as np
from numpy.typing import NDArray

PAIRS = (
    *((left, 16 - left) for left in range(8)),  # jaw
    *((17 + i, 26 - i) for i in range(5)),  # brows
    *((31 + i, 35 - i) for i in range(2)),  # nostrils
    (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46),  # eyes
    (48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67),  # mouth
)  # fmt: skip
"""Indices, from 0, of the points that trade places in the 68-point scheme of iBUG 300-W (Sagonas et al. 2013)."""

MIRROR = np.arange(68)
for _left, _right in PAIRS:
    MIRROR[_left], MIRROR[_right] = _right, _left


def mirrored(landmarks: NDArray[np.floating], width: float) -> NDArray[np.floating]:
    """The landmarks of the image flipped left to right: (…, 136) x1 y1 x2 y2 … in pixels of an image `width` wide, same shape.

    Valence and arousal of a mirrored face are its own. Missing values stay NaN.
    """
    points = landmarks.reshape(*landmarks.shape[:-1], 68, 2)[..., MIRROR, :].copy()
    points[..., 0] = width - points[..., 0]
    return points.reshape(landmarks.shape)
