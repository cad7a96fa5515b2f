"""RMSE, correlation, sign agreement and CCC of valence or arousal, registered. The formulas are in `regression`, which `train` depends on:

a label or a floor that changes here trains no model again.
"""

import numpy as np

from affectnet.metrics.registry import Values, metric
from affectnet.metrics.regression import affect_scores


def _zero(_true: Values) -> Values:
    return np.zeros(())


def _deviation(true: Values) -> Values:
    """The RMSE of the mean."""
    return np.asarray(true.std())


def _most_frequent_sign(true: Values) -> Values:
    return np.asarray(max((np.sign(true) == sign).mean() for sign in (-1, 0, 1)))


@metric("rmse", "RMSE", "affect", floor=_deviation, rank=1)
def rmse(true: Values, predicted: Values) -> Values:
    return affect_scores(true, predicted).rmse


@metric("corr", "correlation", "affect", floor=_zero, rank=2)
def corr(true: Values, predicted: Values) -> Values:
    return affect_scores(true, predicted).corr


@metric("sagr", "sign agreement", "affect", floor=_most_frequent_sign, rank=3)
def sagr(true: Values, predicted: Values) -> Values:
    return affect_scores(true, predicted).sagr


@metric("ccc", "CCC", "affect", floor=_zero, rank=4)
def ccc(true: Values, predicted: Values) -> Values:
    return affect_scores(true, predicted).ccc
