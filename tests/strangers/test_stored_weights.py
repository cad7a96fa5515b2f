"""Start weights as public repositories store them: unwrapped and logged, or refused in one line that says what to save."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chain import TINY

from affectnet.errors import UserError
from affectnet.models.backbones.registry import ModelParams, backbone_of
from affectnet.models.network import build
from affectnet.models.start_weights import load_start_weights

State = dict[str, torch.Tensor]


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


STORED: dict[str, tuple[Callable[[State], Any], str]] = {
    "plain": (lambda state: state, ""),
    "DataParallel": (lambda state: prefixed("module.", state), "module."),
    "next to the epoch": (lambda state: {"epoch": 3, "state_dict": state, "acc": 0.6}, "state_dict"),
    "next to the iteration": (lambda state: {"model_state_dict": state, "iter": 10}, "model_state_dict"),
    "below model": (lambda state: {"model": state, "optimizer": {"lr": 0.1}}, "model"),
    "DataParallel next to a tensor": (
        lambda state: {"state_dict": prefixed("module.", state), "best_acc": torch.tensor(0.6)},
        "state_dict module.",
    ),
    "Lightning": (
        lambda state: {"state_dict": prefixed("model.", state), "hyper_parameters": argparse.Namespace(lr=1)},
        "state_dict model.",
    ),
    "a trunk": (lambda state: prefixed("backbone.", state), "backbone."),
    "a trunk within a wrapper": (lambda state: prefixed("module.backbone.", state), "module. backbone."),
    "half precision": (lambda state: {name: tensor.half() for name, tensor in state.items()}, ""),
    "without counters": (lambda state: {name: tensor for name, tensor in state.items() if "num_batches" not in name}, ""),
    "without a head": (lambda state: {name: tensor for name, tensor in state.items() if not name.startswith("classifier")}, ""),
}


def model(weights: object) -> ModelParams:
    return ModelParams.model_validate({**TINY, "weights": str(weights)})


@pytest.fixture(scope="module")
def source() -> torch.nn.Module:
    torch.manual_seed(3)
    return build(model("none"), 8)


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("suffix", ["pth", "ckpt", "tar"])
def test_weights_fill_the_trunk_however_they_are_stored(source: torch.nn.Module, tmp_path: Path, name: str, suffix: str) -> None:
    store, unwrapped = STORED[name]
    path = tmp_path / f"weights.{suffix}"
    torch.save(store(dict(source.state_dict())), path)
    network = build(model("none"), 8)
    started = load_start_weights(network, model(path))
    assert " ".join(started.unwrapped) == unwrapped and str(started).endswith(f"unwrapped from {unwrapped}" if unwrapped else str(path))
    head, precision = backbone_of("vgg16_bn").head(network) + ".", 1e-3 if name == "half precision" else 0.0
    for key, tensor in source.state_dict().items():
        if not key.startswith(head):
            torch.testing.assert_close(network.state_dict()[key], tensor, rtol=precision, atol=precision)


def test_a_prefix_that_only_some_names_have_is_kept(source: torch.nn.Module, tmp_path: Path) -> None:
    state = dict(source.state_dict())
    torch.save({**prefixed("backbone.", state), "fc.weight": torch.zeros(8, 3)}, tmp_path / "weights.pth")
    with pytest.raises(
        UserError, match=r"91 of 91 tensors are missing .* first features.0.weight; the weights have \d+: backbone.features"
    ):
        load_start_weights(build(model("none"), 8), model(tmp_path / "weights.pth"))


def scripted(network: torch.nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(network.eval(), torch.zeros(1, 3, 32, 32)), str(path))  # type: ignore[no-untyped-call]


REFUSED: dict[str, tuple[Callable[[torch.nn.Module, Path], None], str]] = {
    "a whole network": (torch.save, r"holds more than tensors, \d+: torch.nn.modules.*save its state_dict\(\)"),
    "a TorchScript archive": (scripted, r"a TorchScript archive, which is a program; save its state_dict\(\)"),
    "a list of tensors": (lambda network, path: torch.save(list(network.state_dict().values()), path), "holds no state dict"),
    "an old pickle": (
        lambda network, path: torch.save(network, path, _use_new_zipfile_serialization=False),
        r"unreadable weights \(UnpicklingError\); save the network's state_dict\(\)",
    ),
}


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_state_dict_is_one_line_without_advice_that_runs_code(
    source: torch.nn.Module, tmp_path: Path, name: str, recwarn: pytest.WarningsRecorder
) -> None:
    save, said = REFUSED[name]
    save(source, tmp_path / "weights.pt")
    recwarn.clear()
    with pytest.raises(UserError, match=said) as caught:
        load_start_weights(build(model("none"), 8), model(tmp_path / "weights.pt"))
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value) and not recwarn.list
