"""An image as a `data:` URI, so that a page holds it and no file is kept."""

import base64
import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def data_uri(pixels: NDArray[np.uint8], kind: Literal["JPEG", "PNG"], **options: Any) -> str:
    """The (h, w, 3) RGB image as a `data:` URI. options: for Pillow's encoder."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
