"""Seeds of the random numbers of a training: one per use and epoch."""

from typing import Literal, get_args

import numpy as np

Use = Literal["weights", "order", "dropout", "augmentation", "loss"]


def seed_of(seed: int, use: Use, epoch: int = 0) -> int:
    """A seed below 2⁶³. No two uses share a stream of random numbers, and a resumed epoch draws the same again."""
    words = np.random.SeedSequence([seed, get_args(Use).index(use), epoch])
    return int(words.generate_state(1, np.uint64)[0] >> np.uint64(1))
