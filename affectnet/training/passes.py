"""Gradients of steps that pass the network more than once, with the same random draws and one update of batch statistics."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from affectnet.training.loader import MicroBatch


def backward(
    micro_batches: Sequence[MicroBatch],
    outputs_of: Callable[[MicroBatch], torch.Tensor],
    loss_of: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    network: nn.Module,
    exchange: Callable[[bool], AbstractContextManager[Any]],
) -> torch.Tensor:
    """The loss of a step, whose gradient it leaves in the parameters; never holds the activations of more than one micro-batch.

    The loss of a step is not the mean of the losses of its micro-batches: class weights are normalised over the step, and CCC has
    moments of it. So all micro-batches pass without a graph first, the loss gives the gradient in their outputs, and each passes
    again and takes its part of that to the parameters (gradient caching, Gao et al. 2021). A single micro-batch passes once.

    outputs_of: (n, d) outputs of a micro-batch; loss_of: scalar of all their outputs; exchange: context of a pass, called with
    whether it is the step's last.
    """
    if len(micro_batches) == 1:
        loss = loss_of([outputs_of(micro_batches[0])])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    with torch.no_grad(), draws_repeated(), statistics_kept(network):
        outputs = [outputs_of(one).requires_grad_() for one in micro_batches]
    loss = loss_of(outputs)
    loss.backward()  # type: ignore[no-untyped-call]
    for one, cached in zip(micro_batches, outputs, strict=True):
        with exchange(one is micro_batches[-1]):
            outputs_of(one).backward(cached.grad)  # type: ignore[no-untyped-call]
    return loss.detach()


@contextmanager
def draws_repeated() -> Iterator[None]:
    """Restores the random state of the processor and the current GPU after the block, so that dropout draws the same again."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        yield


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within the block, batch normalisation does not update its running statistics."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
