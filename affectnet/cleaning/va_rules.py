"""Whether valence and arousal agree with the expression, by the rules of EmoNet (Toisoul et al. 2021, its released data loader)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affectnet.expressions import EXPRESSIONS


def contradicts(
    expression: NDArray[np.integer],
    valence: NDArray[np.floating],
    arousal: NDArray[np.floating],
    labels: Sequence[str] = EXPRESSIONS,
) -> NDArray[np.bool_]:
    """(n,) true where a face's valence and arousal are outside the region of its expression; false where they are NaN.

    With r = √(v² + a²): Neutral needs r < 0.2, every other r > 0.2 (Disgust 0.3), and Happy v > 0, Sad v < 0, Surprise
    a > 0, Fear a ≥ 0 and v ≤ 0, Disgust v < 0, Anger a > 0, Contempt v < 0.
    """
    v, a = valence.astype(np.float64), arousal.astype(np.float64)
    r = np.hypot(v, a)
    wrong = {
        "Neutral": r >= 0.2,
        "Happy": (v <= 0) | (r <= 0.2),
        "Sad": (v >= 0) | (r <= 0.2),
        "Surprise": (a <= 0) | (r <= 0.2),
        "Fear": ~((a >= 0) & (v <= 0)) | (r <= 0.2),
        "Disgust": (v >= 0) | (r <= 0.3),
        "Anger": (a <= 0) | (r <= 0.2),
        "Contempt": (v >= 0) | (r <= 0.2),
    }
    contradicting = np.zeros(len(expression), np.bool_)
    for code, name in enumerate(labels):
        if name in wrong:
            contradicting |= (expression == code) & wrong[name]
    return contradicting & np.isfinite(r)
