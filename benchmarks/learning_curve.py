"""Where a score would go with more epochs: a power law through trainings that each had a schedule of their own.

`python -m benchmarks.learning_curve --deviation 0.006 --to 120 240 -- 6=0.517 12=0.565 24=0.613 48=0.646`: the epochs and scores that
were measured, the seeds' standard deviation, and the epochs to extrapolate to. A second.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

FITS = 300
"""To the points, each moved by a normal draw of the seeds' deviation: what the intervals are taken from."""

Numbers = NDArray[np.float64]


def curve(fitted: Numbers, epochs: Numbers) -> Numbers:
    """a − b · (epochs / 12)^(−c); fitted: (3,), a and b as shares of 1."""
    a, b, c = fitted
    found: Numbers = a - b * (epochs / 12) ** -c
    return found


def fit(epochs: Numbers, scores: Numbers) -> Numbers:
    """The closest curve of three starts, by least squares; (3,)."""
    found = [
        least_squares(lambda x: curve(x, epochs) - scores, (0.7, 0.1, start), bounds=([0, 0, 0.01], [1, 2, 4])) for start in (0.1, 0.5, 1)
    ]
    best: Numbers = min(found, key=lambda one: one.cost).x
    return best


def extrapolated(epochs: Numbers, scores: Numbers, deviation: float, to: Numbers) -> tuple[Numbers, Numbers]:
    """The curve's score at each of the epochs `to`, (n,), and between what 95 % of the moved fits lie, (2, n)."""
    draws = np.random.default_rng(0)
    moved = [curve(fit(epochs, scores + draws.normal(0, deviation, len(scores))), to) for _ in range(FITS)]
    return curve(fit(epochs, scores), to), np.percentile(moved, [2.5, 97.5], axis=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Where a score would go with more epochs.")
    parser.add_argument("points", nargs="+", metavar="EPOCHS=SCORE", help="at least four")
    parser.add_argument("--deviation", type=float, required=True, help="of the seeds")
    parser.add_argument("--to", type=float, nargs="+", required=True, metavar="EPOCHS")
    given = parser.parse_args()
    try:
        points = np.array([[float(number) for number in point.split("=")] for point in given.points])
    except ValueError:
        parser.error("points are EPOCHS=SCORE, as 12=0.565")
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 4 or points.min() <= 0:
        parser.error("at least four points EPOCHS=SCORE above 0: the curve has three parameters")
    found, (low, high) = extrapolated(points[:, 0], points[:, 1], given.deviation, np.array(given.to))
    for row in zip(given.to, found, low, high, strict=True):
        print("{:g} epochs: {:.3f} ({:.3f} – {:.3f})".format(*row))
