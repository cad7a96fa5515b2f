"""Cross-entropy, plain or weighted by class."""

from affectnet.training.losses.expression_loss import LOSSES, Classes, ExpressionLoss, LossParams


@LOSSES("plain", LossParams)
class CrossEntropy(ExpressionLoss):
    """Every face counts alike."""


class WeightedParams(LossParams):
    @property
    def takes_class_weights(self) -> bool:
        return True


@LOSSES("weighted", WeightedParams)
class WeightedCrossEntropy(ExpressionLoss):
    """Weighted by the class weights of rebalance."""

    def __init__(self, params: WeightedParams, classes: Classes) -> None:
        super().__init__(params, classes, weighted=True)
