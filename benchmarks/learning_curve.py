"""A score extrapolated to more epochs: a power law through trainings with a complete schedule each.

`python -m benchmarks.learning_curve --deviation 0.006 --to 120 240 -- 6=0.517 12=0.565 24=0.613 48=0.646`: the measured
epochs and scores, the standard deviation over seeds, and the epochs to extrapolate to. Takes a second.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

FITS = 300
"""Fits to the points plus normal noise of the seeds' deviation, from which the intervals are taken."""

Numbers = NDArray[np.float64]


def curve(fitted: Numbers, epochs: Numbers) -> Numbers:
    """a − b · (epochs / 12)^(−c); fitted: (3,), a and b as shares of 1."""
    a, b, c = fitted
    scores: Numbers = a - b * (epochs / 12) ** -c
    return scores


def fit(epochs: Numbers, scores: Numbers) -> Numbers:
    """(3,) of the best of three least-squares fits."""
    fits = [
        least_squares(lambda x: curve(x, epochs) - scores, (0.7, 0.1, start), bounds=([0, 0, 0.01], [1, 2, 4])) for start in (0.1, 0.5, 1)
    ]
    best: Numbers = min(fits, key=lambda one: one.cost).x
    return best


def extrapolated(epochs: Numbers, scores: Numbers, deviation: float, to: Numbers) -> tuple[Numbers, Numbers]:
    """The curve's score at each of the epochs `to`, (n,), and its 95 % interval over the noisy fits, (2, n)."""
    draws = np.random.default_rng(0)
    moved = [curve(fit(epochs, scores + draws.normal(0, deviation, len(scores))), to) for _ in range(FITS)]
    return curve(fit(epochs, scores), to), np.percentile(moved, [2.5, 97.5], axis=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Extrapolates a score to more epochs.")
    parser.add_argument("points", nargs="+", metavar="EPOCHS=SCORE", help="at least four")
    parser.add_argument("--deviation", type=float, required=True, help="of the seeds")
    parser.add_argument("--to", type=float, nargs="+", required=True, metavar="EPOCHS")
    options = parser.parse_args()
    try:
        points = np.array([[float(number) for number in point.split("=")] for point in options.points])
    except ValueError:
        parser.error("points are EPOCHS=SCORE, such as 12=0.565")
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 4 or points.min() <= 0:
        parser.error("at least four points EPOCHS=SCORE above 0: the curve has three parameters")
    scores, (low, high) = extrapolated(points[:, 0], points[:, 1], options.deviation, np.array(options.to))
    for row in zip(options.to, scores, low, high, strict=True):
        print("{:g} epochs: {:.3f} ({:.3f} – {:.3f})".format(*row))
