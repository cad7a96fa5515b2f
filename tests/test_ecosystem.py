"""The repository in other tools: DVC's model registry, VS Code's extension and Studio, Hugging Face, pandas and torch."""

import json
import re
from pathlib import Path

import dvc.api
import pytest
from clones import Clone
from dvc.repo.artifacts import Artifacts

from affectnet.expressions import EXPRESSIONS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def shared(reproduced: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository that was pushed to a directory as its remote, and whose cache is empty."""
    folder = tmp_path_factory.mktemp("shared")
    author = reproduced.copy(folder / "author")
    author.dvc("remote", "add", "--default", "lab", str(folder / "lab"))
    author.git("commit", "--quiet", "--all", "--message", "the lab's remote")
    author.dvc("push", "models/model.safetensors")
    author.git("tag", "--annotate", "expression@v1.0.0", "--message", "a version, as GTO writes it")
    author.git("clone", "--quiet", ".", str(folder / "bare"))
    return Clone(folder / "bare")


def test_the_model_is_fetched_by_its_name_or_its_path(shared: Clone, reproduced: Clone, tmp_path: Path) -> None:
    model = (reproduced.folder / "models" / "model.safetensors").read_bytes()
    shared.dvc("artifacts", "get", str(shared.folder), "expression", "--out", str(tmp_path / "by_name"))
    shared.dvc("get", str(shared.folder), "models/model.safetensors", "--out", str(tmp_path / "by_path"))
    assert (tmp_path / "by_name").read_bytes() == (tmp_path / "by_path").read_bytes() == model
    assert dvc.api.artifacts_show("expression", repo=str(shared.folder))["path"] == "models/model.safetensors"
    with dvc.api.open("models/model.safetensors", repo=str(shared.folder), mode="rb") as file:
        assert file.read() == model


def test_the_artifact_is_a_models_output_with_a_name_that_a_registry_takes() -> None:
    with dvc.repo.Repo(str(ROOT)) as repo:
        (artifact,) = Artifacts(repo).read()["dvc.yaml"].items()
        assert artifact[0] == "expression" and artifact[1].type == "model"
        assert artifact[1].path in {out.def_path for out in repo.index.outs}


def test_what_an_editors_extension_asks_for_is_json(reproduced: Clone) -> None:
    rows = json.loads(reproduced.dvc("exp", "show", "--json"))
    assert {"workspace"} <= {row["rev"] for row in rows} and not [row["error"] for row in rows if row.get("error")]
    status = json.loads(reproduced.dvc("data", "status", "--json", "--granular"))
    assert not status.get("uncommitted")
    plots = json.loads(reproduced.dvc("plots", "diff", "--json", "--split", "--out", str(reproduced.folder / ".dvc" / "tmp" / "plots")))
    assert not plots.get("errors")
    assert {"confusion", "calibration", "precision_recall", "loss"} <= set(plots["data"])


def test_the_snippets_of_the_data_document_run(reproduced: Clone, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "data.md").read_text().partition("## With other tools")[2]
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 3
    checks = (
        "assert table.sum().sum() == len(rows) > 50",
        "from PIL import Image; assert isinstance(face['image'], Image.Image); "
        f"assert faces['train'].features['expression'].names == {list(EXPRESSIONS)!r}; "
        "assert len(faces['train']) > len(faces['validation']) > 0",
        "assert images.shape[1:] == (64, 64, 3) and len(images) == len(expressions) and expressions.max() < 8",
    )
    offline = ("HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1", f"HF_HOME={tmp_path}")
    for snippet, check in zip(snippets, checks, strict=True):
        reproduced.run("env", *offline, "python", "-c", f"{snippet}\n{check}\n")
