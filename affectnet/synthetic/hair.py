"""Hair, beards, glasses and headwear, painted around a face."""

import numpy as np

from affectnet.synthetic.face import Curve, surface_depth
from affectnet.synthetic.look import mix
from affectnet.synthetic.paint import BLACK, Painter

CROWN = np.linspace(np.pi, 0, 40)


def _crown(painter: Painter, grow: float, depth: float, start: float = -0.12) -> Curve:
    """The top of the head from the left to the right temple, grown outwards."""
    width = painter.face.identity.width
    x, y = (width + grow) * np.cos(CROWN), start - (1.08 + grow) * np.sin(CROWN)
    return np.column_stack([x, y, np.full(len(x), depth)])


def _hairline(painter: Painter, height: float, part: float = 0.0, sides: float = 0.1) -> Curve:
    """From the right to the left temple over the forehead, at `height` in the middle."""
    width = painter.face.identity.width
    t = np.linspace(1, -1, 33)
    arch = (1 - np.abs(t - part * (1 - np.abs(t))) ** 2.6).clip(0, 1)
    points = np.column_stack([t * width * 0.985, sides + (height - sides) * arch])
    return np.column_stack([points, surface_depth(points) * (1 - np.abs(t) ** 4)])


def behind(painter: Painter) -> None:
    """The parts behind the head: long hair, volume, a bun, the fall of a scarf."""
    look = painter.look
    dark = mix(look.hair, BLACK, 0.3)
    volume, width = look.volume, painter.face.identity.width
    if look.style in {"long", "bob", "fringe"}:
        length = {"long": 2.1, "bob": 0.95, "fringe": 1.5}[look.style]
        crown = _crown(painter, 0.20 * volume, -0.35)
        side = (width + 0.24 * volume) * np.array([1.0, 1.06, 0.98, -0.98, -1.06, -1.0])
        down = np.column_stack([side, [0.3, length * 0.7, length, length, length * 0.7, 0.3], np.full(6, -0.35)])
        painter.polygon(np.concatenate([crown, down]), dark)
    elif look.style in {"curly", "afro"}:
        grow = (0.34 if look.style == "afro" else 0.2) * volume
        for angle in np.linspace(-0.25 * np.pi, 1.25 * np.pi, 26):
            centre = np.array([[(width + grow * 0.6) * np.cos(angle), -0.25 - (1.0 + grow * 0.6) * np.sin(angle), -0.3]])
            painter.disc(centre, 0.16 + grow * 0.6, dark)
    elif look.style == "bun":
        painter.disc(np.array([[0.1 * look.part, -1.38, -0.4]]), 0.34 * volume, dark)
        painter.polygon(_crown(painter, 0.10, -0.3, 0.1), dark)
    elif look.style == "scarf":
        crown = _crown(painter, 0.22, -0.2)
        fall = np.array(
            [[width + 0.2, 1.0, -0.2], [0.9, 1.7, -0.2], [1.3, 2.6, -0.2], [-1.3, 2.6, -0.2], [-0.9, 1.7, -0.2], [-width - 0.2, 1.0, -0.2]]
        )
        painter.polygon(np.concatenate([crown, fall]), mix(look.cover, BLACK, 0.25))
    elif look.style not in {"bald", "cap"}:
        painter.polygon(_crown(painter, 0.12 * volume, -0.2), dark)


def front(painter: Painter) -> None:
    """The parts in front of the forehead."""
    look, style = painter.look, painter.look.style
    if style == "bald":
        return
    if style == "cap":
        painter.polygon(np.concatenate([_crown(painter, 0.12, 0.1), _hairline(painter, -0.72, sides=-0.3)]), look.cover)
        brim = _hairline(painter, -0.66, sides=-0.42)[4:-4]
        painter.line(brim, 0.14, mix(look.cover, BLACK, 0.25))
        return
    if style == "scarf":
        painter.polygon(np.concatenate([_crown(painter, 0.2, 0.05), _hairline(painter, -0.80, sides=0.5)]), look.cover)
        jaw = painter.face.jaw
        painter.polygon(np.concatenate([jaw * (1.2, 1.12, 1), (jaw * (0.97, 0.985, 1))[::-1]]), look.cover)
        return
    height = {
        "short": -0.84,
        "parted": -0.86,
        "long": -0.88,
        "bob": -0.84,
        "curly": -0.8,
        "afro": -0.84,
        "bun": -0.86,
        "fringe": -0.60,
        "buzz": -0.86,
    }[style]
    part = look.part if style in {"parted", "long", "bob"} else 0.0
    grow = {"buzz": 0.03, "afro": 0.22, "curly": 0.16, "bun": 0.06}.get(style, 0.13) * look.volume
    sides = 0.35 if style in {"long", "bob", "fringe"} else -0.02
    painter.polygon(np.concatenate([_crown(painter, grow, 0.0), _hairline(painter, height, part, sides)]), look.hair)
    if style in {"curly", "afro"}:
        for point in _hairline(painter, height + 0.02, 0.0, -0.1)[2:-2:2]:
            painter.disc(point[None] + (0, -0.06, 0), 0.15 * look.volume, look.hair)
    shine = _hairline(painter, height - 0.16, part, sides)[6:-6]
    painter.line(shine * (0.9, 1, 1), 0.03, mix(look.hair, (255, 255, 255), 0.16))


def beard(painter: Painter) -> None:
    """Stubble or a full beard below the mouth, and a moustache above it."""
    look, face = painter.look, painter.face
    if look.beard <= 0:
        return
    colour = mix(look.skin, look.hair, 0.25 + 0.6 * look.beard)
    jaw = face.jaw[6:-6]
    low, lips = face.lips[3], face.lips[0]
    t = np.linspace(1, -1, 25)
    inner = np.column_stack([t * face.identity.width * 0.84, low[12, 1] + 0.10 - 0.5 * np.abs(t) ** 3 * low[12, 1]])
    painter.polygon(np.concatenate([jaw * (1, 1.0, 1), np.column_stack([inner, surface_depth(inner) * (1 - np.abs(t) ** 4)])]), colour)
    if look.moustache:
        top = lips[3:22] - (0, 0.09, 0)
        painter.polygon(np.concatenate([top, (lips[3:22] - (0, 0.015, 0))[::-1]]), colour)


def glasses(painter: Painter) -> None:
    if not painter.look.glasses:
        return
    frame = (40, 36, 40)
    corner = 1.0 if painter.look.glasses == "round" else 0.35
    angle = np.linspace(0, 2 * np.pi, 41)
    for side in (-1, 1):
        x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** corner
        y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** corner
        rim = np.column_stack([side * 0.41 + 0.29 * x, 0.02 + 0.23 * y])
        painter.line(np.column_stack([rim, surface_depth(rim) + 0.12]), 0.03, frame)
        temple = np.array([[side * 0.69, -0.02], [side * 0.95, -0.04]])
        painter.line(np.column_stack([temple, [0.6, 0.0]]), 0.03, frame)
    bridge = np.array([[-0.12, -0.02], [0.0, -0.06], [0.12, -0.02]])
    painter.line(np.column_stack([bridge, surface_depth(bridge) + 0.2]), 0.03, frame)
