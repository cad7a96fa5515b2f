"""Predictions and labels of the test split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError
from affectnet.expressions import invalid_labels
from affectnet.metrics import calibration
from affectnet.models.outputs import Outputs


class Predicting(Protocol):
    """What scores need to know of a model: ModelMetadata says it of ours.

    labels: names of the expressions; affect: whether it predicts valence and arousal; temperature: what its logits are divided by;
    training: scores on our validation split, empty for a model that was not trained here.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def affect(self) -> bool: ...
    @property
    def temperature(self) -> float: ...
    @property
    def training(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Predictions:
    """n test faces: names (k,) of the expressions that the model or the faces have; true (n,) positions among them;

    labels: of the codes that tables hold, those of the data set, then those that only the model knows; codes (k,) of the names;
    logits (n, k) float64, −∞ for an expression that the model does not know; true_affect (n, 2), NaN where not annotated;
    affect (n, 2), or (n, 0) for a model without. A model of only valence and arousal has no codes, true (0,) and logits (0, 0).
    ranked: whether the logits are more than one name per face: without, there is no confidence to score.
    """

    metadata: Predicting
    labels: tuple[str, ...]
    codes: NDArray[np.int64]
    true: NDArray[np.int64]
    logits: NDArray[np.float64]
    true_affect: NDArray[np.float64]
    affect: NDArray[np.float64]
    ranked: bool = True

    @classmethod
    def from_outputs(
        cls,
        model: Path | str,
        metadata: Predicting,
        outputs: Outputs,
        labels: Sequence[str],
        expression: NDArray[np.int64],
        true_affect: NDArray[np.float64],
        ranked: bool = True,
    ) -> "Predictions":
        """Joins the model's outputs for n faces and their annotations.

        expression: (n,) codes of the labels; true_affect: (n, 2), NaN where not annotated.
        Errors: UserError when an output is NaN or infinite, or a label of the model is one of these in other letters.
        """
        outputs.require_finite(model)
        labels = (*labels, *(label for label in metadata.labels if label not in labels))
        if problem := invalid_labels(labels):
            raise UserError(f"{model}: its labels and those of the faces, {problem}")
        known = np.array([labels.index(label) for label in metadata.labels], np.int64)
        logits = np.full((len(expression), len(labels)), -np.inf)
        logits[:, known] = outputs.logits
        faces = slice(None) if metadata.labels else slice(0)
        codes = np.union1d(known, expression[faces])
        true = np.searchsorted(codes, expression[faces])
        return cls(metadata, labels, codes, true, logits[faces, codes], true_affect, outputs.affect.astype(np.float64), ranked)

    def __len__(self) -> int:
        return len(self.affect)

    @property
    def names(self) -> list[str]:
        return [self.labels[code] for code in self.codes]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(n, k), calibrated by the model's temperature."""
        return calibration.probabilities(self.logits, self.metadata.temperature)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) positions of the largest logits."""
        return self.logits.argmax(1) if self.logits.size else np.empty(0, np.int64)

    def without(self, name: str) -> "Predictions":
        """The faces of the other expressions, predicted as if the model did not know this one."""
        dropped = self.names.index(name)
        faces = self.true != dropped
        columns = np.arange(len(self.codes)) != dropped
        true = self.true[faces] - (self.true[faces] > dropped)
        affect, true_affect = self.affect[faces], self.true_affect[faces]
        logits = self.logits[faces][:, columns]
        return replace(self, codes=self.codes[columns], true=true, logits=logits, true_affect=true_affect, affect=affect)
