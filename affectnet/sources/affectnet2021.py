"""AffectNet 2021 (eight labels): 224×224 images, and one npy file per image and kind of annotation."""

import io
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import reraise_machine_fault
from affectnet.sources.per_image import Annotation, PerImage, parse_annotation, read_limited
from affectnet.sources.source import FileParams, layout

KINDS = ("exp", "val", "aro", "lnd")
_FILE = re.compile(r"(.+)_(exp|val|aro|lnd)\.npy", re.DOTALL | re.IGNORECASE)
LARGEST_NPY = 64 << 10
"""Bytes of an npy file at most: 136 numbers as wide strings are 17 kB."""


@layout("affectnet2021")
class AffectNet2021(PerImage):
    """`train_set/images/<id>.jpg`, `train_set/annotations/<id>_{exp,val,aro,lnd}.npy`, and val_set likewise.

    The release has no face boxes: its images are cut to them already. exp, val and aro are 0-d arrays of text or number.
    """

    Params = FileParams

    sign = re.compile(r"_set/annotations/[^/]+_(exp|val|aro|lnd)\.npy$")

    def annotated_name(self, file: str) -> str | None:
        match = _FILE.fullmatch(file)
        return match[1] if match else None

    def read(self, files: tuple[Path, ...]) -> Annotation:
        values: dict[str, Any] = {}
        unread = None
        for file in files:
            kind = file.stem[-3:].lower()
            try:
                values[kind] = _array(file) if kind == "lnd" else _array(file).item()
            except Exception as error:  # numpy's header parser raises many kinds of error for broken bytes
                reraise_machine_fault(error, file)
                unread = f"{file.name}: {type(error).__name__}"
                if kind != "lnd":
                    return Annotation(fault="malformed", detail=unread)
        missing = [kind for kind in KINDS[:3] if kind not in values]
        if missing:
            return Annotation(fault="malformed", detail=f"no {', '.join(missing)}")
        annotation = parse_annotation(values["exp"], values["val"], values["aro"], values.get("lnd"))
        if unread and not annotation.fault:
            annotation.unread, annotation.detail = ("landmarks",), unread
        return annotation


def _array(file: Path) -> NDArray[Any]:
    """The npy array in a file, of numbers or text. Errors: of many kinds, when it holds anything else, as a pickle or an archive."""
    content = read_limited(file, LARGEST_NPY)
    if _stated_bytes(content) > len(content):
        raise ValueError("the header states more values than the file holds")  # and maybe more than memory holds
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if array.dtype.kind not in "iufUS":
        raise TypeError(array.dtype)
    if array.dtype.kind == "U" and (np.frombuffer(array.tobytes(), f"{array.dtype.str[0]}u4") > sys.maxunicode).any():
        raise ValueError("invalid code points")  # numpy accepts them, but the resulting string breaks its readers
    return array


def _stated_bytes(content: bytes) -> int:
    """Bytes of the values, as the header of an npy array states them. Errors: of many kinds, when the header is invalid."""
    stream = io.BytesIO(content)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[np.lib.format.read_magic(stream)]
    try:
        shape, _, kind = header(stream)
    except MemoryError:
        raise ValueError("a header nested too deep for Python's parser") from None
    return math.prod(shape) * kind.itemsize
