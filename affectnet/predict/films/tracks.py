"""Faces followed from frame to frame of a film."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectnet.images.crop_policy import Box
from affectnet.images.decode import Pixels
from affectnet.predict.films.smoothing import Smoother
from affectnet.predict.writers import Answer

BRIDGE_S = 2.0
"""A face that was not detected for longer gets a new number when it comes back."""

BRIDGE_STEPS = 1.5
"""The same in times between two frames, where these are far apart; more than 1, because a frame may come a little late."""

BUFFER, LEAST_IOU = 0.5, 0.1
"""Boxes are compared after each grows by this share of its width and height on all sides, so that a face that moved by more than its

own width between two frames still overlaps with where it was (buffered IoU, Yang et al. 2023). A smaller IoU is another face."""

VELOCITY_S, FADING_S = 0.15, 0.5
"""Time constants: over which a face's velocity is averaged, and in which its motion fades while it is not detected."""

SHORTEST_S = 0.001
"""Between two frames; some files state the same time twice."""

SIDE, SHIFT = 16, 3
"""Of a look: its side in px, and its largest displacement between two frames."""

CHANGED, CUT = 0.4, 0.68
"""A cut lies between two looks when this share of their px differs by at least so much; measured in docs/log.md."""

LEAST_CONTRAST, SMALL_PART = 6.0, 4
"""Contrast in grey levels below which differences do not grow, and how much finer than a look a frame is sampled for it."""

Look = NDArray[np.float64]
"""What a frame looks like as a whole: (SIDE, SIDE, 3), 0 … 255."""


def look(frame: Pixels) -> Look:
    """frame: (h, w, 3) RGB uint8."""
    step = max(1, min(frame.shape[:2]) // (SMALL_PART * SIDE))
    small = Image.fromarray(np.ascontiguousarray(frame[::step, ::step])).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float64)


def difference(one: Look, other: Look) -> float:
    """0 for the same picture; about 1 for an entirely different one.

    The pictures are displaced to where their grey values correlate best, which undoes the motion of the camera, and their brightness and
    contrast are made equal. The result is the difference that the share CHANGED of the px reaches, as a share of the contrast: what moves
    through a part of the picture does not count.
    """
    shifts = range(-SHIFT, SHIFT + 1)
    pairs = [_overlapping(one, other, down, right) for down in shifts for right in shifts]
    here, there = max(pairs, key=lambda pair: _correlation(pair[0].mean(2), pair[1].mean(2)))
    here, there = here - np.median(here.mean(2)), there - np.median(there.mean(2))
    spread, other_spread = (float(np.abs(part.mean(2)).mean()) for part in (here, there))
    there = there * min(2.0, max(0.5, (spread + LEAST_CONTRAST) / (other_spread + LEAST_CONTRAST)))
    contrast = (float(np.abs(here).mean()) + float(np.abs(there).mean())) / 2
    return float(np.quantile(np.abs(here - there).mean(2), 1 - CHANGED)) / (contrast + LEAST_CONTRAST)


def _overlapping(one: Look, other: Look, down: int, right: int) -> tuple[Look, Look]:
    """The parts that overlap when the other is displaced."""
    here = one[max(0, down) : SIDE + min(0, down), max(0, right) : SIDE + min(0, right)]
    there = other[max(0, -down) : SIDE + min(0, -down), max(0, -right) : SIDE + min(0, -right)]
    return here, there


def _correlation(one: Look, other: Look) -> float:
    one, other = one - one.mean(), other - other.mean()
    spread = float((one * one).mean() * (other * other).mean())
    return float((one * other).mean()) / math.sqrt(spread) if spread > 1 else 0.0


@dataclass
class Track:
    """One face: its last box, when it was detected last, and the velocity of its centre in px per second."""

    number: int
    box: Box
    seconds: float
    velocity: tuple[float, float] = (0.0, 0.0)

    def expected(self, seconds: float) -> Box:
        """The box at a later time: the last one, moved on with a velocity that fades."""
        moved = FADING_S * (1 - math.exp((self.seconds - seconds) / FADING_S))
        x, y = self.velocity[0] * moved, self.velocity[1] * moved
        left, top, right, bottom = self.box
        return left + x, top + y, right + x, bottom + y

    def update(self, box: Box, seconds: float) -> None:
        passed = max(seconds - self.seconds, SHORTEST_S)
        weight = 1 - math.exp(-passed / VELOCITY_S)
        seen = ((box[0] + box[2] - self.box[0] - self.box[2]) / 2 / passed, (box[1] + box[3] - self.box[1] - self.box[3]) / 2 / passed)
        x, y = (old + weight * (new - old) for old, new in zip(self.velocity, seen, strict=True))
        self.box, self.seconds, self.velocity = box, seconds, (x, y)


class Tracker:
    """Numbers the faces of one film from 1 in the order of their appearance; a face keeps its number from frame to frame.

    Faces are assigned to tracks one pair at a time, the pair of the largest IoU first. Faces rarely overlap, so that this differs from
    the optimal assignment in few frames (measured in docs/log.md).
    """

    def __init__(self, every: float = 0.0) -> None:
        """every: seconds between two frames."""
        self.bridge_s = max(BRIDGE_S, BRIDGE_STEPS * every)
        self.tracks: list[Track] = []
        self.last = 0
        self.seen: Look | None = None

    def follow(self, seconds: float, shown: Look, boxes: Sequence[Box]) -> list[int]:
        """The number of each face of the next frame. A cut ends all tracks, and bridge_s seconds without a detection end one."""
        cut = self.seen is not None and difference(self.seen, shown) >= CUT
        self.seen = shown
        self.tracks = [] if cut else [track for track in self.tracks if seconds - track.seconds <= self.bridge_s]
        assigned = _assign([track.expected(seconds) for track in self.tracks], boxes)
        numbers = []
        for at, box in enumerate(boxes):
            if at in assigned:
                track = self.tracks[assigned[at]]
                track.update(box, seconds)
            else:
                self.last += 1
                track = Track(self.last, box, seconds)
                self.tracks.append(track)
            numbers.append(track.number)
        return numbers


def _assign(expected: Sequence[Box], boxes: Sequence[Box]) -> dict[int, int]:
    """Position of a box → position of its track; without the boxes of new faces."""
    overlaps = [(iou(_grown(one), _grown(other)), track, at) for track, one in enumerate(expected) for at, other in enumerate(boxes)]
    assigned: dict[int, int] = {}
    taken = set[int]()
    for overlap, track, at in sorted(overlaps, reverse=True):
        if overlap >= LEAST_IOU and at not in assigned and track not in taken:
            assigned[at] = track
            taken.add(track)
    return assigned


def _grown(box: Box) -> Box:
    left, top, right, bottom = box
    x, y = BUFFER * (right - left), BUFFER * (bottom - top)
    return left - x, top - y, right + x, bottom + y


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0


class Follower:
    """Follows the faces of one film after another."""

    def __init__(self, smooth: float | None, every: float = 0.0) -> None:
        """smooth: time constant in seconds over which predictions are averaged, None or 0 for the predictions of each frame.

        every: seconds between two frames.
        """
        self.smooth, self.every = smooth, every
        self.next_film()

    def next_film(self) -> None:
        self.tracker = Tracker(self.every)
        self.smoother = Smoother(self.smooth) if self.smooth else None

    def follow(self, answer: Answer, shown: Look) -> Answer:
        """The answer for the next frame, with the number of each face, and smoothed predictions."""
        seconds = answer.shot.seconds or 0.0
        tracks = self.tracker.follow(seconds, shown, [face.box for face in answer.faces])
        faces = answer.faces
        if self.smoother is not None:
            faces = [self.smoother.smooth(track, seconds, face) for track, face in zip(tracks, faces, strict=True)]
        return replace(answer, faces=faces, tracks=tracks)
