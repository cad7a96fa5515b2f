import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectnet.losses import LossParams, build_loss


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 5, generator=generator), torch.randint(5, (16,), generator=generator)


@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_equal_weights_are_plain_whatever_their_scale(seed: int, scale: float) -> None:
    logits, targets = batch(seed)
    plain = build_loss(LossParams(function="plain", label_smoothing=0.0), torch.ones(5))
    weighted = build_loss(LossParams(function="weighted", label_smoothing=0.0), torch.full((5,), scale))
    assert float(weighted(logits, targets)) == pytest.approx(float(plain(logits, targets)), rel=1e-4)


def test_weighted_is_the_weighted_mean_of_the_log_losses() -> None:
    logits, targets = batch(3)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    each = -torch.log_softmax(logits, 1)[torch.arange(16), targets]
    expected = (weights[targets] * each).sum() / weights[targets].sum()
    assert build_loss(LossParams(function="weighted", label_smoothing=0.0), weights)(logits, targets) == pytest.approx(
        float(expected), rel=1e-5
    )
