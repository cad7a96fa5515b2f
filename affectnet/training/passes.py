"""Steps whose faces pass the network more than once: with the same draws, and batch statistics updated once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from affectnet.training.loader import Part


def backward(
    parts: Sequence[Part],
    outputs_of: Callable[[Part], torch.Tensor],
    loss_of: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    network: nn.Module,
    passing: Callable[[bool], AbstractContextManager[Any]],
) -> torch.Tensor:
    """The loss of a step, whose gradient it leaves in the parameters; never holds more than one part's activations.

    The loss of a step is not the mean of its parts' losses: class weights are normalised over the step, and CCC has moments of
    it. So all parts pass without a graph first, the loss gives the gradient in their outputs, and each part passes again and
    takes its share of that to the parameters (gradient caching, Gao et al. 2021). A single part passes once.

    outputs_of: (n, d) outputs of a part; loss_of: scalar of all parts' outputs; passing: around a pass, told whether it is the last.
    """
    if len(parts) == 1:
        loss = loss_of([outputs_of(parts[0])])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    with torch.no_grad(), draws_repeated(), statistics_kept(network):
        outputs = [outputs_of(part).requires_grad_() for part in parts]
    loss = loss_of(outputs)
    loss.backward()  # type: ignore[no-untyped-call]
    for part, cached in zip(parts, outputs, strict=True):
        with passing(part is parts[-1]):
            outputs_of(part).backward(cached.grad)  # type: ignore[no-untyped-call]
    return loss.detach()


@contextmanager
def draws_repeated() -> Iterator[None]:
    """Restores the random state after the block, of the processor and the current GPU: what follows draws the same, as dropout does."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        yield


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch normalisation normalises as always within the block, and does not update its running statistics."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
