"""The types in which Python code passes a photograph, each converted to the bytes of a file, so that all types give one prediction."""

import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import TypeIs

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.images.decode import MOST_BYTES, Pixels, read_photograph, upright

if TYPE_CHECKING:
    import torch

Picture: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[np.uint8] | torch.Tensor"
"""A path, a file's bytes, a file open for reading bytes, a Pillow image, (h, w) grey or (h, w, 3) RGB uint8, or a tensor (3, h, w),

uint8 or float in 0–1."""

NAMELESS = "photograph"
"""The name of a photograph without a path in messages."""

FORMS = "give a path, a file's bytes, a file open in binary mode, a Pillow image, an array (h, w) or (h, w, 3) uint8, or a tensor (3, h, w)"


def file_content(picture: Picture) -> tuple[bytes, str]:
    """The photograph as the bytes of a file, and its name in messages. Errors: UserError for anything else."""
    match picture:
        case str() | os.PathLike():
            return read_photograph(Path(picture)), str(picture)
        case bytes() | bytearray() | memoryview():
            content = bytes(picture)
        case Image.Image():
            content = _of_image(picture)
        case np.ndarray():
            content = _of_array(picture)
        case _ if _is_tensor(picture):
            content = _of_array(_array(picture))
        case None:
            raise UserError("photograph: None, which OpenCV's imread returns for a file that it cannot read; check the path")
        case _ if hasattr(picture, "read"):
            return _of_file(picture)
        case _:
            raise UserError(f"photograph: {type(picture).__name__}; {FORMS}")
    return content, NAMELESS


def _of_file(file: IO[bytes]) -> tuple[bytes, str]:
    """The content from the beginning, as Pillow reads it: a buffer that was just written is at its end."""
    path = getattr(file, "name", None)
    name = path if isinstance(path, str) else NAMELESS
    try:
        if file.seekable():
            file.seek(0)
        content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError, AttributeError) as error:  # closed, or open for writing
        reraise_machine_fault(error, name)
        raise UserError(f"{name}: cannot be read: {error}; {FORMS}") from None
    if not isinstance(content, bytes):
        raise UserError(f"{name}: a file that gives {type(content).__name__}; open it in binary mode, as open(path, 'rb')")
    if len(content) > MOST_BYTES:
        raise UserError(f"{name}: more than {MOST_BYTES >> 20} MiB; give a photograph")
    return content, name


def _of_image(image: Image.Image) -> bytes:
    """The pixels as `upright` converts those of a file: rotated by EXIF or XMP, transparent pixels white, 16 bits divided by 257."""
    try:
        return _of_array(np.asarray(upright(image)))
    except UserError:
        raise
    except Exception as error:  # decoders raise errors of any kind for broken bytes, and for a closed file
        reraise_machine_fault(error, NAMELESS)
        raise UserError(f"{NAMELESS}: unreadable image: {error}") from None


def _of_array(pixels: Pixels) -> bytes:
    if pixels.dtype != np.uint8 or pixels.ndim not in {2, 3} or pixels.shape[2:] not in {(), (3,)} or not pixels.size:
        raise UserError(f"photograph: an array of {pixels.dtype}, shape {pixels.shape}; give (h, w) or (h, w, 3) uint8, RGB")
    kind, (height, width) = ("P5" if pixels.ndim == 2 else "P6"), pixels.shape[:2]
    return f"{kind} {width} {height} 255\n".encode() + pixels.tobytes()  # PGM or PPM; as PNG a frame of 1080p takes 0.13 s


def _is_tensor(picture: object) -> "TypeIs[torch.Tensor]":
    """Whether it is a tensor of torch, which is not imported for the question: nobody has a tensor without it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(picture, torch.Tensor)


def _array(picture: "torch.Tensor") -> Pixels:
    import torch  # noqa: PLC0415 (imported already, where the tensor was made)

    if picture.ndim != 3 or picture.shape[0] != 3 or not (picture.dtype == torch.uint8 or picture.is_floating_point()):
        raise UserError(f"photograph: a tensor of {picture.dtype}, shape {tuple(picture.shape)}; give (3, h, w), uint8 or float in 0–1")
    if picture.is_floating_point():
        if not bool(((picture >= 0) & (picture <= 1)).all()):
            raise UserError("photograph: a tensor of floats that are not all in 0–1; give it before it is normalised")
        picture = (picture * 255).round().to(torch.uint8)
    pixels: Pixels = picture.permute(1, 2, 0).cpu().numpy()
    return pixels
