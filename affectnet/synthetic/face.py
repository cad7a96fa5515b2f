"""The geometry of a face: an identity, moved by action units, as curves in face units. The 68 landmarks are points of these curves.

Face units: x to the right of the photograph, y down, z towards the camera; half a head's width is 1, the eyes' line is near y = 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affectnet.synthetic.actions import Actions

Curve = NDArray[np.float64]
"""(n, 3) points in face units."""


@dataclass(frozen=True)
class Identity:
    """The proportions of a person, which do not depend on the expression. Lengths in face units, shares around 1."""

    width: float
    chin: float
    squareness: float
    eye_width: float
    eye_height: float
    eye_distance: float
    eye_tilt: float
    brow_height: float
    brow_arch: float
    brow_thickness: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lips: float
    mouth_height: float


def draw_identity(generator: np.random.Generator) -> Identity:
    def around(middle: float, spread: float) -> float:
        return float(np.clip(generator.normal(middle, spread), middle - 2 * spread, middle + 2 * spread))

    return Identity(
        width=around(0.92, 0.05),
        chin=around(1.22, 0.06),
        squareness=around(0.84, 0.08),
        eye_width=around(0.19, 0.015),
        eye_height=around(0.085, 0.012),
        eye_distance=around(0.40, 0.02),
        eye_tilt=around(0.0, 0.03),
        brow_height=around(0.33, 0.025),
        brow_arch=around(0.07, 0.02),
        brow_thickness=around(0.06, 0.014),
        nose_length=around(0.40, 0.04),
        nose_width=around(0.155, 0.02),
        mouth_width=around(0.29, 0.025),
        lips=around(1.0, 0.22),
        mouth_height=around(0.70, 0.03),
    )


@dataclass(frozen=True)
class Face:
    """The curves of a face with an expression, each (n, 3), left and right as seen in the photograph.

    eyes: upper and lower lid of the left and the right eye, left to right; lips: upper outer, upper inner, lower inner,
    lower outer, left to right; landmarks: (68, 3), iBUG 300-W scheme.
    """

    identity: Identity
    actions: Actions
    outline: Curve
    jaw: Curve
    brows: tuple[Curve, Curve]
    eyes: tuple[tuple[Curve, Curve], tuple[Curve, Curve]]
    nose_bridge: Curve
    nose_base: Curve
    lips: tuple[Curve, Curve, Curve, Curve]
    landmarks: Curve


def build_face(identity: Identity, actions: Actions) -> Face:
    """The face of this identity with these action units."""
    opening = 0.10 * actions["AU25"] + 0.22 * actions["AU26"] + 0.42 * actions["AU27"]
    jaw = _jaw(identity, 0.55 * opening, np.linspace(-1, 1, 65))
    top = np.linspace(np.pi, 0, 48)
    crown = np.column_stack([identity.width * np.cos(top), -0.12 - 1.08 * np.sin(top)])
    brows = (_brow(identity, actions, -1), _brow(identity, actions, +1))
    eyes = (_eye(identity, actions, -1), _eye(identity, actions, +1))
    bridge, base = _nose(identity, actions)
    lips = _lips(identity, actions, opening)
    landmarks = np.concatenate(
        [
            jaw[::4],
            *(brow[::4] for brow in brows),
            bridge[::4],
            base[::4],
            *(np.concatenate([upper[[0, 7, 14, 21]], lower[[14, 7]]]) for upper, lower in eyes),
            *(lips[0][::4], lips[3][20:0:-4], lips[1][[1, 6, 12, 18, 23]], lips[2][[18, 12, 6]]),
        ]
    )
    lift = _lift
    return Face(
        identity=identity,
        actions=actions,
        outline=_flat(np.concatenate([crown, jaw[::-1]])),
        jaw=_flat(jaw),
        brows=(lift(brows[0]), lift(brows[1])),
        eyes=tuple((lift(upper), lift(lower)) for upper, lower in eyes),  # type: ignore[arg-type]
        nose_bridge=_nose_depth(bridge),
        nose_base=_nose_depth(base),
        lips=tuple(lift(lip) for lip in lips),  # type: ignore[arg-type]
        landmarks=np.concatenate([_flat(landmarks[:17]), lift(landmarks[17:27]), _nose_depth(landmarks[27:36]), lift(landmarks[36:])]),
    )


def surface_depth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """z of the head's surface at (n, 2) points of its front, in face units."""
    x, y = points[:, 0] / 1.05, (points[:, 1] - 0.05) / 1.55
    return np.asarray(0.80 * np.sqrt(np.clip(1 - 0.9 * x**2 - 0.6 * y**2, 0.02, 1)))


def _lift(points: NDArray[np.float64]) -> Curve:
    return np.column_stack([points, surface_depth(points)])


def _flat(points: NDArray[np.float64]) -> Curve:
    """Points of the outline, where the surface turns away from the camera."""
    return np.column_stack([points, np.zeros(len(points))])


def _nose_depth(points: NDArray[np.float64]) -> Curve:
    """The nose sticks out more towards its tip, up to a quarter of half a head's width."""
    out = 0.26 * np.clip(points[:, 1] / 0.4, 0, 1) * np.exp(-((points[:, 0] / 0.16) ** 2))
    return np.column_stack([points, surface_depth(points) + out])


def _jaw(identity: Identity, drop: float, s: NDArray[np.float64]) -> NDArray[np.float64]:
    """From ear to ear through the chin; the chin sinks with the jaw."""
    angle = s * np.pi / 2
    x = identity.width * np.sign(s) * np.abs(np.sin(angle)) ** identity.squareness
    return np.column_stack([x, -0.12 + (identity.chin + 0.12 + drop) * np.cos(angle) ** 0.9])


def _brow(identity: Identity, actions: Actions, side: int) -> NDArray[np.float64]:
    """17 points, left to right. AU1 and AU2 raise the inner and the outer end, AU4 and AU9 lower and draw together."""
    suffix = "L" if side < 0 else "R"
    s = np.linspace(0, 1, 17)
    inner, outer = (1 - s) ** 1.5, np.sin(np.pi * np.clip(s * 0.75, 0, 1)) ** 1.2
    x = 0.15 + s * 0.50 - (0.06 * actions["AU4"] + 0.03 * actions["AU9"]) * inner
    y = -identity.brow_height - identity.brow_arch * np.sin(np.pi * (0.15 + 0.75 * s)) + 0.05 * s**3
    y = y - 0.20 * actions["AU1"] * inner - 0.16 * actions[f"AU2{suffix}"] * outer
    y = y + 0.13 * actions["AU4"] * (0.35 + 0.65 * inner) + 0.07 * actions["AU9"] * (0.4 + 0.6 * inner)
    points = np.column_stack([side * x, y])
    return points[::-1] if side < 0 else points


def _eye(identity: Identity, actions: Actions, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper and lower lid, 22 points each, left to right. AU5 opens, AU6, AU7 and AU9 narrow, AU43 lowers the upper lid."""
    t = np.linspace(0, 1, 22)
    upper = identity.eye_height * (1 + 0.75 * actions["AU5"] - 0.55 * actions["AU43"] - 0.3 * actions["AU7"] - 0.25 * actions["AU9"])
    upper = upper - identity.eye_height * 0.2 * actions["AU6"]
    lower = identity.eye_height * (0.6 + 0.2 * actions["AU5"] - 0.55 * actions["AU6"] - 0.4 * actions["AU7"] - 0.3 * actions["AU9"])
    arch = (4 * t * (1 - t)) ** 0.75
    x = side * identity.eye_distance + (2 * t - 1) * identity.eye_width
    tilt = side * (2 * t - 1) * -identity.eye_tilt
    droop = 0.05 * actions["AU1"] * np.clip(side * (2 * t - 1), 0, 1)  # sad eyes: the outer part of the lid follows the brow
    return np.column_stack([x, tilt - max(upper, 0.012) * arch + droop * arch]), np.column_stack([x, tilt + max(lower, 0.008) * arch])


def _nose(identity: Identity, actions: Actions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bridge (13 points, down) and base (17 points, left to right). AU9 and AU10 pull the wings up."""
    up = 0.08 * actions["AU9"] + 0.03 * actions["AU10"]
    length, width = identity.nose_length - 0.5 * up, identity.nose_width * (1 + 0.2 * actions["AU9"] + 0.1 * actions["AU12L"])
    bridge = np.column_stack([np.zeros(13), np.linspace(-0.08, length - 0.06, 13)])
    t = np.linspace(-1, 1, 17)
    return bridge, np.column_stack([width * t, length + 0.05 * (1 - t**2) - up * np.abs(t)])


def _lips(identity: Identity, actions: Actions, opening: float) -> tuple[NDArray[np.float64], ...]:
    """Upper outer, upper inner, lower inner and lower outer edge, 25 points each, left to right."""
    t = np.linspace(-1, 1, 25)
    thin = 1 - 0.35 * actions["AU23"] - 0.45 * actions["AU24"]
    middle = identity.mouth_height - 0.03 * actions["AU17"]
    corners = []
    for side in "LR":
        smile, dimple = actions[f"AU12{side}"], actions[f"AU14{side}"]
        reach = (
            identity.mouth_width * (1 - 0.12 * actions["AU23"])
            + 0.10 * smile
            + 0.13 * actions["AU20"]
            + 0.03 * dimple
            - 0.05 * actions["AU27"]
        )
        corners.append((reach, middle - 0.15 * smile - 0.05 * dimple + 0.13 * actions["AU15"] + 0.04 * actions["AU20"] + 0.3 * opening))
    (left, left_y), (right, right_y) = corners
    x, corner = np.where(t < 0, left, right) * t, np.where(t < 0, left_y, right_y)
    raised = 0.10 * actions["AU10"] + 0.05 * actions["AU9"]
    upper_in = middle - raised - 0.02 * (actions["AU12L"] + actions["AU12R"]) * (opening > 0.03)
    upper_out = upper_in - 0.085 * identity.lips * thin + 0.2 * raised * identity.lips * 0.2
    lower_in = middle + max(opening, 0.004) + 0.6 * raised * actions["AU25"] - 0.3 * raised * (1 - actions["AU25"])
    lower_out = lower_in + (0.11 * identity.lips + 0.02 * actions["AU17"]) * thin
    bow = 0.022 * np.exp(-((t / 0.16) ** 2)) * identity.lips
    edges = ((upper_out, 1.7), (upper_in, 2.0), (max(lower_in, upper_in + 0.004), 2.2), (lower_out, 2.0))
    curves = [middle_y + (corner - middle_y) * np.abs(t) ** power for middle_y, power in edges]
    curves[0] = curves[0] + bow
    return tuple(np.column_stack([x, y]) for y in curves)
