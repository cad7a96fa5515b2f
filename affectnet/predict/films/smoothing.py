"""Predictions for a face of a film, smoothed over time."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from affectnet.predict.predictor import Face

LEAST_PROBABILITY = 1e-6
"""Smaller probabilities count as this in their logarithm."""


class Smoother:
    """Exponential smoothing per track, in time: an answer counts e times less after each time constant.

    Log-probabilities are averaged, and the result is normalised, which is softmax of the averaged logits; and valence and arousal.
    """

    def __init__(self, constant: float) -> None:
        """constant: seconds."""
        self.constant = constant
        self.states: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def smooth(self, number: int, seconds: float, face: Face) -> Face:
        """The next face of a track."""
        affect = [] if face.valence is None or face.arousal is None else [face.valence, face.arousal]
        values = np.array([*(math.log(max(p, LEAST_PROBABILITY)) for p in face.probabilities.values()), *affect])
        if number in self.states:
            before, state = self.states[number]
            values = state + (1 - math.exp(min(0.0, before - seconds) / self.constant)) * (values - state)
        self.states[number] = (seconds, values)
        count = len(face.probabilities)
        shares = np.exp(values[:count])
        probabilities = dict(zip(face.probabilities, (shares / shares.sum()).tolist(), strict=True))
        valence, arousal = values[count:].tolist() if affect else (None, None)
        expression = max(probabilities, key=probabilities.__getitem__) if probabilities else None
        return replace(face, expression=expression, probabilities=probabilities, valence=valence, arousal=arousal)
