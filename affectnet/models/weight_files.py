"""Files of weights, read without unpickling anything but tensors and plain values."""

import argparse
import io
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from affectnet.errors import UserError, first_few, first_line


def load_content(path: Path, content: bytes) -> Any:
    """What torch.save or safetensors wrote: tensors, plain values and argparse's Namespace, which Lightning stores with them.

    path: for messages, and its suffix for the format. Errors: UserError on anything else.
    """
    if _is_torchscript(content):
        raise UserError(f"{path}: a TorchScript archive, which is a program; save its state_dict(): torch.save(network.state_dict(), …)")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(content)
        with safe_globals([argparse.Namespace]):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (SafetensorError, EOFError, ValueError) as error:
        raise UserError(f"{path}: unreadable weights: {first_line(error)}") from None
    except Exception as error:  # torch raises any of pickle's errors, and errors of its own: each means that the file is refused
        raise UserError(f"{path}: {_refusal(content, error)}") from None


def no_download(name: str, error: Exception) -> UserError:
    """The error for published weights that cannot be downloaded."""
    return UserError(
        f"{name}: could not be downloaded ({first_line(error)}); name a local .pth or .safetensors file in models.<name>.weights, or none"
    )


def _is_torchscript(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _refusal(content: bytes, error: Exception) -> str:
    """Why torch refuses the bytes. torch's own message is not shown: it advises what would run the code in them."""
    try:
        objects = first_few(sorted(get_unsafe_globals_in_checkpoint(io.BytesIO(content))))
    except Exception:  # not an archive as torch.save writes it now
        return f"unreadable weights ({type(error).__name__}); save the network's state_dict() by torch.save or as safetensors"
    return f"holds more than tensors, {objects}, and is not unpickled; save its state_dict(): torch.save(network.state_dict(), …)"
