"""torchvision as affectnet/models/torchvision_lazy.py imports it: without torch's compiler, and complete."""

import subprocess
import sys

from clones import ROOT

PROGRAM = """
import importlib, sys
import numpy as np
from affectnet import Predictor
from affectnet.predict import evaluate_folder
from affectnet.models import torchvision_lazy

Predictor.load("pretrained/fer2013.safetensors").predict(np.zeros((48, 48), np.uint8), "whole")
print("after an answer", [name for name in ("torch._dynamo", "torch._dynamo.utils") if name in sys.modules])

with torchvision_lazy._without_compiler():  # as a later torchvision may import it
    reset = sys.modules["torch._dynamo"].reset
import torch, torch._dynamo.utils as utils
print("another attribute", reset is torch._dynamo.reset, type(utils).__name__)

from torchvision.ops import roi_align
pooling = sys.modules["torchvision.ops.roi_align"]
print("asked", [pooling.is_compile_supported(device) == utils.is_compile_supported(device) for device in ("cpu", "meta")])
print("pooled", float(roi_align(torch.ones(1, 1, 8, 8), torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]]), 2).sum()))

there = torch._dynamo
importlib.reload(torchvision_lazy)
print("stays", sys.modules["torch._dynamo"] is there)
"""


def test_a_prediction_runs_without_the_compiler_which_can_be_imported_later() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == [
        "after an answer []",
        "another attribute True module",
        "asked [True, True]",
        "pooled 4.0",
        "stays True",
    ], done.stderr
