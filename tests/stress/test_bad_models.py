"""Model files and start weights that are broken, wrong or malicious: one line each, wherever one is opened."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_files
import numpy as np
import pytest
import torch
from chain import ROOT, TINY, metrics, pipeline_folder, run_data_stages, run_stage
from poison import POISONS
from portraits import drawn
from safetensors.torch import save, save_file
from tally import Tally, every
from trees import tree_2017

from affectnet.__main__ import main as command_line
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.checkpoint import load_model, save_model
from affectnet.models.metadata import METADATA_KEY
from affectnet.models.migrations import FORMAT, OLDEST
from affectnet.models.network import build
from affectnet.models.start_weights import load_start_weights
from affectnet.predict.predictor import Predictor
from affectnet.search.compare import main
from affectnet.tables.face_shards import read_policy

Weights = dict[str, torch.Tensor]
Fields = dict[str, Any]
FIRST, LAST, VARIANCE, COUNT = "features.0.weight", "classifier.1.bias", "features.1.running_var", "features.1.num_batches_tracked"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cropped faces, a valid, evaluated model, and photographs."""
    with pipeline_folder(tmp_path_factory, "prepared") as folder:
        run_data_stages(tree_2017(folder / "root"))
        curve = Path("metrics/train/plots/metrics/train/loss.tsv")
        curve.parent.mkdir(parents=True)
        curve.write_text("step\ttrain/loss\n0\t2.0\n")
        Path("models").mkdir()
        for name in ("good", "model"):
            Path(f"models/{name}.safetensors").write_bytes(whole(*good()))
        shutil.copytree(ROOT / "stages" / "templates", "stages/templates")
        run_stage("evaluate", bootstrap=100)
        Path("labelled/happy").mkdir(parents=True)
        for name in ("face.png", "labelled/happy/1.png"):
            drawn(64).save(name)
    return folder


def good() -> tuple[Fields, Weights]:
    """The content of a valid model file."""
    torch.manual_seed(0)
    weights = {name: tensor.clone() for name, tensor in build(ModelParams.model_validate(TINY), 8).state_dict().items()}
    fields: Fields = json.loads(json.dumps(vars(model_files.metadata(crop=read_policy(Path("data/faces"), "test")))))
    return fields, weights


def whole(metadata: Fields | str, weights: Weights) -> bytes:
    content: bytes = save(weights, metadata={METADATA_KEY: metadata if isinstance(metadata, str) else json.dumps(metadata)})
    return content


def of(**changes: Any) -> Callable[[Path], bytes]:
    """A valid file with these values of its metadata."""

    def make(_: Path) -> bytes:
        metadata, weights = good()
        return whole({**metadata, **changes}, weights)

    return make


def network(architecture: object) -> Fields:
    """The network in the metadata of a valid file; for another than VGG without VGG's settings."""
    entry = model_files.metadata().model
    others = set() if str(architecture).startswith("vgg") else {"width", "head"}
    return {name: value for name, value in entry.items() if name not in others}


def network_of(**changes: Any) -> Callable[[Path], bytes]:
    return of(model={**network(changes.get("architecture", "vgg16_bn")), **changes})


def crop_of(drop: str = "", **changes: Any) -> Callable[[Path], bytes]:
    """A valid file with these fields of its crop policy, and without the named one."""

    def make(_: Path) -> bytes:
        metadata, weights = good()
        crop = {name: value for name, value in {**metadata["crop"], **changes}.items() if name != drop}
        return whole({**metadata, "crop": crop}, weights)

    return make


def tensors(change: Callable[[Weights], object]) -> Callable[[Path], bytes]:
    """A valid file with its weights changed by the function."""

    def make(_: Path) -> bytes:
        metadata, weights = good()
        change(weights)
        return whole(metadata, weights)

    return make


def filled(name: str, value: float) -> Callable[[Path], bytes]:
    return tensors(lambda weights: weights[name].reshape(-1)[:1].fill_(value))


def replaced(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], bytes]:
    return tensors(lambda weights: weights.update({name: change(weights[name])}))


def raw(change: Callable[[bytes], bytes]) -> Callable[[Path], bytes]:
    """The bytes of a valid file, changed."""
    return lambda _: change(whole(*good()))


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], bytes]:
    """A valid file with another header."""

    def make(_: Path) -> bytes:
        content = whole(*good())
        (length,) = struct.unpack("<Q", content[:8])
        fields = json.loads(content[8 : 8 + length])
        change(fields)
        text = json.dumps(fields).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return make


def text(content: str) -> Callable[[Path], bytes]:
    return lambda _: whole(content, good()[1])


def claims(size: int) -> Callable[[Path], bytes]:
    return raw(lambda content: struct.pack("<Q", size) + content[8:])


NAN, INF = float("nan"), float("inf")
FILES: dict[str, Callable[[Path], bytes]] = {
    **POISONS,
    "no byte": lambda _: b"",
    "seven bytes": raw(lambda content: content[:7]),
    "only the header": raw(lambda content: content[: 8 + struct.unpack("<Q", content[:8])[0]]),
    "half": raw(lambda content: content[: len(content) // 2]),
    "one byte short": raw(lambda content: content[:-1]),
    "one byte more": raw(lambda content: content + b"\0"),
    "zeros": raw(lambda content: bytes(len(content))),
    "header of no byte": claims(0),
    "header longer than the file": claims(1 << 20),
    "header of 2^63 bytes": claims(1 << 63),
    "header of 2^64 - 1 bytes": claims((1 << 64) - 1),
    "header that is no JSON": raw(lambda content: content[:8] + b"}" + content[9:]),
    "header nested deep": lambda _: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "offsets beyond the end": header(lambda fields: fields[LAST]["data_offsets"].__setitem__(1, 1 << 40)),
    "offsets below zero": header(lambda fields: fields[LAST]["data_offsets"].__setitem__(0, -4)),
    "offsets that overlap": header(lambda fields: fields[LAST].update(data_offsets=[0, 32])),
    "offsets in the wrong order": header(lambda fields: fields[LAST].update(data_offsets=[32, 0])),
    "shape beyond 2^64": header(lambda fields: fields[LAST].update(shape=[1 << 40, 1 << 40])),
    "shape larger than its bytes": header(lambda fields: fields[LAST].update(shape=[1 << 30])),
    "shape of text": header(lambda fields: fields[LAST].update(shape="8")),
    "dtype unknown": header(lambda fields: fields[LAST].update(dtype="F99")),
    "dtype of other bytes": header(lambda fields: fields[LAST].update(dtype="F64")),
    "dtype of half": header(lambda fields: fields[LAST].update(dtype="F16", shape=[16])),
    "metadata that is no text": header(lambda fields: fields["__metadata__"].update({METADATA_KEY: {"format": FORMAT}})),
    "no metadata": header(lambda fields: fields.pop("__metadata__")),
    "other metadata": header(lambda fields: fields.update(__metadata__={"format": "pt"})),
    "tensor missing": tensors(lambda weights: weights.pop(LAST)),
    "tensor too many": tensors(lambda weights: weights.update({"evil": torch.zeros(2)})),
    "tensor renamed": tensors(lambda weights: weights.update({"classifier.1.bias ": weights.pop(LAST)})),
    "no tensor": tensors(lambda weights: weights.clear()),
    "empty tensor": replaced(LAST, lambda tensor: tensor[:0]),
    "tensor turned": replaced(FIRST, lambda tensor: tensor.transpose(0, 1).contiguous()),
    "tensor flat": replaced(FIRST, lambda tensor: tensor.flatten()),
    "tensor of one number": replaced(LAST, lambda tensor: tensor.sum()),
    "tensor of integers": replaced(LAST, lambda tensor: tensor.int()),
    "tensor of float64": replaced(LAST, lambda tensor: tensor.double()),
    "tensor of bfloat16": replaced(LAST, lambda tensor: tensor.bfloat16()),
    "tensor of float8": replaced(LAST, lambda tensor: tensor.to(torch.float8_e4m3fn)),
    "tensor of complex": replaced(LAST, lambda tensor: tensor.to(torch.complex64)),
    "tensor of truths": replaced(LAST, lambda tensor: tensor > 0),
    "NaN in the head": filled(LAST, NAN),
    "NaN in the trunk": filled(FIRST, NAN),
    "infinity in the trunk": filled(FIRST, INF),
    "NaN in a variance": filled(VARIANCE, NAN),
    "weights of the largest numbers": replaced(FIRST, lambda tensor: tensor.fill_(3e38)),
    "variance below zero": replaced(VARIANCE, lambda tensor: tensor.fill_(-1)),
    "heads of the largest numbers": replaced("classifier.1.weight", lambda tensor: tensor.fill_(3e38)),
    "no JSON": text("{"),
    "no text": text(""),
    "a list": text("[]"),
    "a number": text("3"),
    "null": text("null"),
    "nested deep": text("[" * 100_000),
    "mappings nested deep": text('{"model":' * 100_000),
    "nested deep in training": text(f'{{"format": {FORMAT}, "training": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "no format": of(format=None),
    "later format": of(format=99),
    "format 2": of(format=2),
    "format 3 of another form": of(format=3, model={}),
    "format 3 without a network": of(format=3, model=None),
    "format of text": of(format=str(FORMAT)),
    "label twice": of(labels=["Happy", *EXPRESSIONS[1:]]),
    "too many labels": of(labels=[*EXPRESSIONS, "None"]),
    "too few labels": of(labels=list(EXPRESSIONS[:7])),
    "no label": of(labels=[]),
    "labels as text": of(labels="Happy"),
    "labels as numbers": of(labels=list(range(8))),
    "labels as lists": of(labels=[[name] for name in EXPRESSIONS]),
    "labels with a line feed": of(labels=["Happy\nSad", *EXPRESSIONS[1:]]),
    "affect not learned": of(affect=True),
    "temperature NaN": of(temperature=NAN),
    "temperature infinite": of(temperature=INF),
    "temperature 0": of(temperature=0.0),
    "temperature below 0": of(temperature=-1.0),
    "temperature of next to nothing": of(temperature=1e-300),
    "image_px below 0": of(image_px=-32),
    "image_px 0": of(image_px=0),
    "image_px of another network": of(image_px=64),
    "image_px of a thousand million": of(image_px=10**9, model={**model_files.metadata().model, "image_px": 10**9}),
    "image_px broken": of(image_px=32.5),
    "std 0": of(std=[0.2, 0.0, 0.2]),
    "std below 0": of(std=[-0.2, 0.2, 0.2]),
    "std of next to nothing": of(std=[1e-300] * 3),
    "std of two": of(std=[0.2, 0.2]),
    "grey as a number": of(grey=1),
    "mean NaN": of(mean=[NAN, 0.5, 0.5]),
    "mean as text": of(mean="abc"),
    "mean of four": of(mean=[0.5] * 4),
    "mean of the largest numbers": of(mean=[1e300] * 3),
    "crop of another policy": of(crop={"image_px": 99}),
    "crop as a list": of(crop=["image_px"]),
    "crop without its margin": crop_of(drop="margin"),
    "crop of no field": of(crop={}),
    "crop margin NaN": crop_of(margin=NAN),
    "crop image_px of a thousand million": crop_of(image_px=10**9),
    "crop image_px as text": crop_of(image_px="224"),
    "crop padding of nobody": crop_of(padding="mirror"),
    "crop square as a number": crop_of(square=1),
    "crop of a later version": crop_of(sharpen=0.5),
    "training without its epoch": of(training={"score": 0.5}),
    "training without its score": of(training={"epoch": 1}),
    "score NaN": of(training={"epoch": 1, "score": NAN}),
    "validation loss infinite": of(training={"epoch": 1, "score": 0.5, "validation/loss": INF}),
    "validation score as text": of(training={"epoch": 1, "score": 0.5, "validation/macro_f1": "0.99"}),
    "epoch of 5,000 digits": text(json.dumps({"training": {"epoch": 0, "score": 1}}).replace('"epoch": 0', '"epoch": 1' + "0" * 5000)),
    "architecture of nobody": network_of(architecture="vgg17"),
    "architecture of a giant": network_of(architecture="vit_h_14", image_px=518),
    "architecture of timm's giant": network_of(architecture="timm/vit_giant_patch14_dinov2"),
    "architecture of RegNet": network_of(architecture="regnet_y_400mf"),
    "architecture from a hub": network_of(architecture="timm/hf-hub:somebody/something"),
    "architecture from a folder": network_of(architecture="timm/local-dir:/tmp"),
    "architecture as a module": network_of(architecture="os.system"),
    "architecture as a path": network_of(architecture="../../evil.py"),
    "architecture that detects": network_of(architecture="fasterrcnn_resnet50_fpn"),
    "architecture that is quantised": network_of(architecture="quantized_resnet18"),
    "architecture as a number": network_of(architecture=3),
    "width 0": network_of(width=0.0),
    "width above 1": network_of(width=1e9),
    "width NaN": network_of(width=NAN),
    "dropout 1": network_of(dropout=1.0),
    "head of another": network_of(head="original"),
    "freeze_epochs below 0": network_of(freeze_epochs=-1),
    "key of nobody": of(evil=1),
    "key of nobody in the network": network_of(evil=1),
    **{f"without {key}": text(json.dumps({"format": FORMAT, key: None})) for key in ("model", "labels", "crop")},
}  # fmt: skip


OPENED_UNASKED = {"weights of the largest numbers", "variance below zero", "heads of the largest numbers"}
"""Files that are valid until the network predicts."""

OPENINGS: dict[str, Callable[[Path], object]] = {
    "evaluate": lambda _: run_stage("evaluate"),
    "report": lambda _: run_stage("report"),
    "export": lambda _: run_stage("export"),
    "compare": lambda _: main(),
    "Predictor.load": Predictor.load,
}
COMMANDS = (
    ("predict", "face.png", "--whole", "--model", "models/model.safetensors"),
    ("evaluate", "models/model.safetensors", "labelled"),
    ("info", "models/model.safetensors"),
    ("demo", "--port", "0", "--model", "models/model.safetensors"),
)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", every(list(FILES), 20))
def test_a_bad_model_file_is_one_line_wherever_it_is_opened(
    name: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    monkeypatch.chdir(prepared)
    trace, model = tmp_path / "trace", Path("models/model.safetensors")
    model.write_bytes(FILES[name](trace))
    monkeypatch.setattr("sys.argv", ["compare", str(model), "models/good.safetensors", "--draws", "100"])
    for opening, opened in OPENINGS.items():
        if name in OPENED_UNASKED and opening in {"Predictor.load", "report"}:
            continue
        with pytest.raises(UserError) as caught:
            opened(model)
        assert str(model) in str(caught.value) and "\n" not in str(caught.value), opening
        tally("bad model files", "one line")
    assert not trace.exists() and capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", every(list(FILES), 20))
def test_a_bad_model_file_is_one_line_for_each_command(
    name: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    monkeypatch.chdir(prepared)
    trace, model = tmp_path / "trace", Path("models/model.safetensors")
    model.write_bytes(FILES[name](trace))
    for command, *arguments in COMMANDS:
        if name in OPENED_UNASKED and command in {"demo", "info"}:
            continue
        code = command_line([command, *arguments])
        out, err = capsys.readouterr()
        assert code == 2 and out == "" and "Traceback" not in err, (command, err)
        *warnings, last = err.splitlines()
        assert last.startswith("error: ") and str(model) in last and not warnings, command
        tally("bad model files", "one line")
    assert not trace.exists()


@pytest.mark.parametrize("name", every(list(FILES), 20))
def test_a_bad_model_file_as_start_weights_is_one_line_or_sound(
    name: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    monkeypatch.chdir(prepared)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(FILES[name](tmp_path / "trace"))
    network = build(ModelParams.model_validate(TINY), 8)
    try:
        load_start_weights(network, ModelParams.model_validate({**TINY, "weights": str(path)}))
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    assert not (tmp_path / "trace").exists()
    tally("bad model files as start weights", "one line, or sound")


@pytest.mark.parametrize(
    "changes", [{"evil": 1}, {"model": {**model_files.metadata().model, "evil": 1}}, {"crop": {"evil": 1}}, {"format": FORMAT + 1}]
)
def test_what_a_later_version_wrote_is_called_that(
    changes: Fields, tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    crop = {**good()[0]["crop"], **changes.get("crop", {})}
    path = tmp_path / "later.safetensors"
    path.write_bytes(of(**{**changes, "crop": crop})(tmp_path))
    with pytest.raises(UserError, match="written by a later version; update this project"):
        load_model(path)


def test_the_good_file_of_the_same_making_is_taken(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)
    Path("models/model.safetensors").write_bytes(Path("models/good.safetensors").read_bytes())
    run_stage("evaluate")
    assert metrics("evaluate")["faces"] == 16


FOUL: tuple[Any, ...] = (None, True, -1, 0, 3, -0.5, 1e400, NAN, "", "x", [], {}, [None], {"x": None}, [0.5, 0.5, 0.5], 10**30)
HARMLESS = {"data", "versions"}
"""Metadata that evaluate does not use."""
KEYS = ("model", "labels", "affect", "temperature", "image_px", "mean", "std", "grey", "crop", "data", "training", "versions", "format")


@pytest.mark.parametrize("key", every(KEYS, 3))
def test_a_card_with_any_value_at_any_place_is_one_line_or_as_good(
    key: str, prepared: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    monkeypatch.chdir(prepared)
    model = Path("models/model.safetensors")
    metadata, weights = good()
    inner = {name: value for name, value in metadata.items() if isinstance(value, dict) and name == key}
    changed = [{**metadata, key: value} for value in FOUL]
    changed += [{**metadata, key: {**inner[key], name: value}} for name in inner.get(key, {}) for value in FOUL]
    changed += [{name: value for name, value in metadata.items() if name != key}]
    for content in changed:
        model.write_bytes(whole(content, weights))
        try:
            run_stage("evaluate", bootstrap=100)
        except UserError as error:
            assert str(model) in str(error) and "\n" not in str(error)
            tally("model cards with a foul value", "one line")
        else:
            older = key == "format" and content[key] in range(OLDEST, FORMAT)  # read by a migration
            assert key in HARMLESS or older or sound(content[key], metadata[key])
            tally("model cards with a foul value", "taken, and sound")


def sound(value: Any, was: Any) -> bool:
    """Whether an accepted value is valid: the right one, a number in its range, or part of a mapping without influence on the result."""
    if type(value) is type(was) and (isinstance(was, bool) or value == was):
        return True
    if isinstance(was, dict):
        return isinstance(value, dict)
    return isinstance(was, float | list) and bool(np.isfinite(np.asarray(value, float)).all())


@pytest.mark.stress
def test_a_flipped_byte_in_the_header_is_one_line_or_of_no_consequence(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    monkeypatch.chdir(prepared)
    model = Path("models/flipped.safetensors")
    save_model(model, load_model(Path("models/good.safetensors"))[0], model_files.metadata())  # with a checksum
    content = model.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    generator = np.random.default_rng(0)
    for _ in range(3000):
        spoiled = bytearray(content)
        spoiled[int(generator.integers(8 + length))] = int(generator.integers(256))
        model.write_bytes(spoiled)
        try:
            _, metadata = load_model(model)
        except UserError as error:
            assert str(error).startswith(str(model)) and "\n" not in str(error)
            tally("model files with a flipped byte", "one line")
        else:
            assert set(metadata.labels) == set(EXPRESSIONS) and metadata.image_px == 32
            tally("model files with a flipped byte", "read")


STATES: dict[str, Callable[[Weights], object]] = {
    "names that are numbers": lambda weights: dict(enumerate(weights.values())),
    "a list": lambda weights: list(weights.values()),
    "one tensor": lambda weights: weights[FIRST],
    "nothing": lambda weights: None,
    "nested below an unknown name": lambda weights: {"unknown": weights},
    "a tensor missing": lambda weights: {name: tensor for name, tensor in weights.items() if name != FIRST},
    "another shape": lambda weights: {**weights, FIRST: weights[FIRST][:, :1]},
    "NaN": lambda weights: {**weights, FIRST: weights[FIRST] * NAN},
    "infinity": lambda weights: {**weights, FIRST: weights[FIRST] * INF},
    "float64 beyond float32": lambda weights: {**weights, FIRST: weights[FIRST].double() * 1e300},
    "sparse": lambda weights: {**weights, FIRST: weights[FIRST].to_sparse()},
    "complex": lambda weights: {**weights, FIRST: weights[FIRST].to(torch.complex64)},
    "described only": lambda weights: {**weights, FIRST: weights[FIRST].to("meta")},
    "quantised": lambda weights: {**weights, FIRST: torch.quantize_per_tensor(weights[FIRST], 0.1, 0, torch.qint8)},
    "text among tensors": lambda weights: {**weights, "epoch": "3"},
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch warns about sparse and quantised tensors
@pytest.mark.parametrize("name", STATES)
def test_start_weights_that_are_none_are_one_line(name: str, tmp_path: Path, tally: Tally) -> None:
    network = build(ModelParams.model_validate(TINY), 8)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    path = tmp_path / "weights.pth"
    torch.save(STATES[name](dict(network.state_dict())), path)
    with pytest.raises(UserError) as caught:
        load_start_weights(network, ModelParams.model_validate({**TINY, "weights": str(path)}))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    tally("start weights that are none", "one line")


def test_start_weights_whose_header_lies_are_one_line(tmp_path: Path, tally: Tally) -> None:
    network = build(ModelParams.model_validate(TINY), 8)
    path = tmp_path / "weights.safetensors"
    save_file(dict(network.state_dict()), path)
    content = path.read_bytes()
    for spoiled in (b"", content[:7], content[:-1], struct.pack("<Q", 1 << 63) + content[8:], b"\x80\x04]" + content, bytes(2000)):
        path.write_bytes(spoiled)
        with pytest.raises(UserError) as caught:
            load_start_weights(network, ModelParams.model_validate({**TINY, "weights": str(path)}))
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
        tally("start weights that are none", "one line")
