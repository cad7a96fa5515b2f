"""Which labels are probably wrong, from out-of-fold probabilities: confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """The labels of n faces. suggested: (n,) most probable codes; confidence, suggested_confidence: (n,) of label and suggestion.

    is_issue: (n,) whether the label is probably wrong; rank: (n,) from 1, the most doubtful label; joint: (k, k) faces by label and by
    the expression that they probably show, estimated.
    """

    suggested: Codes
    confidence: Probabilities
    suggested_confidence: Probabilities
    is_issue: NDArray[np.bool_]
    rank: Codes
    joint: Probabilities

    def doubtful(self, confidence: float) -> NDArray[np.bool_]:
        """(n,) the issues that `clean.label_issues` uses, those of at most this `clean.label_confidence`."""
        return self.is_issue & (self.confidence <= confidence)


def judge(labels: Codes, probabilities: Probabilities) -> Judgement:
    """The judgement of (n,) labels 0 … k−1 from (n, k) probabilities of networks that were not trained on the face.

    A face is an issue when it counts off the diagonal of the confident joint, that is when its probability of another class reaches
    the mean of the faces with that label, and its most probable class is not the label either. All faces are ranked by the probability
    of their label (docs/experiments.md compares).
    """
    rows = np.arange(len(labels))
    confident = confident_classes(probabilities, class_thresholds(labels, probabilities))
    suggested = probabilities.argmax(1)
    confidence = probabilities[rows, labels]
    is_issue = (confident >= 0) & (confident != labels) & (suggested != labels)
    rank = np.empty(len(labels), np.int64)
    rank[np.argsort(confidence, kind="stable")] = rows + 1
    joint = estimated_joint(labels, confident, probabilities.shape[1])
    return Judgement(suggested, confidence, probabilities[rows, suggested], is_issue, rank, joint)


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
