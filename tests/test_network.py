from pathlib import Path
from typing import Any

import pytest
import torch
from chain import TINY
from safetensors.torch import save_file

from affectnet.errors import UserError
from affectnet.network import ModelParams, build, head_name, start, trunk_parameters

SMALL = {**TINY, "dropout": 0.0}


def params(**changes: Any) -> ModelParams:
    return ModelParams.model_validate({**SMALL, **changes})


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_vgg16_is_simonyans_network_with_as_many_parameters_as_the_paper_counts() -> None:
    with torch.device("meta"):
        network = build(params(architecture="vgg16", width=1.0, head="original"), 1000)
    assert count(network) == 138_357_544


def test_a_quarter_of_the_channels_keeps_the_topology() -> None:
    network = build(params(width=0.25), 8)
    convolutions = [module.out_channels for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert convolutions == [16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128]
    assert count(network) < 1_000_000


@pytest.mark.parametrize("architecture", ["vgg11", "resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("outputs", [7, 8])
def test_head_gives_as_many_logits_as_asked(architecture: str, outputs: int) -> None:
    vgg = architecture.startswith("vgg")
    network = build(params(architecture=architecture, width=0.25 if vgg else 1.0, head="original"), outputs).eval()
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, outputs)
    frozen = sum(parameter.numel() for parameter in trunk_parameters(network))
    assert 0 < frozen < count(network)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "vgg17"}, "no classifier 'vgg17'"),
        ({"architecture": "resnet18", "width": 0.5, "head": "original"}, "for the VGG family"),
        ({"architecture": "squeezenet1_0", "width": 1.0, "head": "original"}, "last layer of SqueezeNet is not linear"),
    ],
)
def test_a_network_that_cannot_be_had_is_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(params(**changes), 8)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_weights_fill_the_trunk_and_leave_the_head(tmp_path: Path, suffix: str) -> None:
    source, network = build(params(), 5), build(params(), 8)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    head = network.get_submodule(head_name(network))[-1].weight.clone()  # type: ignore[index]
    start(network, params(weights=str(path)))
    given, found = source.state_dict(), network.state_dict()
    assert all(torch.equal(given[name], found[name]) for name in given if name.startswith("features"))
    assert torch.equal(head, found["classifier.1.weight"])


class Poison:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


def test_weights_that_are_missing_broken_foreign_or_poisoned_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = build(params(), 8)
    paths = {name: tmp_path / name for name in ("missing.pth", "broken.pth", "broken.safetensors", "poison.pth", "list.pth", "other.pth")}
    for name in ("broken.pth", "broken.safetensors"):
        paths[name].write_bytes(b"not weights")
    torch.save({"a": Poison()}, paths["poison.pth"])
    torch.save([1, 2], paths["list.pth"])
    torch.save(build(params(width=0.125), 8).state_dict(), paths["other.pth"])
    for path in paths.values():
        with pytest.raises(UserError) as caught:
            start(network, params(weights=str(path)))
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_weights_that_cannot_be_downloaded_are_one_line_and_no_random_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    network = build(params(width=1.0), 8)
    with pytest.raises(UserError, match=r"IMAGENET1K_V1: could not be downloaded \(no route\)"):
        start(network, params(width=1.0, weights="IMAGENET1K_V1"))
