"""Small data sets of drawn faces, sharp and straight, from which a short training learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene
from affectnet.tables.source_pointer import Pointer

NAMES = ("Neutral", "Happy", "Surprise")
"""Expressions that are easy to distinguish."""


def face(name: str, *seed: int, side: int = 48) -> Image.Image:
    """A face with the full expression, another person per seed: RGB, side × side px."""
    generator = np.random.default_rng(seed)
    scene = replace(draw_scene(generator, 96, 96), occlusion="", yaw=0.0, pitch=0.0, roll=0.0, noise=1.0, blur=0.0)
    shot = draw_photograph(draw_actions(name, generator, 1.0), generator, scene)
    left, top, length = shot.box
    return shot.image.crop((left, top, left + length, top + length)).resize((side, side))


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, h, w, 3) images, converted to grey by Pillow."""
    return np.stack([np.asarray(Image.fromarray(image).convert("L").convert("RGB")) for image in images])


def tree_drawn(root: Path, each: int, tests: int, side: int = 48) -> Pointer:
    """`each` training and `tests` test faces of each of `NAMES`, in the layout of folders."""
    for code, name in enumerate(NAMES):
        for split, count in (("train", each), ("test", tests)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                face(name, code, number, len(split), side=side).save(folder / f"{name}{number}.png")
    return pointer(root)


def pointer(root: Path) -> Pointer:
    return Pointer("folder", str(root), classes={name: name for name in NAMES}, splits={"train": "train", "test": "test"})
