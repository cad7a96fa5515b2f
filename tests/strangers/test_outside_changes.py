"""Changes that DVC does not track: start weights replaced under their name, a download edited, a disk that is not mounted, an audit."""

from pathlib import Path

import pytest
from audits import write_audit
from chain import TINY
from clones import Clone
from ruamel.yaml import YAML
from running import executed
from safetensors.torch import load_file, save_file
from trees import noise, tree_folder


@pytest.fixture
def clone(reproduced: Clone, tmp_path: Path) -> Clone:
    return reproduced.copy(tmp_path / "clone")


def test_start_weights_replaced_under_their_name_train_again_and_put_back_come_from_the_cache(clone: Clone, tmp_path: Path) -> None:
    path, model = tmp_path / "start.safetensors", clone.folder / "models" / "model.safetensors"
    yaml, params = YAML(), clone.folder / "params.yaml"
    document = yaml.load(params)
    document["models"]["mine"] = {**TINY, "weights": str(path)}
    document["model"] = "mine"
    yaml.dump(document, params)
    weights = load_file(model)
    save_file(weights, path)
    assert executed(clone.dvc("repro", "train")) == ["train"]
    first = model.read_bytes()
    assert executed(clone.dvc("repro", "train")) == []
    kept = path.read_bytes()
    save_file({name: tensor + (0.1 if tensor.is_floating_point() else 0) for name, tensor in weights.items()}, path)
    assert executed(clone.dvc("repro", "train")) == ["train"]
    assert model.read_bytes() != first
    path.write_bytes(kept)
    assert "Stage 'train' is cached" in clone.dvc("repro", "train")
    assert model.read_bytes() == first
    path.unlink()
    output = clone.dvc("repro", "train")
    assert executed(output) == [] and "not there, the last record kept" in output


def test_an_edited_download_is_seen_and_one_that_is_not_mounted_keeps_what_was_made_of_it(clone: Clone, tmp_path: Path) -> None:
    root = tmp_path / "own"
    tree_folder(root, each=6, tests=2)
    switches = ["dataset=folder", f"datasets.folder.root={root}"]
    clone.dvc("exp", "run", *(part for switch in switches for part in ("-S", switch)), "clean")
    read = clone.metrics("clean")["read"]
    assert executed(clone.dvc("repro", "clean")) == []
    noise(root / "train" / "happy" / "added.png", 4711)
    assert executed(clone.dvc("repro", "clean")) == ["acquire", "verify", "clean"]
    assert clone.metrics("clean")["read"] == read + 1
    (root / "notes.txt").write_text("nothing that a list names")
    assert executed(clone.dvc("repro", "clean")) == ["acquire", "verify", "clean"]
    root.rename(tmp_path / "elsewhere")
    output = clone.dvc("repro", "clean")
    assert executed(output) == [] and "not there or empty, its record kept" in output


def test_an_audit_runs_clean_again_only_where_it_is_used(fresh: Clone, tmp_path: Path) -> None:
    clone = fresh.copy(tmp_path / "clone")
    clone.dvc("repro", "inspect")
    kept, path, params = clone.metrics("clean"), clone.folder / "data" / "label_issues.parquet", clone.folder / "params.yaml"
    write_audit(clone.folder, 3)
    assert executed(clone.dvc("repro", "inspect")) == []
    params.write_text(params.read_text().replace("label_issues: keep", "label_issues: reject"))
    assert executed(clone.dvc("repro", "inspect")) == ["clean", "inspect"]
    assert clone.metrics("clean")["kept"] == kept["kept"] - 3 and "label issue" in (clone.folder / "data" / "cleaning.html").read_text()
    assert executed(clone.dvc("repro", "inspect")) == []
    path.rename(path.with_suffix(".aside"))
    assert executed(clone.dvc("repro", "inspect")) == []  # the record stays, as for start weights
    write_audit(clone.folder, 2)
    done = clone.attempt("dvc", "repro", "inspect")  # of the faces that are left: three are not audited
    assert done.returncode == 0 and clone.metrics("clean")["label_issues"]["not_audited"] == 3
    params.write_text(params.read_text().replace("label_issues: reject", "label_issues: keep"))
    assert "Stage 'clean' is cached" in clone.dvc("repro", "inspect") and clone.metrics("clean") == kept
