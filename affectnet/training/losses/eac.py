"""Erasing attention consistency: a face and its mirror image are judged by the same parts."""

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from affectnet.errors import UserError
from affectnet.models.layers import evaluating, last_linear
from affectnet.training.losses.expression_loss import LOSSES, Classes, TrainingView
from affectnet.training.losses.logit_adjusted import AdjustedLoss, RobustParams
from affectnet.training.targets import Targets


class EacParams(RobustParams):
    consistency: float = Field(ge=0)


@LOSSES("eac", EacParams)
class AttentionConsistency(AdjustedLoss):
    """Cross-entropy + consistency · mean squared difference of the class activation maps of a face and its mirror image.

    Zhang et al. 2022, section 3: a network memorises a wrong label by a part of the face, which it does not attend to in the mirror
    image. M_c = Σ_d w_cd F_d of the last feature map F, with w of the last layer held fixed; the map of the mirror image is mirrored
    back. The mirror image has no other part in the loss. The erasing of the paper is the augmentation's (`erase`). Both images are
    in one pass, which takes twice as long.
    """

    def __init__(self, params: EacParams, classes: Classes) -> None:
        super().__init__(params, classes, params.tau)
        self.consistency = params.consistency

    def attach(self, training: TrainingView) -> None:
        self.attention = Attention(training, len(self.weight))

    def outputs(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """(n, d + 2 · k · h · w): the network's outputs for the images, and both maps."""
        outputs, maps = self.attention(network, torch.cat([images, images.flip(3)]))
        of_faces, of_mirrored = maps.chunk(2)
        columns = [outputs[: len(images)].float(), of_faces.flatten(1), of_mirrored.flip(3).flatten(1)]
        return torch.cat(columns, 1)

    def penalty(self, outputs: torch.Tensor, targets: Targets) -> torch.Tensor | float:
        maps = outputs[:, self.attention.width :]
        if not maps.shape[1]:
            return 0.0
        of_faces, of_mirrored = maps.chunk(2, 1)
        return self.consistency * functional.mse_loss(of_faces, of_mirrored)


class Attention:
    """The class activation maps of a network (Zhou et al. 2016): its last layer is linear, on the mean of a feature map."""

    def __init__(self, training: TrainingView, classes: int) -> None:
        self.last, self.classes = last_linear(training.network)[1], classes
        self.width = self.last.out_features
        self.layer = _mapped_layer(training, self.last)

    def __call__(self, network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The (n, d) outputs for the images, and the (n, k, h, w) float32 maps."""
        recorded: list[torch.Tensor] = []
        hook = self.layer.register_forward_hook(lambda _, __, features: recorded.append(features))
        try:
            outputs: torch.Tensor = network(images)
        finally:
            hook.remove()
        weight = self.last.weight[: self.classes].detach()
        with torch.autocast(images.device.type, enabled=False):
            return outputs, torch.einsum("ndhw,kd->nkhw", recorded[-1].float(), weight)


def _mapped_layer(training: TrainingView, last: nn.Linear) -> nn.Module:
    """The layer whose feature map, averaged over its places, is the input of the last one, as a pass of one face shows.

    Errors: UserError when there is none.
    """
    recorded: list[tuple[nn.Module, torch.Tensor]] = []
    pooled: list[torch.Tensor] = []
    hooks = [module.register_forward_hook(lambda *one: recorded.append((one[0], one[2]))) for module in training.network.modules()]
    hooks.append(last.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0])))
    with evaluating(training.network), torch.no_grad():
        training.network(training.validation_images(torch.tensor([0])))
    for hook in hooks:
        hook.remove()
    maps = [(module, features) for module, features in recorded if features.dim() == 4 and features.shape[1] == last.in_features]
    matching = [one for one in maps if torch.allclose(one[1].mean((2, 3)), pooled[0], rtol=1e-3, atol=1e-5)]
    if not matching:
        raise UserError(
            "params.yaml: loss: eac needs a network whose last layer is linear on the mean of a feature map, as vgg16_small, resnet18 or "
            "efficientnet_b0; choose another model or loss"
        )
    return max(matching, key=lambda one: one[1].shape[2:].numel())[0]
