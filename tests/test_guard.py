"""Real commits and pushes through the guard's hooks; it refuses nothing of this repository."""

import base64
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
import torch
from clones import Clone
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save
from trees import LANDMARKS, TREES, download_fer2013_csv, download_huggingface, row

from tools.licensed import LONGEST, SUFFIXES, reason

ROOT = Path(__file__).parent.parent
GUARD = ("python", "-m", "tools.guard")
TABLE = pa.table({"path": ["1/a.jpg"], "expression": [3]})
PHOTOGRAPH = Image.effect_noise((48, 48), 60).convert("RGB")


def written(write: Callable[[Any], object]) -> bytes:
    """The bytes that a function writes to a file."""
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def picture(kind: str, image: Image.Image = PHOTOGRAPH) -> bytes:
    return written(lambda file: image.save(file, kind))


def zipped(file: Any) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "text")


CONTENTS: dict[str, bytes] = {
    "JPEG": picture("JPEG"),
    "PNG": picture("PNG"),
    "Parquet": written(lambda file: pq.write_table(TABLE, file)),
    "Feather": written(lambda file: pyarrow.feather.write_feather(TABLE, file)),
    "ORC": written(lambda file: pyarrow.orc.write_table(TABLE, file)),
    "npy": written(lambda file: np.save(file, np.array("3"))),
    "npz": written(lambda file: np.savez(file, exp=3)),
    "pickle": pickle.dumps({"1/a.jpg": 3}),
    "torch": written(lambda file: torch.save({"weight": torch.ones(2)}, file)),
    "safetensors": save({"weight": torch.ones(2)}),
    "ZIP": written(zipped),
    "no UTF-8": "Zürich".encode("latin-1"),
    "AffectNet 2017": "\n".join(row(f"1/{number:056x}.jpg", expression=number) for number in range(3)).encode(),
    "AffectNet+": json.dumps({"Human-Label": 3, "soft-label": [0.125] * 8}).encode(),
    "landmarks": LANDMARKS.encode(),
    "pixels": b"emotion,pixels\n0," + b" ".join(b"%d" % (number % 256) for number in range(48 * 48)),
    "COCO": json.dumps({"images": [{"id": 1, "file_name": "000001.jpg"}]}).encode(),
    "rows of labels": "".join(f"{number}.png,{number % 8}\n" for number in range(6)).encode(),
    "rows of a document": "".join(f"| train/{number}.jpg | happy |\n" for number in range(6)).encode(),
    "rows of code": "".join(f'    ("anger", "{number}.jpg"),\n' for number in range(6)).encode(),
    "notebook": json.dumps({"outputs": [{"data": {"image/png": base64.encodebytes(picture("PNG")).decode()}}]}).encode(),
    "SVG with a photograph": b'<svg><image href="data:image/jpeg;base64,' + base64.b64encode(picture("JPEG")) + b'"/></svg>',
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
}
NAMED: dict[str, bytes] = {
    "faces/1.JPG": b"",
    "data/inventory.parquet": b"text",
    "data/raw/1_exp.npy": b"3",
    "models/model.onnx": b"text",
    "pretrained/model.pt": b"text",
    "docs/deeper/drawn.png": picture("PNG"),
    "docs/faces.jpg": picture("JPEG"),
    "elsewhere/docs/drawn.png": picture("PNG"),
    "pretrained/model.safetensors": picture("JPEG"),
    "docs/drawn.svg": CONTENTS["SVG with a photograph"],
    "one.csv": b"name,label\nimages/1.jpg,3\n",
    "by id.tsv": b"image_id\texpression\n17\t3\n",
    "deep.json": json.dumps([[{"a": {"1.bmp": 3}}]]).encode(),
    "affectnet2021.lst": b"1_exp.npy 3\n",
    "lines of JSON.json": b"".join(b'{"path": "happy/%d.jpg", "faces": [{"expression": "Happy"}]}\n' % number for number in range(2)),
    "a name with spaces.json": json.dumps([{"image": "AffectNet (2021)/train set/1.jpg", "expression": "Happy"}]).encode(),
    "labels.yaml": b"".join(b"- image: %d.jpg\n  label: Happy\n" % number for number in range(6)),
    "labels.html": b"".join(b"<tr><td>%d.jpg</td><td>Happy</td></tr>\n" % number for number in range(6)),
    "by number.csv": b"id,expression\n17,3\n",
    "a list of points.json": json.dumps({"landmarks": [[0.5, 1.5]] * 68}).encode(),
}
HARMLESS: dict[str, bytes] = {
    "docs/drawn.png": picture("PNG"),
    "docs/drawn.svg": b"<svg><polyline points='" + b"1,2 " * 400 + b"'/></svg>",
    "pretrained/vgg16.safetensors": CONTENTS["safetensors"],
    "metrics/scores.json": json.dumps({"accuracy": [0.5] * 99, "recall": {"Happy": 1.0}}).encode(),
    "metrics/confusion.csv": b"actual,predicted\nHappy,Sad\n",
    "README.md": "κ of docs/a.png, 3 and `1/a.jpg`\n".encode(),
    "empty.txt": b"",
}


class Scratch(Clone):
    """A repository with the guard, its hooks installed, and one commit."""

    def refused(self, name: str, content: bytes) -> list[str]:
        """The lines of the refusal of a commit of the file; checks that it is refused and changes nothing."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.git("add", "--force", name)
        before = self.git("rev-parse", "HEAD")
        done = self.attempt("git", "commit", "--quiet", "--message", "more")
        assert done.returncode != 0 and self.git("rev-parse", "HEAD") == before, name
        self.git("rm", "--quiet", "--cached", name)
        path.unlink()
        return done.stderr.splitlines()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    clone = Scratch(tmp_path_factory.mktemp("guarded") / "clone")
    for name in (
        "affectnet/__init__.py",
        "affectnet/errors.py",
        "affectnet/images/formats.py",
        "tools/guard.py",
        "tools/licensed.py",
        "hooks/pre-commit",
        "hooks/pre-push",
    ):
        (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clone.folder / name)
    clone.git("init", "--quiet", "--initial-branch", "main")
    clone.git("config", "core.hooksPath", "hooks")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "the guard")
    return clone


def test_nothing_of_this_repository_is_refused() -> None:
    done = subprocess.run([sys.executable, *GUARD[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.count("\0")
    assert done.stdout == f"guard: {tracked:,} files, nothing of a data set\n"


@pytest.mark.parametrize("name", CONTENTS)
def test_a_commit_is_refused_by_what_a_file_holds(scratch: Scratch, name: str) -> None:
    (line,) = scratch.refused("notes/harmless.md", CONTENTS[name])
    assert line.startswith("error: notes/harmless.md: ") and "keep it out of Git" in line


@pytest.mark.parametrize("name", NAMED)
def test_a_commit_is_refused_by_what_a_file_is_called_and_by_its_place(scratch: Scratch, name: str) -> None:
    (line,) = scratch.refused(name, NAMED[name])
    assert line.startswith(f"error: {name}: ")


def test_each_refused_file_has_its_line_and_the_others_none(scratch: Scratch, tmp_path: Path) -> None:
    clone = Clone(scratch.copy(tmp_path / "clone").folder)
    for name, content in {**HARMLESS, "a.md": CONTENTS["JPEG"], "b\nc.csv": CONTENTS["pixels"]}.items():
        (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (clone.folder / name).write_bytes(content)
    clone.git("init", "--quiet", "inner")
    Clone(clone.folder / "inner").git("commit", "--quiet", "--allow-empty", "--message", "inner")
    clone.attempt("git", "add", "--all")
    done = clone.attempt("git", "commit", "--message", "more")
    assert done.returncode != 0
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["a.md", "b\\nc.csv", "inner"]
    assert clone.attempt(*GUARD).returncode == clone.attempt(*GUARD, "--staged").returncode == 2
    clone.git("rm", "--quiet", "--force", "--cached", "a.md", "b\nc.csv", "inner")
    clone.git("commit", "--quiet", "--message", "the harmless ones")
    assert set(HARMLESS) <= set(clone.git("ls-files").splitlines())


def test_a_push_is_refused_when_an_earlier_commit_held_a_photograph(scratch: Scratch, tmp_path: Path) -> None:
    clone = scratch.copy(tmp_path / "clone")
    clone.git("init", "--quiet", "--bare", str(tmp_path / "server"))
    clone.git("remote", "add", "server", str(tmp_path / "server"))
    clone.git("push", "--quiet", "server", "main")
    clone.git("switch", "--quiet", "--create", "more")
    (clone.folder / "face.txt").write_bytes(CONTENTS["JPEG"])
    clone.git("add", "face.txt")
    clone.git("commit", "--quiet", "--no-verify", "--message", "past the hook")
    clone.git("rm", "--quiet", "face.txt")
    clone.git("commit", "--quiet", "--message", "mended, but in the history")
    done = clone.attempt("git", "push", "server", "more")
    assert done.returncode != 0 and done.stderr.startswith("error: face.txt: a picture, by its content")
    assert clone.git("ls-remote", "--heads", "server").count("refs/heads/") == 1
    clone.git("reset", "--quiet", "--hard", "main")
    clone.git("push", "--quiet", "server", "more", ":main")
    assert clone.git("ls-remote", "--heads", "server").split("\t")[1:] == ["refs/heads/more\n"]


def test_the_hook_works_in_a_worktree_and_takes_the_python_of_venv_first(scratch: Scratch, tmp_path: Path) -> None:
    clone = scratch.copy(tmp_path / "clone")
    clone.git("worktree", "add", "--quiet", str(tmp_path / "tree"))
    tree = Scratch(tmp_path / "tree")
    assert "a picture" in tree.refused("a.txt", CONTENTS["JPEG"])[0]
    python = tree.folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho its own python >&2\nexit 1\n")
    python.chmod(0o755)
    assert tree.refused("a.txt", b"text") == ["its own python"]


def test_the_pre_commit_tool_has_the_same_hook() -> None:
    (repository,) = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"]
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["entry"], hook["language"]) == ("local", "hooks/pre-commit", "system")
    assert all(os.access(ROOT / "hooks" / name, os.X_OK) for name in ("pre-commit", "pre-push"))


@pytest.mark.filterwarnings("ignore:.*image format is deprecated")
def test_every_format_that_pillow_writes_is_refused_under_any_name() -> None:
    Image.init()
    tried = 0
    for kind in Image.SAVE:
        for mode in ("RGB", "L", "1", "P"):
            try:
                content = picture(kind, PHOTOGRAPH.convert(mode))
            except (OSError, ValueError, KeyError, AttributeError, TypeError, SystemError):
                continue
            tried += 1
            assert reason("notes.md", content, len(content)), (kind, mode)
    assert tried > 60


@pytest.mark.parametrize("download", [download_fer2013_csv, download_huggingface])
def test_files_that_hold_images_are_refused_under_any_name(download: Callable[[Path], object], tmp_path: Path) -> None:
    download(tmp_path)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert reason("notes.md", content, len(content)), path


@pytest.mark.parametrize("layout", TREES)
def test_every_file_of_every_layout_is_refused_under_any_name(layout: str, tmp_path: Path) -> None:
    TREES[layout](tmp_path, each=1, tests=1)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 13
    for path in files:
        if path.name == "data.yaml":  # of YOLO: only the names of the classes
            continue
        content = path.read_bytes()
        assert reason("notes.md", content, len(content)), path


def test_every_file_that_the_pipeline_keeps_of_data_and_models_is_refused(reproduced: Clone) -> None:
    files = [path for folder in ("data", "models") for path in (reproduced.folder / folder).rglob("*") if path.is_file()]
    passed = set()
    for path in files:
        content, name = path.read_bytes(), path.relative_to(reproduced.folder).as_posix()
        if not reason(name, content, len(content)):
            passed.add(path.name)
    assert len(files) > 100 and passed == {"README.md", "box_maps.json", "source.json", "model_card.md"}


@given(st.text(), st.sampled_from(["md", "py", "csv", "json", "txt", ""]))
def test_prose_is_judged_without_error_and_nothing_of_a_data_set_hides_behind_it(prose: str, suffix: str) -> None:
    for content in (prose.encode(errors="replace"), prose.encode(errors="replace") + b"\n" + CONTENTS["AffectNet 2017"]):
        refusal = reason(f"a.{suffix}", content, len(content))
        assert refusal or content == prose.encode(errors="replace")


def test_text_that_is_longer_than_what_is_read_is_refused_and_a_long_picture_recognised() -> None:
    assert "more than any source" in str(reason("a.md", ("ä" * LONGEST).encode()[:LONGEST], 2 * LONGEST))
    assert reason("docs/a.png", CONTENTS["PNG"], 2 * LONGEST) is None
    assert reason("a.png", CONTENTS["PNG"], 2 * LONGEST) == "a picture, by its content"
    assert all(reason(f"a.{suffix}", b"text", 4) for names in SUFFIXES.values() for suffix in names.split() if suffix != "svg")


@pytest.mark.parametrize("argument", [["gone.md"], ["affectnet"], ["--push"]])
def test_a_mistake_on_the_command_line_is_exit_code_2_without_a_traceback(scratch: Scratch, argument: list[str]) -> None:
    done = scratch.attempt(*GUARD, *argument)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_paths_are_looked_at_as_they_lie_on_the_disk(scratch: Scratch) -> None:
    face = scratch.folder / "untracked.txt"
    face.write_bytes(CONTENTS["JPEG"])
    assert scratch.run(*GUARD, "hooks/pre-commit").startswith("guard: 1 file,")
    done = scratch.attempt(*GUARD, "hooks/pre-commit", "untracked.txt")
    face.unlink()
    assert done.returncode == 2 and done.stderr.startswith("error: untracked.txt: a picture")
