"""Copies of photographs with the faces framed and named, and the folder that holds them."""

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from affectnet.errors import UserError, pass_machine_fault
from affectnet.files.atomic import replacing
from affectnet.images.decode import Pixels
from affectnet.predict.paths import Shot
from affectnet.predict.predictor import Face
from affectnet.predict.writers import label

FRAME, INK = (255, 200, 0), (0, 0, 0)
LINE_SHARE, LEAST_LINE_PX = 1 / 200, 2
"""Width of a frame: as a share of the photograph's shorter side, and in px."""
TEXT_SHARE, LEAST_TEXT_PX = 1 / 28, 11
"""Height of the letters, likewise."""
FONT, FONT_PX = cv2.FONT_HERSHEY_SIMPLEX, 22
"""OpenCV's font, and its height at scale 1."""
QUALITY = 90
MARK = "affectnet predict "
LONGEST_STEM = 200
"""Bytes of a name, so that with number and suffix it is one that file systems take."""


def annotated(pixels: Pixels, faces: Sequence[Face], names: Sequence[str] | None = None) -> Pixels:
    """(h, w, 3) RGB uint8: the photograph with a frame around each box, inside of it, and its label above, or below where no room is.

    names: what stands there instead of the label of each face.
    """
    texts = [label(face, " ") for face in faces] if names is None else names
    canvas = np.array(pixels) if pixels.ndim == 3 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    height, width = canvas.shape[:2]
    line = max(LEAST_LINE_PX, round(LINE_SHARE * min(height, width)))
    for face, text in reversed([*zip(faces, texts, strict=True)]):  # the largest is on top
        left, top, right, bottom = (
            min(max(0, round(edge)), most) for edge, most in zip(face.box, (width, height, width, height), strict=True)
        )
        inner = canvas[top + line : bottom - line, left + line : right - line].copy()
        canvas[top:bottom, left:right] = FRAME
        canvas[top + line : bottom - line, left + line : right - line] = inner
        _write(canvas, text, left, top, bottom)
    return canvas


def _write(canvas: Pixels, text: str, left: int, top: int, bottom: int) -> None:
    height, width = canvas.shape[:2]
    letters = max(LEAST_TEXT_PX, round(TEXT_SHARE * min(height, width)))
    scale, thick = letters / FONT_PX, max(1, letters // 10)
    (long, high), below = cv2.getTextSize(text, FONT, scale, thick)
    tall = high + below + letters // 2
    x = max(0, min(left, width - long - letters // 2))
    y = top - tall if top >= tall else min(bottom, max(0, height - tall))
    canvas[y : y + tall, x : x + long + letters // 2] = FRAME
    cv2.putText(canvas, text, (x + letters // 4, y + letters // 4 + high), FONT, scale, INK, thick, cv2.LINE_AA)


class Album:
    """A folder of annotated copies. What it did not write itself, it never overwrites; a second run writes its own anew.

    A copy tells what it is of by a hash in its JPEG comment, so that no list of names is kept, however many there are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, paths: Sequence[str]) -> None:
        """Errors: UserError when one of the paths lies where its own copy would, or is a folder that the copies would fall into."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder}: a file; give a folder for the annotated copies")
        own = self.folder.resolve()
        for path in map(Path, paths):
            place = path.resolve()
            if place.is_dir() and (place == own or own in place.parents):
                raise UserError(f"{self.folder}: {path} lies in it, and would be mixed with its copies; give another folder")
            if place.is_file() and own / _copy_name(Shot(str(path), path.name)) == place:
                raise UserError(f"{self.folder}: the copy of {path} would overwrite it; give another folder")

    def add(self, shot: Shot, picture: Pixels) -> Path:
        """Writes the copy; returns its path: that of the photograph below the folder that was given, numbered where it is taken."""
        mark = MARK + hashlib.sha256(os.fsencode(os.path.abspath(shot.path)) + f" {shot.seconds}".encode()).hexdigest()  # noqa: PTH100
        wanted = self.folder / _copy_name(shot)
        place, number = wanted, 1
        while os.path.lexists(place) and _mark(place) != mark:
            number += 1
            place = wanted.with_name(f"{wanted.stem}-{number}.jpg")
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, subsampling=0, comment=mark)
        with replacing(place, lasting=False) as temporary:  # can be made again, and the disk takes as long as the face
            temporary.write_bytes(buffer.getvalue())
        return place


def _copy_name(shot: Shot) -> Path:
    name = Path(shot.name)
    time = "" if shot.seconds is None else f"-{shot.seconds:09.3f}"
    stem = os.fsdecode(os.fsencode(name.stem)[:LONGEST_STEM])
    return name.with_name(f"{stem}{time}.jpg")


def _mark(place: Path) -> str | None:
    """The comment of a JPEG file, None for anything else."""
    try:
        with Image.open(place, formats=["JPEG"]) as image:
            comment = image.info.get("comment")
    except (OSError, ValueError) as error:
        pass_machine_fault(error, place)
        return None
    return comment.decode("ascii", "replace") if isinstance(comment, bytes) else None
