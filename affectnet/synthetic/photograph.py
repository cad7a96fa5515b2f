"""A photograph of a drawn face: pose, light, background, occlusion, blur and noise, with its exact landmarks and its box."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from affectnet.synthetic import hair
from affectnet.synthetic.actions import Actions
from affectnet.synthetic.face import Curve, Face, build_face, draw_identity
from affectnet.synthetic.look import CLOTHES, Colour, Look, draw_look, mix
from affectnet.synthetic.paint import Painter

OVERSAMPLE = 2
"""How many times larger than the photograph the canvas is, for smooth edges."""


@dataclass(frozen=True)
class Scene:
    """Pose, light, camera and occlusion. Angles in degrees, lengths as shares of the photograph's side, other values as shares."""

    side: int
    yaw: float
    pitch: float
    roll: float
    distance: float
    offset: tuple[float, float]
    gaze: tuple[float, float]
    light: tuple[float, float, float]
    warmth: float
    exposure: float
    occlusion: str
    blur: float
    noise: float


@dataclass(frozen=True)
class Photograph:
    """RGB image; landmarks (68, 2) in its px; box: left, top, side in its px, square; and what was drawn."""

    image: Image.Image
    landmarks: NDArray[np.float64]
    box: tuple[int, int, int]
    actions: Actions
    look: Look
    scene: Scene


def draw_scene(generator: np.random.Generator, smallest: int, largest: int) -> Scene:
    u = generator.uniform
    light = np.array([u(-0.8, 0.8), u(-0.9, 0.3), u(0.5, 1.2)])
    return Scene(
        side=int(generator.integers(smallest, largest + 1)),
        yaw=float(np.clip(generator.normal(0, 12), -28, 28)),
        pitch=float(np.clip(generator.normal(0, 6), -14, 14)),
        roll=float(np.clip(generator.normal(0, 8), -20, 20)),
        distance=float(u(0.285, 0.325)),
        offset=(float(u(-0.03, 0.03)), float(u(-0.03, 0.03))),
        gaze=(float(generator.normal(0, 0.35)), float(generator.normal(0, 0.25))),
        light=tuple(float(v) for v in light / np.linalg.norm(light)),  # type: ignore[arg-type]
        warmth=float(generator.normal(0, 0.06)),
        exposure=float(u(0.72, 1.22)),
        occlusion=str(generator.choice(["", "hand", "edge", "strands"], p=[0.79, 0.07, 0.07, 0.07])),
        blur=float(generator.choice([0.0, u(0.3, 1.8)], p=[0.6, 0.4])),
        noise=float(generator.gamma(2.0, 2.2)),
    )


def draw_photograph(actions: Actions, generator: np.random.Generator, scene: Scene) -> Photograph:
    """A photograph of a random person with these action units in this scene."""
    face, look = build_face(draw_identity(generator), actions), draw_look(generator)
    background = _background(generator, look, scene.side)
    camera = Camera(scene, scene.side * OVERSAMPLE)
    canvas = background.resize((camera.canvas_px, camera.canvas_px), Image.Resampling.NEAREST)
    _paint_person(Painter(canvas, face, look, camera.project, camera.unit), scene)
    _occlude(ImageDraw.Draw(canvas), camera, face, look, scene, generator)
    image = _lit(canvas.reduce(OVERSAMPLE), background, camera, scene)
    landmarks = camera.project(face.landmarks) / OVERSAMPLE
    return Photograph(_developed(image, scene, generator), landmarks, _box(landmarks, scene, generator), actions, look, scene)


class Camera:
    """Projects face units to the canvas: the head turned by yaw, pitch and roll, seen with slight perspective."""

    def __init__(self, scene: Scene, canvas_px: int) -> None:
        yaw, pitch, roll = np.radians([scene.yaw, scene.pitch, scene.roll])
        turn_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        turn_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        turn_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        self.rotation = turn_z @ turn_x @ turn_y
        self.canvas_px = canvas_px
        self.unit = scene.distance * canvas_px
        self.centre = canvas_px * (np.array([0.5, 0.49]) + scene.offset)

    def project(self, points: Curve) -> NDArray[np.float64]:
        turned = points @ self.rotation.T
        nearer = 1 / (1 - 0.10 * turned[:, 2:])
        return np.asarray(self.centre + self.unit * nearer * turned[:, :2])


def _paint_person(painter: Painter, scene: Scene) -> None:
    hair.behind(painter)
    painter.body()
    if painter.look.style == "scarf":
        hair.behind(painter)
    painter.head()
    hair.beard(painter)
    painter.skin()
    painter.nose()
    painter.eyes(scene.gaze)
    painter.mouth()
    painter.brows()
    hair.front(painter)
    hair.glasses(painter)


def _background(generator: np.random.Generator, look: Look, side: int) -> Image.Image:
    """A gradient of two colours, with soft shapes like those of a room or a street."""
    first, second = (_colour(generator), _colour(generator))
    small = Image.new("RGB", (32, 32))
    steps = np.linspace(0, 1, 32)[:, None, None] * np.ones((1, 32, 1))
    steps = steps if generator.random() < 0.5 else steps.transpose(1, 0, 2)
    small = Image.fromarray((np.array(first) * (1 - steps) + np.array(second) * steps).astype(np.uint8))
    brush = ImageDraw.Draw(small)
    for _ in range(int(generator.integers(0, 7))):
        x, y = generator.uniform(-6, 32, 2)
        width, height = generator.uniform(3, 16, 2)
        colour = mix(CLOTHES[generator.integers(len(CLOTHES))], first, float(generator.uniform(0.2, 0.8)))
        (brush.ellipse if generator.random() < 0.5 else brush.rectangle)((x, y, x + width, y + height), fill=colour)
    return small.filter(ImageFilter.GaussianBlur(0.8)).resize((side, side), Image.Resampling.BICUBIC)


def _colour(generator: np.random.Generator) -> Colour:
    red, green, blue = generator.integers(30, 235, 3).tolist()
    return red, green, blue


def _lit(image: Image.Image, background: Image.Image, camera: Camera, scene: Scene) -> Image.Image:
    """What stands before the background lit from one side, by Lambert's law on an ellipsoid at the head's position."""
    cells = 48
    at = (np.arange(cells) + 0.5) * camera.canvas_px / cells
    x, y = (np.stack(np.meshgrid(at, at), -1) - camera.centre).transpose(2, 0, 1) / camera.unit
    normal = np.stack([x / 1.35, y / 1.75, np.sqrt(np.clip(1 - (x / 1.35) ** 2 - (y / 1.75) ** 2, 0.02, 1))])
    normal /= np.linalg.norm(normal, axis=0)
    lambert = np.clip(np.tensordot(np.array(scene.light), normal, axes=1), 0, 1)
    shade = 0.60 + 0.55 * lambert
    light = np.array(Image.fromarray(shade.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC))
    light[np.asarray(ImageChops.difference(image, background).convert("L")) == 0] = 1
    gains = np.array([1 + scene.warmth, 1, 1 - scene.warmth], np.float32) * np.float32(scene.exposure)
    pixels = np.array(image, np.float32)
    pixels *= light[..., None]
    pixels *= gains
    return _image(pixels)


def _occlude(brush: ImageDraw.ImageDraw, camera: Camera, face: Face, look: Look, scene: Scene, generator: np.random.Generator) -> None:
    """A hand at the chin, an object at the edge of the photograph, or strands of hair."""
    unit = camera.unit
    side = generator.choice([-1, 1])
    if scene.occlusion == "hand":
        ((x, y),) = camera.project(np.array([[side * 0.75, 0.85, 0.5]]))
        for finger in range(4):
            left, top = x + side * finger * 0.17 * unit - 0.1 * unit, y - (0.35 - 0.06 * abs(finger - 1)) * unit
            colour = mix(look.skin, (90, 40, 35), 0.10 + 0.05 * finger)
            brush.rounded_rectangle((left, top, left + 0.2 * unit, top + 1.6 * unit), radius=0.1 * unit, fill=colour)
    elif scene.occlusion == "edge":
        ((x, _),) = camera.project(np.array([[side * 0.86, 0, 0.3]]))
        far = 0 if side < 0 else brush.im.size[0]
        brush.rectangle((min(x, far), 0, max(x, far), brush.im.size[1]), fill=CLOTHES[generator.integers(len(CLOTHES))])
    elif scene.occlusion == "strands":
        for strand in generator.uniform(-0.7, 0.7, 5):
            points = camera.project(np.array([[strand, -0.95, 0.7], [strand * 1.15, -0.3, 0.8], [strand * 1.25, 0.15, 0.75]]))
            brush.line([(float(x), float(y)) for x, y in points], fill=look.hair, width=max(1, round(0.02 * unit)))


def _developed(image: Image.Image, scene: Scene, generator: np.random.Generator) -> Image.Image:
    if scene.blur:
        image = image.filter(ImageFilter.GaussianBlur(scene.blur * scene.side / 300))
    if scene.noise:
        grain = generator.standard_normal((scene.side, scene.side, 1), np.float32) * np.float32(scene.noise)
        pixels = np.array(image, np.float32)
        pixels += grain
        image = _image(pixels)
    return image


def _image(pixels: NDArray[np.float32]) -> Image.Image:
    """pixels: (h, w, 3), clipped in place to 0 … 255."""
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))


def _box(landmarks: NDArray[np.float64], scene: Scene, generator: np.random.Generator) -> tuple[int, int, int]:
    """A square around the face like that of a face detector: a margin of about 15 % of its side, with noise."""
    low, high = landmarks.min(0), landmarks.max(0)
    side = min(float((high - low).max()) * generator.uniform(1.12, 1.24), scene.side - 4.0)
    centre = (low + high) / 2 + (0, -0.06 * side) + generator.normal(0, 0.015, 2) * side
    left, top = np.clip(centre - side / 2, 1, scene.side - side - 1).round().astype(int)
    return int(left), int(top), int(side)
