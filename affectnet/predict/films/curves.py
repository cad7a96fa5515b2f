"""The predictions for the faces of a film over time, reduced to as many points as a page can show."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectnet.images.crop_policy import Box
from affectnet.images.decode import Pixels
from affectnet.predict.writers import Answer

PORTRAIT_PX, PORTRAIT_MARGIN = 128, 0.25
"""Side of a face's picture, and its margin around the box as a share of the box."""

Values = NDArray[np.float64]


@dataclass(eq=False)
class Curve:
    """One face: the numbers of the frames in which it was detected, the predictions there, and its picture where it was largest.

    predictions: of each frame the probabilities in the model's label order, then valence and arousal if the model has them.
    """

    number: int
    frames: "array[int]" = field(default_factory=lambda: array("l"))
    predictions: "array[float]" = field(default_factory=lambda: array("f"))
    portrait: Pixels | None = None
    area: float = 0.0

    @property
    def values(self) -> Values:
        """(frames, values)."""
        return np.array(self.predictions, np.float64).reshape(len(self.frames), -1)


class FilmCurves:
    """All faces of a film. stated_end: in seconds, as its file states it."""

    def __init__(self) -> None:
        self.stated_end: float | None = None
        self.times = array("d")
        self.curves: dict[int, Curve] = {}

    def add(self, answer: Answer, portraits: Sequence[Pixels]) -> None:
        """The next frame, whose faces are followed."""
        self.times.append(answer.shot.seconds or 0.0)
        for track, face, portrait in zip(answer.tracks or [], answer.faces, portraits, strict=True):
            curve = self.curves.setdefault(track, Curve(track))
            curve.frames.append(len(self.times) - 1)
            curve.predictions.extend([*face.probabilities.values(), *(v for v in (face.valence, face.arousal) if v is not None)])
            left, top, right, bottom = face.box
            if (right - left) * (bottom - top) > curve.area:
                curve.portrait, curve.area = portrait, (right - left) * (bottom - top)

    @property
    def edges(self) -> Values:
        """(frames + 1,) seconds: each frame stands for the time from half way to the one before it to half way to the next.

        The last one stands for as long as the others, and not beyond the film's end.
        """
        times = np.array(self.times)
        last, stated = float(times[-1]), self.stated_end
        step = float(np.median(np.diff(times))) if len(times) > 1 else None
        if stated is not None and stated > last and (step is None or stated < last + step):
            step = stated - last
        return np.concatenate([times[:1], (times[1:] + times[:-1]) / 2, [last + (step or 1.0)]])

    @property
    def across(self) -> tuple[float, float]:
        """First and last second."""
        edges = self.edges
        return float(edges[0]), float(edges[-1])

    def span(self, curve: Curve) -> tuple[float, float]:
        """When the face is seen first and last, in seconds."""
        edges = self.edges
        return float(edges[curve.frames[0]]), float(edges[curve.frames[-1] + 1])

    def seconds_seen(self, curve: Curve) -> float:
        return float(self._seconds(curve).sum())

    def durations(self, curve: Curve) -> Values:
        """(frames of the curve,) share of the time in which the face was seen, for which each of its frames stands."""
        seconds = self._seconds(curve)
        shares: Values = seconds / seconds.sum()
        return shares

    def _seconds(self, curve: Curve) -> Values:
        frames, edges = np.array(curve.frames), self.edges
        seconds: Values = edges[frames + 1] - edges[frames]
        return seconds

    def pieces(self, curve: Curve, across: tuple[float, float], columns: int) -> list[tuple[Values, Values]]:
        """The curve in pieces between which the face was not seen: (points,) seconds and (points, values).

        Points are means over the frames of a column; across: the seconds that all columns together show. A gap that is narrower than a
        column is closed, so that there are at most three points per column, however long the film is.
        """
        width = (across[1] - across[0]) / columns
        frames, edges, times, values = np.array(curve.frames), self.edges, np.array(self.times), curve.values
        gaps = np.flatnonzero((np.diff(frames) > 1) & (edges[frames[1:]] - edges[frames[:-1] + 1] > width)) + 1
        pieces = []
        for piece in np.split(np.arange(len(frames)), gaps):
            seen = frames[piece]
            column = np.floor((times[seen] - across[0]) / width)
            starts = np.flatnonzero(np.diff(column, prepend=np.nan))
            counts = np.diff(np.append(starts, len(piece)))
            at = np.add.reduceat(times[seen], starts) / counts
            means = np.add.reduceat(values[piece], starts) / counts[:, None]
            ends = edges[seen[0]], edges[seen[-1] + 1]
            pieces.append((np.concatenate([ends[:1], at, ends[1:]]), np.concatenate([means[:1], means, means[-1:]])))
        return pieces


def portrait(frame: Pixels, box: Box) -> Pixels:
    """(PORTRAIT_PX, PORTRAIT_PX, 3) uint8: a square around the face; outside of the frame black."""
    height, width = frame.shape[:2]
    side = max(1, round((1 + 2 * PORTRAIT_MARGIN) * max(box[2] - box[0], box[3] - box[1])))
    left, top = round((box[0] + box[2] - side) / 2), round((box[1] + box[3] - side) / 2)
    part = frame[max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
    square = Image.new("RGB", (side, side))
    square.paste(Image.fromarray(np.ascontiguousarray(part)), (max(0, -left), max(0, -top)))
    return np.asarray(square.resize((PORTRAIT_PX, PORTRAIT_PX), Image.Resampling.BICUBIC, reducing_gap=2.0))
