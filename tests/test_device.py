import platform
import re
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from affectnet.models.device import has_bfloat16, select_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.skipif(platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="the system lists no instructions of x86")
def test_the_processor_has_the_instructions_that_the_system_lists() -> None:
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    assert has_bfloat16(CPU) == bool(flags & {"avx512_bf16", "amx_bf16"})


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx2": True}, False), ({"avx512_f": True, "avx512_bf16": False}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)],
)
def test_auto_is_bfloat16_where_the_processor_has_instructions_for_it(
    capabilities: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities))
    assert has_bfloat16(CPU) == expected and select_precision("auto", CPU) == ("bfloat16" if expected else "float32")
    assert select_precision("float32", CPU) == "float32" and select_precision("bfloat16", CPU) == "bfloat16"


@pytest.mark.parametrize("expected", [True, False])
def test_auto_on_a_gpu_asks_for_instructions_and_not_for_emulation(expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: expected or including_emulation)
    assert select_precision("auto", GPU) == ("bfloat16" if expected else "float32")
