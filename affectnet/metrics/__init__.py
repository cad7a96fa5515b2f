"""Scores of expressions, valence and arousal, with intervals and calibration. `train` and `evaluate` stand on it."""
