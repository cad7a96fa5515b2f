"""Where tensors live: the processor or the GPU."""

import ctypes
from typing import Literal

import torch

from affectnet.errors import UserError, brief

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""Of glibc's mallopt, mallopt(3): memory at the heap's end is kept with −1, and blocks below 32 MiB, the most it takes, come from it."""


def choose(device: str, place: str = "params.yaml: runtime.device") -> torch.device:
    """The device of this name, of which `auto` is a GPU when there is one. place: where it is named.

    Errors: UserError, with those that are there, when it is none of them.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{number}" for number in range(gpus))]
    if device not in {"auto", *there}:
        raise UserError(f"{place}: {brief(device)} is not here; torch sees {', '.join(there)}; use one of these, or auto")
    return torch.device(("cuda" if gpus else "cpu") if device == "auto" else device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; others emulate it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_precision(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Literal["float32", "bfloat16"]:
    """What `train.precision` means on the device: `auto` is bfloat16 where it has instructions for it, else float32."""
    if precision == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    return precision


def prepare(device: torch.device) -> None:
    """Readies this process for training on the device: the same bits each time on the processor, and full speed on either.

    On the processor memory that is let go of stays with the process: given back, it comes again page by page, zeroed by the
    system, which took a sixth of a step (docs/log.md). On a GPU cuDNN tries its algorithms once for each shape of a batch.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        return
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms does the same, and imports torch's compiler
    # Filling shows reads of memory that nobody wrote, at an eighth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):  # glibc's
        allocator.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        allocator.mallopt(M_TRIM_THRESHOLD, -1)
