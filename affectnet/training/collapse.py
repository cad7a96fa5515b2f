"""Collapse of a network: it predicts the same expression for every face."""

from collections.abc import Mapping, Sequence

ANSWERED = "answered_expressions"
"""Metric of an epoch: how many expressions the network predicts on our validation split."""

_COLLAPSE = "the network predicts one expression for all of validation"
_ADVICE = "lower optimizers.<name>.lr"


def collapsed(metrics: Mapping[str, float]) -> bool:
    """Whether the network predicts only one expression; False where no expression is learned."""
    return metrics.get(ANSWERED) == 1


def epoch_warning(epoch: int) -> str:
    """The line that is logged after an epoch of a collapsed network."""
    return f"train: epoch {epoch}: {_COLLAPSE}; if it stays so, {_ADVICE}"


def summary(history: Sequence[Mapping[str, float]]) -> str:
    """The part of the stage's summary line about collapse; empty when the network never collapsed."""
    epochs = [epoch for epoch, metrics in enumerate(history, 1) if collapsed(metrics)]
    if not epochs:
        return ""
    return f"; {_COLLAPSE} after {len(epochs)} of {len(history)} epochs, last after epoch {epochs[-1]}: {_ADVICE}"
