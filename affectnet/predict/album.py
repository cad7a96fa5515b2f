"""The folder of annotated copies of photographs and videos."""

import hashlib
import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.files.atomic import replacing
from affectnet.images.decode import Pixels
from affectnet.images.formats import VIDEO_SUFFIXES
from affectnet.predict.films.film_copy import write_annotated
from affectnet.predict.paths import FilmEnd
from affectnet.predict.writers import Answer

JPEG_QUALITY = 90
PICTURE, FILM = ".jpg", ".mp4"
MARK = "affectnet predict "
MARK_BYTES = len(MARK) + hashlib.sha256().digest_size * 2
LONGEST_STEM = 200
"""Bytes of a name: with number and suffix it stays below the limit of file systems."""


class Album:
    """A folder of annotated copies. It overwrites only copies of the same photograph or video, and no other file.

    A copy carries a hash of its source, in its JPEG comment or at the end of its mp4 file, so that no list of names is kept.
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
            suffix = FILM if path.suffix.lower() in VIDEO_SUFFIXES else PICTURE
            if source.is_file() and album / _copy_name(path.name, suffix) == source:
                raise UserError(f"{self.folder}: the copy of {path} would overwrite it; give another folder")

    def add(self, path: str, name: str, picture: Pixels) -> Path:
        """Writes the copy of a photograph; returns its path: the photograph's name in the album, numbered where another file has it."""
        mark = _mark(path)
        copy = self._free(_copy_name(name, PICTURE), mark)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, comment=mark)
        with replacing(copy, lasting=False) as temporary:  # no fsync: it can be made again, and costs as much as the face
            temporary.write_bytes(buffer.getvalue())
        return copy

    def add_film(self, film: FilmEnd, answers: Sequence[Answer]) -> int:
        """Writes the copy of a film, as `add`; returns how many of its frames are not in it.

        answers: for its frames, in their order. Errors: UserError when it cannot be written.
        """
        mark = _mark(film.path)
        copy = self._free(_copy_name(film.name, FILM), mark)
        with replacing(copy, lasting=False) as temporary:
            left_out = write_annotated(film, answers, temporary)
            with temporary.open("ab") as file:
                file.write(struct.pack(">I4s", 8 + MARK_BYTES, b"free") + mark.encode())  # a box that players skip (ISO 14496-12, 8.1.2)
        return left_out

    def _free(self, name: Path, mark: str) -> Path:
        """The path of a copy with this mark: one that has it already, or that no file has."""
        first = self.folder / name
        path, number = first, 1
        while os.path.lexists(path) and _mark_of(path) != mark:
            number += 1
            path = first.with_name(f"{first.stem}-{number}{first.suffix}")
        return path


def _copy_name(name: str, suffix: str) -> Path:
    path = Path(name)
    return path.with_name(f"{os.fsdecode(os.fsencode(path.stem)[:LONGEST_STEM])}{suffix}")


def _mark(path: str) -> str:
    """Of the copy of this photograph or film: MARK_BYTES characters."""
    return MARK + hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()  # noqa: PTH100 (leaves links as they are)


def _mark_of(path: Path) -> str | None:
    """The comment of a JPEG file or the end of an mp4 file, None for any other file."""
    try:
        if path.suffix == FILM:
            with path.open("rb") as file:
                file.seek(-min(MARK_BYTES, path.stat().st_size), os.SEEK_END)
                return file.read().decode("ascii", "replace")
        with Image.open(path, formats=["JPEG"]) as image:
            comment = image.info.get("comment")
    except (OSError, ValueError) as error:
        reraise_machine_fault(error, path)
        return None
    return comment.decode("ascii", "replace") if isinstance(comment, bytes) else None
