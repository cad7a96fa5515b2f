"""torchvision as affectnet/vision.py imports it: without torch's compiler, and whole all the same."""

import subprocess
import sys

import pytest
from clones import ROOT


def ask(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", f"import sys\n{code}"], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_answers_starts_without_the_compiler_and_can_have_it_later() -> None:
    said = ask(
        "import affectnet.evaluation\n"
        "import numpy as np\n"
        "from affectnet import Predictor\n"
        "Predictor.load('pretrained/fer2013.safetensors').predict(np.zeros((48, 48), np.uint8), 'whole')\n"
        "print([name for name in sys.modules if name.startswith('torch._dynamo')])\n"
        "from torchvision.ops import roi_align\n"
        "later = sys.modules['torchvision.ops.roi_align'].is_compile_supported\n"
        "answers = [later(device) for device in ('cpu', 'meta')]\n"
        "import torch, torch._dynamo.utils as real\n"
        "assert torch._dynamo.utils is real and answers == [real.is_compile_supported(d) for d in ('cpu', 'meta')]\n"
        "print(answers)\n"
        "boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])\n"
        "print(float(roi_align(torch.ones(1, 1, 8, 8), boxes, 2).sum()))\n"
    )
    assert said.splitlines() == ["[]", "[True, False]", "4.0"]


@pytest.mark.parametrize(
    "wanted",
    ["sys.modules['torch._dynamo'].reset", "sys.modules['torch._dynamo.utils'].counters"],
)
def test_what_else_is_wanted_of_the_compiler_is_the_real_one(wanted: str) -> None:
    """As a later torchvision might want it."""
    said = ask(
        "import affectnet.vision as vision\n"
        "with vision._compiler_later():\n"
        f"    found = {wanted}\n"
        "import torch._dynamo.utils\n"
        "print(found is torch._dynamo.reset or found is torch._dynamo.utils.counters)\n"
        "print([name for name in ('torch._dynamo', 'torch._dynamo.utils') if isinstance(sys.modules[name], vision._Later)])\n"
    )
    assert said.splitlines() == ["True", "[]"]


def test_a_compiler_that_is_there_stays() -> None:
    assert ask("import torch._dynamo as there\nimport affectnet.vision\nprint(sys.modules['torch._dynamo'] is there)") == "True"
