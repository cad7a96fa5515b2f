"""The photograph that the page offers: three drawn people."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene

PEOPLE = ((4, "Happy"), (1, "Surprise"), (18, "Sad"))
"""Seed and expression of each, from left to right."""

SIDE_PX, QUALITY = 320, 90


def example() -> bytes:
    """A JPEG of 960 × 320 px, the same each time."""
    picture = Image.new("RGB", (SIDE_PX * len(PEOPLE), SIDE_PX))
    for at, (seed, expression) in enumerate(PEOPLE):
        generator = np.random.default_rng(seed)
        actions = draw_actions(expression, generator, 1.0)
        scene = replace(draw_scene(generator, SIDE_PX, SIDE_PX), occlusion="", yaw=0.0, pitch=0.0, roll=0.0, noise=1.0, blur=0.0)
        picture.paste(draw_photograph(actions, generator, scene).image, (at * SIDE_PX, 0))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY)
    return content.getvalue()
