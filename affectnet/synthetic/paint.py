"""Paints a face with Pillow: skin, hair, eyes, brows, nose, mouth, back to front."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from affectnet.synthetic.face import Curve, Face, surface_depth
from affectnet.synthetic.look import Colour, Look, mix

Project = Callable[[Curve], NDArray[np.float64]]
"""(n, 3) face units → (n, 2) px of the canvas."""

BLACK, WHITE, RED = (20, 16, 18), (250, 248, 245), (190, 70, 75)


class Painter:
    """Paints one face on a canvas. `unit` is the length of a face unit in px."""

    def __init__(self, canvas: Image.Image, face: Face, look: Look, project: Project, unit: float) -> None:
        self.draw = ImageDraw.Draw(canvas)
        self.face, self.look, self.project, self.unit = face, look, project, unit
        self.fold = mix(look.skin, (70, 30, 25), 0.38)
        self.shade = mix(look.skin, (90, 40, 35), 0.18)

    def polygon(self, points: Curve, colour: Colour) -> None:
        self.draw.polygon([(float(x), float(y)) for x, y in self.project(points)], fill=colour)

    def line(self, points: Curve, width: float, colour: Colour) -> None:
        """A stroke with round ends; width in face units."""
        px = self.project(points)
        thick = max(1, round(width * self.unit))
        self.draw.line([(float(x), float(y)) for x, y in px], fill=colour, width=thick, joint="curve")
        if thick > 2:
            for x, y in (px[0], px[-1]):
                self.draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=colour)

    def disc(self, centre: Curve, radius: float, colour: Colour, squash: float = 1.0) -> None:
        """An ellipse around a point; radius in face units, `squash`: height divided by width."""
        ((x, y),) = self.project(centre)
        across, down = radius * self.unit, radius * squash * self.unit
        self.draw.ellipse((x - across, y - down, x + across, y + down), fill=colour)

    def body(self) -> None:
        """Shoulders and neck; they do not turn with the head."""
        skin, clothes = self.shade, self.look.clothes
        ((x, y),) = self.project(np.array([[0.0, 0.9, -0.3]]))
        u = self.unit
        self.draw.rounded_rectangle((x - 1.75 * u, y + 0.75 * u, x + 1.75 * u, y + 4.5 * u), radius=0.8 * u, fill=clothes)
        self.draw.ellipse((x - 0.62 * u, y + 0.45 * u, x + 0.62 * u, y + 1.15 * u), fill=mix(clothes, BLACK, 0.25))
        self.draw.rounded_rectangle((x - 0.48 * u, y - 0.6 * u, x + 0.48 * u, y + 0.98 * u), radius=0.35 * u, fill=skin)

    def head(self) -> None:
        for side in (-1, 1):
            ear = np.array([[side * self.face.identity.width * 0.99, 0.05, -0.05]])
            self.disc(ear, 0.15, self.shade, 1.6)
        self.polygon(self.face.outline, self.look.skin)

    def skin(self) -> None:
        """Cheeks, freckles, and the folds of action units and age."""
        actions, look = self.face.actions, self.look
        smile = max(actions["AU12L"], actions["AU12R"])
        for side in (-1, 1):
            self.disc(self._on(side * 0.52, 0.38 - 0.06 * actions["AU6"]), 0.17, mix(look.skin, RED, 0.10 + 0.10 * actions["AU6"]), 0.75)
        self._freckles()
        corners = self.face.lips[0][[0, -1]]
        for side, corner, suffix in ((-1, corners[0], "L"), (1, corners[1], "R")):
            fold = 0.25 * look.age + 0.8 * actions[f"AU12{suffix}"] + 0.9 * actions["AU10"] + 0.5 * actions["AU9"]
            if fold > 0.25:
                wing = self.face.nose_base[0 if side < 0 else -1]
                bend = np.array([side * 0.10, -0.03])
                self._fold(
                    np.array([wing[:2] + (side * 0.05, -0.02), (wing[:2] + corner[:2]) / 2 + bend, corner[:2] + (side * 0.08, 0.0)]),
                    0.012 + 0.014 * min(fold, 1),
                )
            if actions[f"AU14{suffix}"] > 0.25:
                x, y = corner[:2]
                self._fold(np.array([(x + side * 0.04, y - 0.10), (x + side * 0.09, y - 0.01), (x + side * 0.05, y + 0.08)]), 0.03)
            if actions["AU6"] > 0.35 and smile > 0.3:
                x = side * (self.face.identity.eye_distance + self.face.identity.eye_width)
                for rise in (-0.06, 0.0, 0.06):
                    self._fold(np.array([(x + side * 0.04, rise * 0.4), (x + side * 0.13, rise * 1.5)]), 0.012)
                self._fold(np.array([(side * 0.27, 0.15), (side * 0.42, 0.185), (side * 0.56, 0.14)]), 0.014)
            if actions["AU15"] > 0.35:
                x, y = corner[:2]
                self._fold(np.array([(x + side * 0.02, y + 0.02), (x + side * 0.05, y + 0.12)]), 0.016)
        self._brow_folds()

    def _brow_folds(self) -> None:
        actions, look = self.face.actions, self.look
        raised = max(actions["AU1"], 0.5 * actions["AU2L"], 0.5 * actions["AU2R"])
        if raised > 0.35 and look.style not in {"fringe", "scarf", "cap"}:
            reach = 0.5 if actions["AU2L"] + actions["AU2R"] > 0.6 else 0.24
            for level in (-0.68, -0.77):
                x = np.linspace(-reach, reach, 9)
                self._fold(np.column_stack([x, level + 0.03 * np.cos(3 * x) * raised]), 0.008 + 0.006 * raised)
        if actions["AU4"] > 0.3:
            for side in (-1, 1):
                self._fold(np.array([(side * 0.06, -0.42), (side * 0.045, -0.27)]), 0.012 + 0.014 * actions["AU4"])
        if actions["AU9"] > 0.3:
            for level in (-0.12, -0.05, 0.02):
                x = np.linspace(-0.09, 0.09, 5)
                self._fold(np.column_stack([x, level - 0.25 * np.abs(x)]), 0.018)
            for side in (-1, 1):
                self._fold(np.array([(side * 0.10, -0.02), (side * 0.13, 0.10), (side * 0.17, 0.2)]), 0.016)
        if actions["AU17"] > 0.3:
            x = np.linspace(-0.12, 0.12, 7)
            self._fold(np.column_stack([x, self.face.lips[3][12, 1] + 0.09 + 1.5 * x**2]), 0.014)

    def nose(self) -> None:
        base, bridge = self.face.nose_base, self.face.nose_bridge
        self.line(bridge[5:] + (0.045, 0, 0), 0.03, self.shade)
        self.disc(bridge[[-1]] + (0, 0.02, 0.02), 0.075, mix(self.look.skin, WHITE, 0.12), 0.8)
        for side, end in ((-1, 0), (1, 16)):
            wing = base[end] + np.array([(side * 0.01, -0.09, 0), (side * 0.045, -0.03, 0), (side * 0.01, 0.02, 0)])
            self.line(wing, 0.02, self.fold)
            self.disc(base[[8 + side * 4]] + (0, -0.005, 0), 0.036, mix(self.look.skin, BLACK, 0.62), 0.55)
        self.line(base[5:12] + (0, 0.012, 0), 0.014, self.fold)

    def eyes(self, gaze: tuple[float, float]) -> None:
        for upper, lower in self.face.eyes:
            contour = np.concatenate([upper, lower[::-1]])
            centre = contour.mean(0)
            self.line(upper + (0, -0.045, 0), 0.018, self.fold)
            self.polygon(contour, mix(WHITE, self.look.skin, 0.06))
            self._iris(contour, centre, gaze)
            self.line(upper, 0.032, mix(BLACK, self.look.skin, 0.1))
            self.line(lower, 0.010, self.fold)

    def _iris(self, contour: Curve, centre: NDArray[np.float64], gaze: tuple[float, float]) -> None:
        """Iris and pupil, clipped by the lids: painted on a copy and pasted through the mask of the eye."""
        px = self.project(contour)
        low, high = np.floor(px.min(0)).astype(int) - 2, np.ceil(px.max(0)).astype(int) + 2
        image: Image.Image = self.draw._image
        low = np.maximum(low, 0)
        high = np.minimum(high, image.size)
        if (high - low).min() < 2:
            return
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        patch, mask = image.crop(box), Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).polygon([(float(x - low[0]), float(y - low[1])) for x, y in px], fill=255)
        brush = ImageDraw.Draw(patch)
        ((x, y),) = self.project((centre + (0.06 * gaze[0], -0.01 + 0.03 * gaze[1], 0.02))[None]) - low
        for radius, colour in ((0.098, mix(self.look.eye, BLACK, 0.45)), (0.086, self.look.eye), (0.044, BLACK)):
            r = radius * self.unit
            brush.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        r = 0.022 * self.unit
        brush.ellipse((x - 2.2 * r, y - 2.4 * r, x - 0.2 * r, y - 0.4 * r), fill=WHITE)
        image.paste(patch, box[:2], mask)

    def brows(self) -> None:
        colour = mix(self.look.hair if self.look.hair[0] < 200 else (150, 140, 130), BLACK, 0.25)
        thickness = self.face.identity.brow_thickness
        for brow, inner in ((self.face.brows[0], -1), (self.face.brows[1], 0)):
            taper = thickness * (0.55 + 0.45 * np.linspace(1, 0, len(brow)) ** 0.7)
            taper = taper if inner == 0 else taper[::-1]
            down = np.column_stack([np.zeros(len(brow)), taper, np.zeros(len(brow))])
            self.polygon(np.concatenate([brow - down / 2, (brow + down / 2)[::-1]]), colour)

    def mouth(self) -> None:
        look, actions = self.look, self.face.actions
        upper_out, upper_in, lower_in, lower_out = self.face.lips
        lip = mix(mix(look.skin, (170, 60, 65), 0.42), (175, 25, 50), look.lipstick)
        gap = float((lower_in - upper_in)[12, 1])
        if gap > 0.02:
            self.polygon(np.concatenate([upper_in, lower_in[::-1]]), (72, 20, 26))
            self._teeth(upper_in, lower_in, gap)
        self.polygon(np.concatenate([upper_out, upper_in[::-1]]), mix(lip, BLACK, 0.12))
        self.polygon(np.concatenate([lower_in, lower_out[::-1]]), lip)
        self.line(lower_out[7:18] + (0, 0.03, 0), 0.014, self.shade)
        if gap <= 0.02:
            self.line(upper_in, 0.016 + 0.012 * actions["AU24"], mix(lip, BLACK, 0.6))
        for corner, suffix in ((upper_in[0], "L"), (upper_in[-1], "R")):
            depth = 0.02 + 0.02 * (actions[f"AU12{suffix}"] + actions[f"AU14{suffix}"])
            self.disc(corner[None], depth, mix(lip, BLACK, 0.5))

    def _teeth(self, upper_in: Curve, lower_in: Curve, gap: float) -> None:
        actions = self.face.actions
        shown = 0.75 if max(actions["AU12L"], actions["AU20"], actions["AU10"]) > 0.35 else 0.22
        depth = min(0.11, shown * gap)
        inside = slice(3, 22)
        edge = upper_in[inside] + np.column_stack([np.zeros(19), np.minimum(depth, (lower_in - upper_in)[inside, 1] * 0.85), np.zeros(19)])
        self.polygon(np.concatenate([upper_in[inside], edge[::-1]]), (244, 240, 232))
        if actions["AU27"] + actions["AU26"] > 0.5:
            tongue = lower_in[6:19]
            self.polygon(
                np.concatenate([tongue - (0, 0.25 * gap, 0) * np.sin(np.linspace(0, np.pi, 13))[:, None], tongue[::-1]]), (180, 85, 90)
            )

    def _freckles(self) -> None:
        points = np.random.default_rng(self.look.freckles).normal(0, 1, (self.look.freckles, 2)) * (0.38, 0.09) + (0, 0.25)
        for x, y in points:
            self.disc(self._on(float(x), float(y)), 0.014, self.shade)

    def _fold(self, points: NDArray[np.float64], width: float) -> None:
        self.line(np.column_stack([points, surface_depth(points) + 0.01]), width, self.fold)

    @staticmethod
    def _on(x: float, y: float) -> Curve:
        point = np.array([[x, y]])
        return np.column_stack([point, surface_depth(point)])
