"""AffectNet 2021 (eight labels): 224×224 images, and one npy file an image and kind of annotation."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectnet.sources.per_image import Annotation, PerImage, checked

KINDS = ("exp", "val", "aro", "lnd")
_FILE = re.compile(r"(.+)_(exp|val|aro|lnd)\.npy")
LARGEST = 64 << 10
"""Bytes of an npy file at most: 136 numbers as wide strings are 17 kB."""


class AffectNet2021(PerImage):
    """`train_set/images/<id>.jpg`, `train_set/annotations/<id>_{exp,val,aro,lnd}.npy`, and val_set likewise.

    The release has no face boxes: its images are cut to them already. exp, val and aro are 0-d arrays of text or number.
    """

    def annotated_name(self, file: str) -> str | None:
        match = _FILE.fullmatch(file)
        return match[1] if match else None

    def read(self, files: tuple[Path, ...]) -> Annotation:
        values: dict[str, NDArray[Any]] = {}
        for file in files:
            try:
                if file.stat().st_size > LARGEST:
                    raise ValueError("too large")
                values[file.stem[-3:]] = np.load(file, allow_pickle=False)
            except Exception as error:  # numpy's header parser raises many kinds: each means that the file is no annotation
                return Annotation(fault="malformed", detail=f"{file.name}: {type(error).__name__}")
        missing = [kind for kind in KINDS[:3] if kind not in values]
        if missing:
            return Annotation(fault="malformed", detail=f"no {', '.join(missing)}")
        expression, valence, arousal = (values[kind].item() if values[kind].size == 1 else None for kind in KINDS[:3])
        return checked(expression, valence, arousal, values.get("lnd"))
