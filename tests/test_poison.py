"""No pickle is ever loaded: no call could, code in one does not run, and it would run if the pickle were loaded."""

import ast
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from chain import ROOT, TINY
from poison import POISONS
from tally import Tally

from affectnet.errors import UserError
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.checkpoint import load_model
from affectnet.models.network import build
from affectnet.models.start_weights import load_start_weights
from affectnet.training.resume import TrainingState

UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
RUNNERS = {"eval", "exec", "compile", "__import__"}


def doors(source: str) -> list[str]:
    """The calls and imports in the source that could run code from a file."""
    calls = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            calls += [ast.unparse(node)] * any(name.split(".")[0] in UNPICKLERS for name in names)
        elif isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            wrong = called in RUNNERS or called in {"os.system", "os.popen", "torch.jit.load", "torch.hub.load", "importlib.import_module"}
            wrong |= called in {"torch.load", "load"} and keywords.get("weights_only") != "True"
            wrong |= "allow_pickle" in keywords and keywords["allow_pickle"] != "False"
            wrong |= keywords.get("shell", "False") != "False"
            wrong |= called == "YAML" and keywords.get("typ") not in {"'safe'", "'rt'"}
            calls += [ast.unparse(node)] * wrong
    return calls


def test_nothing_can_turn_a_files_content_into_code() -> None:
    files = [*ROOT.glob("affectnet/**/*.py"), *ROOT.glob("stages/*.py")]
    assert len(files) > 60
    assert {path.name: calls for path in files if (calls := doors(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load as read",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=given)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=given)",
        "import yaml",
        "YAML(typ='unsafe')",
        "eval(text)",
        "exec(text)",
        "__import__(name)",
        "importlib.import_module(name)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "torch.hub.load(name)",
    ],
)
def test_the_rule_sees_each_way(line: str) -> None:
    assert len(doors(f"def f():\n    {line}\n")) == 1
    assert doors("network.eval()\ntorch.load(path, weights_only=True)\nnp.load(path)\nYAML(typ='safe')\n") == []


def unpickle(content: bytes) -> None:
    """Loads the file without protection."""
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    if content.startswith(b"\x93NUMPY"):
        np.load(io.BytesIO(content), allow_pickle=True)
    elif b"ustar" in content[:512]:
        pickle.loads(content[512:])  # noqa: S301 (the subject of this test)
    else:
        file = io.BytesIO(content)
        while file.tell() < len(content):
            pickle.load(file)  # noqa: S301 (the subject of this test)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", POISONS)
def test_code_in_a_pickle_does_not_run_wherever_weights_are_read(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    trace = tmp_path / "trace"
    content = POISONS[name](trace)
    network = build(ModelParams.model_validate(TINY), 8)
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            load_start_weights(network, ModelParams.model_validate({**TINY, "weights": str(path)}))
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    with pytest.raises(UserError) as caught:
        load_model(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    state = TrainingState(tmp_path)
    state.path.write_bytes(content)
    assert state.load() is None
    assert "starting from the first epoch" in capsys.readouterr().err
    assert not trace.exists()
    tally("pickles with code, as start weights, model file and resume state", "refused, no code ran", 4)
    unpickle(content)
    assert trace.exists()
