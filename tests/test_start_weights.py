import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from chain import tiny
from safetensors.torch import save_file
from torchvision.models._api import Weights, WeightsEnum

from affectnet.errors import UserError
from affectnet.models.backbones.registry import ModelParams, backbone_of
from affectnet.models.network import build
from affectnet.models.start_weights import load_start_weights


def params(**changes: Any) -> ModelParams:
    return ModelParams.model_validate(tiny(**{"dropout": 0.0, **changes}))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_weights_fill_the_trunk_and_leave_the_head(tmp_path: Path, suffix: str) -> None:
    source, network = build(params(), 5), build(params(), 8)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    head = network.get_submodule(backbone_of("vgg16_bn").head(network))[-1].weight.clone()  # type: ignore[index]
    started = load_start_weights(network, params(weights=str(path)))
    assert started.weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and started.unwrapped == ()
    source_state, loaded_state = source.state_dict(), network.state_dict()
    assert all(torch.equal(source_state[name], loaded_state[name]) for name in source_state if name.startswith("features"))
    assert torch.equal(head, loaded_state["classifier.1.weight"])


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
            load_start_weights(network, params(weights=str(path)))
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_weights_that_cannot_be_downloaded_are_one_line_and_no_random_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    network = build(params(width=1.0), 8)
    with pytest.raises(UserError, match=r"IMAGENET1K_V1: could not be downloaded \(no route\)"):
        load_start_weights(network, params(width=1.0, weights="IMAGENET1K_V1"))


def test_timms_own_weights_come_by_name_and_their_absence_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = params(architecture="timm/efficientnet_b0", weights="pretrained")
    source = build(entry, 1000)
    monkeypatch.setattr("timm.create_model", lambda *_, **__: source)
    network = build(entry, 1000)
    started = load_start_weights(network, entry)
    assert started.weights.version and len(started.weights.sha256 or "") == 64
    assert torch.equal(network.state_dict()["conv_stem.weight"], source.state_dict()["conv_stem.weight"])

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(UserError, match=r"timm/efficientnet_b0 pretrained: could not be downloaded \(no route\)"):
        load_start_weights(network, entry)


def test_torchvisions_weights_are_held_against_their_published_hash_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = build(params(), 5)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()

    class Published(WeightsEnum):  # type: ignore[misc]
        V1 = Weights(url=f"https://example.org/vgg-{sha256[:8]}.pth", transforms=torch.nn.Identity, meta={})

    monkeypatch.setattr("affectnet.models.backbones.torchvision.models.get_model_weights", lambda _: Published)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / f"vgg-{sha256[:8]}.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    network = build(params(), 8)
    assert load_start_weights(network, params(weights="V1")).weights.sha256 == sha256
    assert torch.equal(network.state_dict()["features.0.weight"], source.state_dict()["features.0.weight"])
    cached.write_bytes(content + b"0")
    with pytest.raises(UserError, match=rf"vgg-{sha256[:8]}.pth: SHA-256 begins \w+, torchvision's {sha256[:8]}; remove the file"):
        load_start_weights(network, params(weights="V1"))
    with pytest.raises(UserError, match=r"V2: vgg16_bn has no such weights; models.<name>.weights takes none, V1 or a local file"):
        load_start_weights(network, params(weights="V2"))
