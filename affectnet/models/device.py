"""The device: the processor or a GPU, its precision, and how torch is configured on it."""

import ctypes
from typing import Literal

import torch

from affectnet.errors import UserError, brief

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""

LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""Blocks below this come from the heap: 32 MiB, the most that glibc takes."""


def select_device(device: str, setting: str = "params.yaml: runtime.device") -> torch.device:
    """The device of this name; `auto` is a GPU if there is one. setting: where the name is set, for the message.

    Errors: UserError, which lists the devices that torch sees, when none of them has this name.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{number}" for number in range(gpus))]
    if device not in {"auto", *available}:
        raise UserError(f"{setting}: no device {brief(device)} here; torch sees {', '.join(available)}; use one of these, or auto")
    if device == "auto":
        return torch.device("cuda" if gpus else "cpu")
    return torch.device(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them torch emulates it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def select_precision(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Literal["float32", "bfloat16"]:
    """`train.precision` on this device: `auto` is bfloat16 where the device has instructions for it, else float32."""
    if precision == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    return precision


def configure_torch(device: torch.device) -> None:
    """Configures torch in this process: deterministic on the processor, full speed on either device.

    On the processor glibc keeps freed memory in the process: returned to the system, it would come back page by page, zeroed, which
    took a sixth of a step (docs/log.md). On a GPU cuDNN tries its algorithms once per shape of a batch.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        return
    torch.use_deterministic_algorithms(True)
    # A debugging aid that shows reads of uninitialised memory; it takes an eighth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
