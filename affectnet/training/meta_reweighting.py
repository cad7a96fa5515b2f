"""The look-ahead that trains the weights of `DynamicLearnedLoss`: class gradients of the last layer, training against validation."""

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import nn

from affectnet.models.backbones import last_linear
from affectnet.training.distributed import Group
from affectnet.training.losses import DynamicLearnedLoss, class_gradients
from affectnet.training.tasks import Targets, joined

PER_CLASS = 16
"""Validation faces of each expression in a look-ahead."""


class LookAhead:
    """Watches the last layer of a network in training, and after every `loss.every` steps updates the loss's weights.

    validation: rows → normalised images (n, 3, px, px) on the network's device; expression: (n, k) one-hot of that split;
    group: the processes whose faces count together; parts: in how many a step's faces pass at most.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: DynamicLearnedLoss,
        validation: Callable[[torch.Tensor], torch.Tensor],
        expression: torch.Tensor,
        group: Group,
        parts: int,
    ) -> None:
        self.network, self.loss, self.validation, self.expression, self.group = network, loss, validation, expression, group
        self.passes: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=parts)
        self.steps = 0
        last_linear(network)[1].register_forward_hook(self._watch)

    def start_epoch(self, seed: int) -> None:
        """The draws of an epoch come from its own seed, so that a resumed training draws the same."""
        self.generator, self.steps = torch.Generator().manual_seed(seed), 0

    def __call__(self, targets: Sequence[Targets]) -> None:
        """After a step whose last passes had these `targets`, of this process's faces."""
        self.steps += 1
        if self.steps % self.loss.every:
            return
        train = self._gradients(joined(targets).expression, len(targets))
        rows = self._draw()
        modes = [module.training for module in self.network.modules()]
        self.network.eval()
        with torch.no_grad():
            self.network(self.validation(rows))
        for module, mode in zip(self.network.modules(), modes, strict=True):
            module.training = mode
        self.loss.look_ahead(train, self._gradients(self.expression[rows].to(self.group.device), 1))

    def _gradients(self, expression: torch.Tensor, passes: int) -> torch.Tensor:
        """Of each class, over the last passes' faces in all processes: the same in each, and so the loss's weights."""
        features, logits = (torch.cat(watched) for watched in zip(*list(self.passes)[-passes:], strict=True))
        return self.group.mean(class_gradients(features, logits, expression), expression.sum(0))

    def _draw(self) -> torch.Tensor:
        """As many rows of each expression that the validation split has, with replacement."""
        members = [torch.nonzero(column).flatten() for column in self.expression.T if column.any()]
        return torch.cat([rows[torch.randint(len(rows), (PER_CLASS,), generator=self.generator)] for rows in members])

    def _watch(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.passes.append((inputs[0].detach().float(), output.detach().float()[:, : self.expression.shape[1]]))
