"""The inspection of one file of a download: its hash, its format, and whether it decodes completely. Each file is read once."""

import hashlib
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from affectnet.errors import reraise_machine_fault
from affectnet.images.decode import (
    MOST_BYTES,
    MOST_PIXELS,
    decode_plain,
    format_name,
    open_image,
    pillow_heif,
    plain_jpeg,
    shown_dimensions,
    shrink_within,
    upright,
)
from affectnet.images.formats import STARTS, SUFFIX_FORMATS, brand

PIECE = 1 << 20

HASH_PX = 64
"""A JPEG is decoded at 1/2, 1/4 or 1/8 as long as it stays this large: enough for the difference hash, and a truncated file still fails."""


@dataclass(frozen=True)
class Inspected:
    """The columns of the inventory that come from a file's bytes; md5: only where it is required."""

    length: int
    sha256: bytes | None
    md5: bytes | None
    status: str
    format: str | None = None
    misnamed: bool = False
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    dhash: bytes | None = None

    def row(self) -> dict[str, Any]:
        """The row of the inventory, where the length is called `bytes`."""
        columns = asdict(self)
        return {"bytes": columns.pop("length"), **columns}


def inspect_file(path: Path, kind: str, md5: bool) -> Inspected:
    """Reads the file once, and decodes it when its kind is `image`. Broken content is a status; errors are only those of the machine."""
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            if kind != "image" or length > MOST_BYTES:
                return _unopened(file, "unreadable" if kind == "image" else "ok", md5)
            content = file.read()
    except OSError as error:
        reraise_machine_fault(error, path)
        return Inspected(0, None, None, "unreadable")
    sha256 = hashlib.sha256(content).digest()
    digest = hashlib.md5(content, usedforsecurity=False).digest() if md5 else None
    if not content:
        return Inspected(0, sha256, digest, "empty")
    return _inspect_image(content, path.suffix.lower(), sha256, digest)


def _unopened(file: BinaryIO, status: str, md5: bool) -> Inspected:
    """A file that is not an image, or too large: hashed in pieces, since an archive may be larger than memory."""
    sha256, digest, length = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    while piece := file.read(PIECE):
        length += len(piece)
        sha256.update(piece)
        if md5:
            digest.update(piece)
    return Inspected(length, sha256.digest(), digest.digest() if md5 else None, status if length else "empty")


def _inspect_image(content: bytes, suffix: str, sha256: bytes, md5: bytes | None) -> Inspected:
    count = len(content)
    plain = plain_jpeg(content)
    if plain is not None and plain[0] * plain[1] <= MOST_PIXELS:
        width, height, is_grey = plain
        try:
            grey = decode_plain(content, (width, height), True, shrink_within(min(width, height) / HASH_PX))
        except ValueError:  # stricter than Pillow, which decides
            pass
        else:
            mode, dhash = "L" if is_grey else "RGB", difference_hash(Image.fromarray(grey))
            return Inspected(count, sha256, md5, "ok", "JPEG", SUFFIX_FORMATS.get(suffix) != "JPEG", width, height, mode, dhash)
    return _by_pillow(content, suffix, sha256, md5)


def _by_pillow(content: bytes, suffix: str, sha256: bytes, md5: bytes | None) -> Inspected:
    count = len(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_image(content)
        except Image.DecompressionBombError:
            return Inspected(count, sha256, md5, "unreadable")
        except Exception as error:  # Pillow's header parsers raise many kinds of error for broken bytes
            reraise_machine_fault(error, "image")
            return _unopenable(content, suffix, sha256, md5)
        kind, mode, (width, height) = format_name(image), image.mode, image.size
        misnamed = SUFFIX_FORMATS.get(suffix) != kind
        status, dhash = "unreadable", None
        if width * height <= MOST_PIXELS:
            try:
                width, height = shown_dimensions(image)
                image.draft("L", (HASH_PX, HASH_PX))
                dhash, status = difference_hash(upright(image)), "ok"
            except OSError as error:
                reraise_machine_fault(error, "image")
                status = "truncated" if "truncated" in str(error) or "broken data stream" in str(error) else "unreadable"
            except Exception as error:  # decoders raise errors of any kind for broken bytes
                reraise_machine_fault(error, "image")
                status = "unreadable"
    return Inspected(count, sha256, md5, status, kind, misnamed, width, height, mode, dhash)


def _unopenable(content: bytes, suffix: str, sha256: bytes, md5: bytes | None) -> Inspected:
    """The result by the first bytes, for a file that is not an image, is truncated, or needs pillow-heif."""
    kind, count = brand(content), len(content)
    if kind == "HEIF" and pillow_heif() is None:
        return Inspected(count, sha256, md5, "unreadable", kind, SUFFIX_FORMATS.get(suffix) != kind)
    return Inspected(count, sha256, md5, "truncated" if kind or content.startswith(STARTS) else "not_an_image")


def difference_hash(image: Image.Image) -> bytes:
    """128 bits: where a 9×8 grey thumbnail gets brighter to the right, then where an 8×9 thumbnail gets brighter downwards."""
    grey = image.convert("L")
    across = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    down = np.asarray(grey.resize((8, 9), Image.Resampling.BOX), np.int16)
    bits = np.concatenate([(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()])
    return np.packbits(bits).tobytes()
