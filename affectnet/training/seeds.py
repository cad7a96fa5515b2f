"""Seeds of a training's draws: another one for each use and each epoch."""

from typing import Literal, get_args

import numpy as np

Use = Literal["weights", "order", "dropout", "augmentation", "loss"]


def seed_of(seed: int, use: Use, epoch: int = 0) -> int:
    """Below 2⁶³; no two uses share a stream of random numbers, and a resumed epoch draws as it did before."""
    words = np.random.SeedSequence([seed, get_args(Use).index(use), epoch])
    return int(words.generate_state(1, np.uint64)[0] >> np.uint64(1))
