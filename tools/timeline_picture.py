"""The picture of a timeline's page: `python -m tools.timeline_picture models/model.safetensors docs/timeline.png`.

Draws a film of two people, asks the model for their expressions, and takes a picture of the page in Chromium.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from affectnet.errors import UserError, exit_code
from affectnet.images.decode import Pixels
from affectnet.images.video import writing_video
from affectnet.synthetic.actions import Actions, draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene

SIDE, FRAME = 260, (640, 360)
RATE, EVERY_S = 10, 3.0
"""Frames per second, and seconds from one expression to the next, of which a third passes in between."""

PEOPLE = (
    (25, ("Neutral", "Happy", "Happy", "Surprise", "Neutral", "Sad", "Sad", "Neutral", "Happy")),
    (33, ("Neutral", "Neutral", "Surprise", "Happy", "Happy", "Neutral", "Anger", "Anger", "Neutral")),
)
"""Seed and expressions of each."""

LEAVES_S, RETURNS_S, WALK_S = 10.4, 12.8, 0.8
"""When the second leaves the picture and is back, and how long each takes."""

WIDTH_PX, COLOURS = 1100, 255


def person(seed: int, side: int, first: str, second: str, share: float) -> Image.Image:
    """A square picture of a person whose expression is between the two; share: of the second. Another person per seed."""
    units = [draw_actions(name, np.random.default_rng([seed, len(name)]), 1.0).units for name in (first, second)]
    between = {name: (1 - share) * units[0].get(name, 0.0) + share * units[1].get(name, 0.0) for name in {**units[0], **units[1]}}
    generator = np.random.default_rng(seed)
    scene = replace(draw_scene(generator, side, side), occlusion="", yaw=0.0, pitch=0.0, roll=0.0, noise=1.0, blur=0.0, offset=(0.0, 0.0))
    return draw_photograph(Actions(second, 1.0, between), generator, scene).image


def film() -> Iterator[Pixels]:
    """(360, 640, 3) RGB frames."""
    steps = len(PEOPLE[0][1]) - 1
    for number in range(round(steps * EVERY_S * RATE)):
        step, share = divmod(number / RATE / EVERY_S, 1.0)
        picture = Image.new("RGB", FRAME, "#7a8a99")
        away = float(np.clip(min(number / RATE - LEAVES_S, RETURNS_S - number / RATE) / WALK_S, 0, 1))
        for at, (seed, expressions) in enumerate(PEOPLE):
            left = 40 + 310 * at + 14 * np.sin(number / 11 + at) + 340 * away * at
            one = person(seed, SIDE, expressions[int(step)], expressions[int(step) + 1], float(np.clip(3 * share - 1, 0, 1)))
            picture.paste(one, (round(left), 60))
        yield np.asarray(picture)


def screenshot(page: Path, picture: Path) -> None:
    """Errors: UserError without Chromium."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise UserError("chromium: not there; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": WIDTH_PX, "height": 600}, color_scheme="light")
        opened.goto(page.as_uri())
        opened.screenshot(path=picture, full_page=True)
        browser.close()


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise UserError("python -m tools.timeline_picture: give two arguments, a model file and the PNG to write")
    model, picture = arguments
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = film()
        with writing_video(folder / "talk.mp4", RATE, FRAME) as write:
            for frame in frames:
                write(frame)
        command = [sys.executable, "-m", "affectnet", "predict", str(folder / "talk.mp4"), "--model", model, "--smooth", "0.5"]
        subprocess.run([*command, "--timeline", str(folder / "page.html")], stdout=subprocess.DEVNULL, check=True)
        screenshot(folder / "page.html", folder / "page.png")
        with Image.open(folder / "page.png") as image:
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    raise SystemExit(exit_code(lambda: main(sys.argv[1:])))
