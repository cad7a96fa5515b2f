"""Where tensors live: the processor or the GPU."""

import torch

from affectnet.errors import UserError


def choose(device: str) -> torch.device:
    """The device that `runtime.device` means: `auto` is a GPU when there is one. Errors: UserError when there is none for `cuda`."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: runtime.device: cuda, but torch sees no GPU; use auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
