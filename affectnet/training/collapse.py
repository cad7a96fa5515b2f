"""A network that has collapsed: whatever it is shown, it answers one expression."""

from collections.abc import Mapping, Sequence

ANSWERED = "answered_expressions"
"""Metric of an epoch: how many expressions the network answers on our validation split."""

_WHAT, _AGAINST_IT = "the network answers one expression for all of validation", "lower optimizers.<name>.lr"


def collapsed(metrics: Mapping[str, float]) -> bool:
    """Whether one expression is all that the network answers; False where no expression is learned."""
    return metrics.get(ANSWERED) == 1


def said_of_epoch(epoch: int) -> str:
    """The line for an epoch after which the network has collapsed."""
    return f"train: epoch {epoch}: {_WHAT}; if it stays so, {_AGAINST_IT}"


def said_of_all(history: Sequence[Mapping[str, float]]) -> str:
    """What the summary says of all epochs; empty when the network never collapsed."""
    epochs = [epoch for epoch, metrics in enumerate(history, 1) if collapsed(metrics)]
    return f"; {_WHAT} after {len(epochs)} of {len(history)} epochs, last after epoch {epochs[-1]}: {_AGAINST_IT}" if epochs else ""
