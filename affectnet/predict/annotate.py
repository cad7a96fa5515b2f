"""Copies of photographs with the faces framed and named, and the folder that holds them."""

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from affectnet.errors import UserError, reraise_machine_fault
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
JPEG_QUALITY = 90
MARK = "affectnet predict "
LONGEST_STEM = 200
"""Bytes of a name: with number and suffix it stays below the limit of file systems."""


def annotated(pixels: Pixels, faces: Sequence[Face], names: Sequence[str] | None = None) -> Pixels:
    """(h, w, 3) RGB uint8: the photograph with each box framed and labelled above it, or below where there is no room.

    names: texts in place of the labels.
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
    """A folder of annotated copies. It overwrites only copies of the same photograph, and no other file.

    A copy carries a hash of its source in its JPEG comment, so that no list of names is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, paths: Sequence[str]) -> None:
        """Errors: UserError when a copy would overwrite one of the paths, or lie within one of them."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder}: a file; give a folder for the annotated copies")
        album = self.folder.resolve()
        for path in map(Path, paths):
            source = path.resolve()
            if source.is_dir() and (source == album or album in source.parents):
                raise UserError(f"{self.folder}: {path} lies in it, and would be mixed with its copies; give another folder")
            if source.is_file() and album / _copy_name(Shot(str(path), path.name)) == source:
                raise UserError(f"{self.folder}: the copy of {path} would overwrite it; give another folder")

    def add(self, shot: Shot, picture: Pixels) -> Path:
        """Writes the copy; returns its path: the photograph's name in the album, numbered where another file has it."""
        mark = MARK + hashlib.sha256(os.fsencode(os.path.abspath(shot.path)) + f" {shot.seconds}".encode()).hexdigest()  # noqa: PTH100
        first = self.folder / _copy_name(shot)
        path, number = first, 1
        while os.path.lexists(path) and _mark(path) != mark:
            number += 1
            path = first.with_name(f"{first.stem}-{number}.jpg")
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, comment=mark)
        with replacing(path, lasting=False) as temporary:  # no fsync: it can be made again, and costs as much as the face
            temporary.write_bytes(buffer.getvalue())
        return path


def _copy_name(shot: Shot) -> Path:
    name = Path(shot.name)
    time = "" if shot.seconds is None else f"-{shot.seconds:09.3f}"
    stem = os.fsdecode(os.fsencode(name.stem)[:LONGEST_STEM])
    return name.with_name(f"{stem}{time}.jpg")


def _mark(path: Path) -> str | None:
    """The comment of a JPEG file, None for any other file."""
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            comment = image.info.get("comment")
    except (OSError, ValueError) as error:
        reraise_machine_fault(error, path)
        return None
    return comment.decode("ascii", "replace") if isinstance(comment, bytes) else None
