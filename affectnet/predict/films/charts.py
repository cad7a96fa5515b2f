"""The charts of a timeline as SVG without text, stretched to any width, and their axes as HTML."""

from collections.abc import Sequence
from html import escape

import numpy as np

from affectnet.predict.colours import UNNAMED, colours_of
from affectnet.predict.films.curves import Values

Pieces = Sequence[tuple[Values, Values]]
"""Seconds and values of the parts of a curve."""

COLUMNS, HEIGHT = 720, 100
"""Width and height of a chart in its own units."""

TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
MOST_TICKS, FEW_TICKS = 7, 4

LAST_TICK = ' class="end"'

LAST = "Neutral"
"""On top of the other expressions."""


def stacked(labels: Sequence[str]) -> list[str]:
    """The labels from the bottom to the top of a chart."""
    return sorted(labels, key=lambda name: name == LAST)


def css_class(labels: Sequence[str], label: str) -> str:
    """The class of what has a label's colour: a label need not be a name in CSS."""
    return f"label{labels.index(label)}"


def colour_rules(labels: Sequence[str]) -> str:
    """The fill of each label's class, as CSS."""
    colours = {css_class(labels, label): colour for label, colour in colours_of(labels).items()}
    return "".join(f".{name}{{fill:{colour};background:{colour}}}" for name, colour in {**colours, "unnamed": UNNAMED}.items())


def areas(pieces: Pieces, across: tuple[float, float], labels: Sequence[str]) -> str:
    """The probabilities, stacked."""
    names = stacked(labels)
    shapes = [(_x(seconds, across), np.cumsum(values[:, [labels.index(name) for name in names]], 1)) for seconds, values in pieces]
    parts = []
    for at, name in enumerate(names):
        path = ""
        for x, tops in shapes:
            bottom = tops[:, at - 1] if at else np.zeros(len(x))
            path += f"M{_points(x, 1 - tops[:, at])}L{_points(x[::-1], 1 - bottom[::-1])}Z"
        parts.append(f'<path class="{css_class(labels, name)}" d="{path}"><title>{escape(name)}</title></path>')
    return _plot("areas", parts, across, ("1", "0.5", "0"), "Probability of each expression over time")


def lines(pieces: Pieces, across: tuple[float, float]) -> str:
    """Valence and arousal, the last two values, from −1 to 1."""
    parts = [f'<path class="zero" d="M0 {HEIGHT / 2}h{COLUMNS}"/>']
    for at, name in ((-2, "valence"), (-1, "arousal")):
        path = "".join(f"M{_points(_x(seconds, across), (1 - values[:, at]) / 2)}" for seconds, values in pieces)
        parts.append(f'<path class="{name}" d="{path}"><title>{name}</title></path>')
    return _plot("lines", parts, across, ("+1", "0", "−1"), "Valence and arousal over time")


def bar(pieces: Pieces, across: tuple[float, float], labels: Sequence[str]) -> str:
    """The most probable expression over time, by its colour."""
    runs: dict[str, str] = {}
    for seconds, values in pieces:
        x = _x(seconds, across)
        best = values[:, : len(labels)].argmax(1) if labels else np.zeros(len(x), np.int64)
        edges = np.concatenate([x[:1], (x[2:-1] + x[1:-2]) / 2, x[-1:]])  # each point between the ends stands for half the way to the next
        starts = np.flatnonzero(np.diff(best[1:-1], prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(edges) - 1], strict=True):
            name = css_class(labels, labels[best[start + 1]]) if labels else "unnamed"
            runs[name] = runs.get(name, "") + f"M{edges[start]:.1f} 0H{edges[end]:.1f}V{HEIGHT}H{edges[start]:.1f}Z"
    paths = "".join(f'<path class="{name}" d="{path}"/>' for name, path in runs.items())
    return f'<svg class="bar" viewBox="0 0 {COLUMNS} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{paths}</svg>'


def axis(across: tuple[float, float]) -> str:
    """Times below a chart; where there are more than FEW_TICKS, a narrow page shows every other one."""
    shares = [((tick - across[0]) / (across[1] - across[0]), clock(tick)) for tick in _ticks(across)]
    labels = (f'<span style="left:{share:.2%}"{LAST_TICK * (share > 0.96)}>{time}</span>' for share, time in shares)
    return f'<div class="axis{" many" * (len(shares) > FEW_TICKS)}">{"".join(labels)}</div>'


def clock(seconds: float) -> str:
    """`0:07`, `0:07.5`, `1:02:03`."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{tenths % 10}" if tenths % 10 else ""
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{tenths // 10:02}{fraction}"


def duration(seconds: float) -> str:
    """`7.5 s` below a minute, else as `clock`."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(seconds)} min"


def _x(seconds: Values, across: tuple[float, float]) -> Values:
    return COLUMNS * (seconds - across[0]) / (across[1] - across[0])


def _points(x: Values, down: Values) -> str:
    """Points of a path. down: 0 at the top, 1 at the bottom."""
    return "L".join(f"{a:.1f} {HEIGHT * b:.1f}" for a, b in zip(x.tolist(), down.tolist(), strict=True))


def _ticks(across: tuple[float, float]) -> list[float]:
    """Round times, at most MOST_TICKS."""
    step = next((step for step in TICKS_S if (across[1] - across[0]) / step < MOST_TICKS), TICKS_S[-1])
    first = int(np.ceil(across[0] / step - 1e-6))
    return [number * step for number in range(first, int(np.floor(across[1] / step + 1e-6)) + 1)]


def _plot(kind: str, parts: Sequence[str], across: tuple[float, float], heights: Sequence[str], description: str) -> str:
    grid = "".join(f"M{_x(np.array([tick]), across)[0]:.1f} 0V{HEIGHT}" for tick in _ticks(across))
    labels = "".join(f"<span>{height}</span>" for height in heights)
    return (
        f'<div class="plot {kind}"><div class="heights" aria-hidden="true">{labels}</div>'
        f'<svg viewBox="0 0 {COLUMNS} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{description}">'
        f'{"".join(parts)}<path class="grid" d="{grid}"/></svg></div>'
    )
