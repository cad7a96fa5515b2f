"""Which labels are probably wrong, from out-of-fold probabilities: confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """The labels of n faces. suggested: (n,) codes; confidence, suggested_confidence: (n,) probabilities of label and suggestion.

    is_issue: (n,) whether the label is probably wrong; rank: (n,) from 1, the most doubtful label; joint: (k, k) faces by label and by
    the expression that they probably show, estimated.
    """

    suggested: Codes
    confidence: Probabilities
    suggested_confidence: Probabilities
    is_issue: NDArray[np.bool_]
    rank: Codes
    joint: Probabilities


def judge(labels: Codes, probabilities: Probabilities) -> Judgement:
    """The judgement of (n,) labels 0 … k−1 from (n, k) probabilities of networks that were not trained on the face.

    A face is an issue when it counts off the diagonal of the confident joint: its probability of another class reaches the mean of
    the faces with that label. Ranked are all faces, by the probability of the label minus the largest of another class, each divided
    by its class's threshold, so that a class which the network is rarely sure of is not doubtful as a whole.
    """
    rows = np.arange(len(labels))
    thresholds = class_thresholds(labels, probabilities)
    confident = confident_classes(probabilities, thresholds)
    suggested = np.where(confident >= 0, confident, probabilities.argmax(1))
    relative = probabilities / thresholds
    others = relative.copy()
    others[rows, labels] = -np.inf
    margin = relative[rows, labels] - others.max(1)
    is_issue = (confident >= 0) & (confident != labels)
    rank = np.empty(len(labels), np.int64)
    rank[np.argsort(margin, kind="stable")] = rows + 1
    joint = estimated_joint(labels, confident, probabilities.shape[1])
    return Judgement(suggested, probabilities[rows, labels], probabilities[rows, suggested], is_issue, rank, joint)


def class_thresholds(labels: Codes, probabilities: Probabilities) -> Probabilities:
    """(k,) mean probability of each class over the faces with that label (eq. 2); infinite for a class that no face has."""
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, probabilities[np.arange(len(labels)), labels], probabilities.shape[1])
    return np.where(counts > 0, np.maximum(sums, 1e-12) / np.maximum(counts, 1), np.inf)


def confident_classes(probabilities: Probabilities, thresholds: Probabilities) -> Codes:
    """(n,) the most probable of the classes that reach their threshold (eq. 1), −1 where none does."""
    reaching = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(reaching.max(1) >= 0, reaching.argmax(1), -1)


def estimated_joint(labels: Codes, confident: Codes, classes: int) -> Probabilities:
    """(k, k) faces by label and probable class: the confident joint, each row scaled to the faces with the label (eq. 3).

    A label with no confident face stays on the diagonal.
    """
    sure = confident >= 0
    joint = np.bincount(labels[sure] * classes + confident[sure], minlength=classes**2).reshape(classes, classes).astype(np.float64)
    empty = joint.sum(1) == 0
    joint[empty, empty] = 1.0
    scaled: Probabilities = joint / joint.sum(1, keepdims=True) * np.bincount(labels, minlength=classes)[:, None]
    return scaled
