import numpy as np
import pytest

from affectnet.cleaning.va_rules import contradicts
from affectnet.expressions import CODES

# (expression, valence, arousal, whether EmoNet's loader drops it): one case on each side of every rule.
CASES = [
    ("Neutral", 0.1, 0.1, False), ("Neutral", 0.2, 0.0, True),
    ("Happy", 0.3, -0.2, False), ("Happy", -0.3, 0.2, True), ("Happy", 0.1, 0.1, True),
    ("Sad", -0.5, 0.1, False), ("Sad", 0.1, -0.5, True),
    ("Surprise", 0.0, 0.5, False), ("Surprise", 0.5, -0.1, True),
    ("Fear", 0.0, 0.5, False), ("Fear", 0.2, 0.5, True), ("Fear", -0.5, -0.1, True),
    ("Disgust", -0.31, 0.0, False), ("Disgust", -0.25, 0.1, True), ("Disgust", 0.5, 0.5, True),
    ("Anger", 0.3, 0.1, False), ("Anger", -0.5, 0.0, True),
    ("Contempt", -0.3, 0.3, False), ("Contempt", 0.0, 0.5, True),
    ("Happy", float("nan"), 0.0, False),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "valence", "arousal", "dropped"), CASES)
def test_rules_are_those_of_the_released_loader(expression: str, valence: float, arousal: float, dropped: bool) -> None:
    contradicting = contradicts(np.array([CODES[expression]]), np.array([valence], np.float32), np.array([arousal], np.float32))
    assert contradicting.tolist() == [dropped]
