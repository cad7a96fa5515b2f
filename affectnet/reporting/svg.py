"""Charts as SVG: confusion matrix, circumplex, curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from affectnet.metrics.classification import Counts

CELL, LEFT, TOP = 56, 110, 84
PANEL, CELLS = 320, 20
PLOT_LEFT, PLOT_TOP, PLOT_BOTTOM = 44, 26, 40
COLOURS = ("#084594", "#999", "#c7702e")
RISEN, FALLEN = (8, 69, 148), (199, 112, 46)
"""The darkest colours of a share that has risen, and of one that has fallen."""


@dataclass(frozen=True)
class Line:
    """One curve: its name for the legend, and its points; `dots`: their radii, in place of a line."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: Sequence[float] = ()


def confusion_svg(counts: Counts, names: Sequence[str], rows: str = "actual", columns: str = "predicted") -> str:
    """The matrix as SVG: a row per actual expression, each cell shaded by its share of the row, with the number of faces and the share.

    rows, columns: titles of the two axes.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cells = [
        [Cell(_shade(share), share > 0.5, str(count), f"{100 * share:.0f} %" if count else "") for count, share in zip(*row, strict=True)]
        for row in zip(counts.tolist(), shares.tolist(), strict=True)
    ]
    return _matrix_svg(names, cells, rows, columns)


def difference_svg(points: NDArray[np.float64], names: Sequence[str]) -> str:
    """The change of each cell of a confusion matrix as SVG. points: (k, k), in points of the actual expression's faces.

    Blue where the share has risen, orange where it has fallen; the darkest cell has changed most, by 5 points at least.
    """
    most = max(float(np.abs(points).max(initial=0)), 5.0)
    cells = [
        [
            Cell(_shade(abs(value) / most, RISEN if value > 0 else FALLEN), abs(value) > most / 2, f"{value:+.1f}" if value else "0")
            for value in row
        ]
        for row in points.round(1).tolist()
    ]
    return _matrix_svg(names, cells, "actual", "predicted")


@dataclass(frozen=True)
class Cell:
    """One cell of a matrix: its shade, whether that is dark, its text, and a smaller one below, if any. A text of 0 is pale."""

    shade: str
    dark: bool
    text: str
    below: str = ""


def _matrix_svg(names: Sequence[str], cells: Sequence[Sequence[Cell]], rows: str, columns: str) -> str:
    side = CELL * len(names)
    extent = f"0 0 {LEFT + side + 40} {TOP + side + 12}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{extent}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT + side / 2}" y="18" text-anchor="middle" fill="#555">{columns}</text>',
        f'<text x="18" y="{TOP + side / 2}" text-anchor="middle" fill="#555" transform="rotate(-90 18 {TOP + side / 2})">{rows}</text>',
    ]
    for row, name in enumerate(map(escape, names)):
        middle = CELL * row + CELL / 2
        parts.append(f'<text x="{LEFT - 8}" y="{TOP + middle + 4}" text-anchor="end">{name}</text>')
        parts.append(f'<text transform="translate({LEFT + middle + 4} {TOP - 8}) rotate(-45)">{name}</text>')
        for column, cell in enumerate(cells[row]):
            x, y = LEFT + CELL * column, TOP + CELL * row
            ink = "#fff" if cell.dark else "#bbb" if cell.text == "0" else "#222"
            parts.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{cell.shade}" stroke="#ddd"/>')
            parts.append(f'<text x="{x + CELL / 2}" y="{y + CELL / 2 + 1}" text-anchor="middle" fill="{ink}">{cell.text}</text>')
            if cell.below:
                parts.append(
                    f'<text x="{x + CELL / 2}" y="{y + CELL / 2 + 17}" text-anchor="middle" font-size="11" fill="{ink}">{cell.below}</text>'
                )
    return "\n".join([*parts, "</svg>", ""])


def circumplex_svg(true: NDArray[np.float64], predicted: NDArray[np.float64]) -> str:
    """The annotated and the predicted test faces, valence across and arousal up (Russell 1980), as SVG.

    true, predicted: (n, 2) in −1 … 1, NaN where not annotated; predicted (n, 0) for a model without them. Cells of 0.1 show
    only counts; the darkest cell of a panel is its fullest.
    """
    annotated = np.isfinite(true).all(1)
    panels = [("annotated", true[annotated])]
    if predicted.shape[1]:
        panels.append(("predicted", predicted[annotated]))
    width = 40 + len(panels) * (PANEL + 60)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {PANEL + 110}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, (title, points) in enumerate(panels):
        parts += _circumplex_panel(60 + number * (PANEL + 60), 40, f"{title}, {len(points):,} faces", points)
    return "\n".join([*parts, "</svg>", ""])


def _circumplex_panel(left: float, top: float, title: str, points: NDArray[np.float64]) -> list[str]:
    edges = np.linspace(-1, 1, CELLS + 1)
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=(edges, edges))[0]
    most = max(counts.max(initial=0), 1)
    side = PANEL / CELLS
    middle = PANEL / 2
    parts = [f'<text x="{left + middle}" y="{top - 14}" text-anchor="middle">{title}</text>']
    for column, row in zip(*np.nonzero(counts), strict=True):
        x, y = left + column * side, top + PANEL - (row + 1) * side
        shade = _shade(np.sqrt(counts[column, row] / most))
        parts.append(f'<rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" fill="{shade}"/>')
    return [*parts, *_circumplex_frame(left, top)]


def _circumplex_frame(left: float, top: float) -> list[str]:
    """The square, the circle and the axes of valence and arousal."""
    middle = PANEL / 2
    return [
        f'<rect x="{left}" y="{top}" width="{PANEL}" height="{PANEL}" fill="none" stroke="#999"/>',
        f'<circle cx="{left + middle}" cy="{top + middle}" r="{middle}" fill="none" stroke="#bbb"/>',
        f'<path d="M{left} {top + middle}h{PANEL}M{left + middle} {top}v{PANEL}" stroke="#bbb"/>',
        *(f'<text x="{left + middle * (1 + v)}" y="{top + PANEL + 18}" text-anchor="middle" fill="#555">{v:+d}</text>' for v in (-1, 1)),
        *(f'<text x="{left - 8}" y="{top + middle * (1 - v) + 5}" text-anchor="end" fill="#555">{v:+d}</text>' for v in (-1, 1)),
        f'<text x="{left + middle}" y="{top + PANEL + 36}" text-anchor="middle" fill="#555">valence</text>',
        f'<text transform="translate({left - 26} {top + middle}) rotate(-90)" text-anchor="middle" fill="#555">arousal</text>',
    ]


def means_svg(points: Sequence[tuple[str, tuple[float, ...], tuple[float, float] | None]]) -> str:
    """Mean valence and arousal per expression as a dot, and the reference, if any, as a ring joined to it, as SVG.

    points: (name, mean, reference), each valence across and arousal up in −1 … 1.
    """
    left, top, middle = 60, 20, PANEL / 2

    def at(values: Sequence[float]) -> tuple[float, float]:
        return left + middle * (1 + values[0]), top + middle * (1 - values[1])

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PANEL + 150} {PANEL + 80}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *_circumplex_frame(left, top),
    ]
    for number, (name, mean, reference) in enumerate(points):
        x, y = at(mean)
        if reference is not None:
            ring_x, ring_y = at(reference)
            parts.append(f'<path d="M{x:.1f} {y:.1f}L{ring_x:.1f} {ring_y:.1f}" stroke="#999"/>')
            parts.append(f'<circle cx="{ring_x:.1f}" cy="{ring_y:.1f}" r="6" fill="none" stroke="#999" stroke-width="2"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[0]}"/>')
        text_y = y + (15 if number % 2 else -6)  # names of neighbours would cover one another
        parts.append(f'<text x="{x + 9:.1f}" y="{text_y:.1f}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def lines_svg(
    lines: Sequence[Line],
    across: tuple[float, float],
    up: tuple[float, float],
    title: str,
    x_label: str,
    plot: tuple[int, int] = (340, 220),
    mark: float | None = None,
) -> str:
    """At most three curves in one frame as SVG. across, up: ranges of the axes; plot: the frame's width and height, px.

    mark: where a dashed line goes up, on the axis across.
    """
    width, height = plot
    left = PLOT_LEFT
    top = PLOT_TOP + (18 if len(lines) > 1 else 0)  # room for the legend

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + width * (x - across[0]) / max(across[1] - across[0], 1e-9),
            top + height * (1 - (y - up[0]) / max(up[1] - up[0], 1e-9)),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 16} {top + height + PLOT_BOTTOM}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{left}" y="16" fill="#222">{title}</text>',
        *_ticks(left, top, plot, across, up),
        f'<text x="{left + width / 2:g}" y="{top + height + 36}" text-anchor="middle" fill="#555">{x_label}</text>',
    ]
    if mark is not None:
        parts.append(f'<path d="M{at(mark, up[0])[0]:.1f} {top}v{height}" stroke="#777" stroke-dasharray="4 4"/>')
    for number, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        positions = [at(x, y) for x, y in line.points]
        radii = [4.0] if len(positions) == 1 and not line.dots else line.dots  # a line of one point would be invisible
        if radii:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{colour}"/>' for (x, y), r in zip(positions, radii, strict=True)
            ]
        elif positions:
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in positions)
            parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>')
        if len(lines) > 1:
            x = left + number * width / len(lines)
            parts.append(f'<rect x="{x:g}" y="25" width="10" height="10" fill="{colour}"/><text x="{x + 15:g}" y="35">{line.name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def rounded_up(value: float) -> float:
    """The end of an axis: the next multiple of a fifth of its power of ten, such as 1.8 for 1.65."""
    if value <= 0:
        return 1.0
    step = 10 ** np.floor(np.log10(value)) / 5
    return float(np.ceil(value / step - 1e-9) * step)


def _ticks(left: float, top: float, plot: tuple[int, int], across: tuple[float, float], up: tuple[float, float]) -> list[str]:
    """The frame, and the ends and middle of each axis; one tick where an axis has no extent."""
    width, height = plot
    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#ddd"/>']
    for share in (0.0, 0.5, 1.0):
        x_value, y_value = (axis[0] + share * (axis[1] - axis[0]) for axis in (across, up))
        if across[0] >= 1 and share == 0.5:  # epochs are whole
            x_value = float(int(x_value))
        x_share = (x_value - across[0]) / max(across[1] - across[0], 1e-9)
        x, y = left + x_share * width, top + (1 - share) * height
        parts.append(f'<path d="M{left} {y:g}h{width}" stroke="#eee"/>')
        if share == 0 or up[1] > up[0]:
            parts.append(f'<text x="{left - 6}" y="{y + 4:g}" text-anchor="end" fill="#555">{y_value:.3g}</text>')
        if share == 0 or across[1] > across[0]:
            parts.append(f'<text x="{x:g}" y="{top + height + 18}" text-anchor="middle" fill="#555">{x_value:.3g}</text>')
    return parts


def _shade(share: float, darkest: tuple[int, int, int] = RISEN) -> str:
    red, green, blue = (round(255 + share * (dark - 255)) for dark in darkest)
    return f"rgb({red},{green},{blue})"
