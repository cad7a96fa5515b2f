from itertools import product
from typing import get_args

import torch

from affectnet.training.recipe import Use, seed_of


def test_no_two_draws_of_a_training_have_one_seed() -> None:
    """Uses and epochs of 0 are included, the value with which a short seed is padded."""
    draws = list(product(range(20), get_args(Use), range(20)))
    seeds = {seed_of(seed, use, epoch) for seed, use, epoch in draws}
    assert len(seeds) == len(draws) and all(0 <= seed < 2**63 for seed in seeds)


def test_a_use_draws_the_same_again_and_torch_takes_its_seed() -> None:
    first, again = (torch.Generator().manual_seed(seed_of(11, "augmentation", 4)) for _ in range(2))
    assert torch.equal(torch.rand(5, generator=first), torch.rand(5, generator=again))
