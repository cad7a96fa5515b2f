"""The wheel in an environment that has its requirements and nothing else: small, without torch, DVC and OpenCV, from any folder."""

import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path, PurePosixPath

import pytest
from chain import ROOT, TINY
from model_files import metadata as metadata_of
from packaging.requirements import Requirement
from portraits import drawn

from affectnet.engines.onnx_export import export_network
from affectnet.images.crop_policy import CropPolicy
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.network import build
from affectnet.params import read_document

PROJECT = "affectnet-pipeline"
BUILD = "import setuptools.build_meta, sys; print(setuptools.build_meta.build_wheel(sys.argv[1]))"
MOST_BYTES, MOST_REQUIREMENTS = 300_000_000, 12
FOREIGN = ("cv2", "dvc", "pandas", "pyarrow", "ruamel", "safetensors", "scipy", "sklearn", "stages", "torch")


def wheel(folder: Path) -> Path:
    """The project's wheel, built from a copy without what other builds left."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    for name in names:
        if name.startswith(("affectnet/", "stages/")) or "/" not in name:
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    (folder / "wheels").mkdir()
    subprocess.run([sys.executable, "-c", BUILD, folder / "wheels"], cwd=folder / "source", check=True, capture_output=True)
    (built,) = (folder / "wheels").glob("*.whl")
    return built


def requirements(of: Sequence[str]) -> Iterator[Requirement]:
    """Those without an extra that hold on this machine."""
    for text in of:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def closure(direct: Sequence[Requirement]) -> dict[str, Distribution]:
    """The installed distributions of the requirements and of theirs, by name."""
    needed: dict[str, Distribution] = {}
    todo = list(direct)
    while todo:
        name = todo.pop().name
        if name not in needed:
            needed[name] = distribution(name)
            todo += requirements(needed[name].requires or [])
    return needed


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def metadata(built: Path) -> list[str]:
    """The lines of the wheel's METADATA."""
    with zipfile.ZipFile(built) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode().splitlines()


@pytest.fixture(scope="module")
def needed(metadata: list[str]) -> dict[str, Distribution]:
    declared = [line.removeprefix("Requires-Dist: ") for line in metadata if line.startswith("Requires-Dist: ")]
    direct = list(requirements(declared))
    assert len(direct) <= MOST_REQUIREMENTS
    return closure(direct)


@pytest.fixture(scope="module")
def environment(built: Path, needed: dict[str, Distribution], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and links to the files of its requirements."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(packages)
    for each in needed.values():
        for top in {PurePosixPath(str(file)).parts[0] for file in each.files or []} - {"..", "__pycache__"}:
            (packages / top).symlink_to(Path(str(each.locate_file(top))).resolve())
    command = folder / "bin" / "affectnet"
    command.write_text(f"#!{folder}/bin/python\nfrom affectnet.__main__ import main\nraise SystemExit(main())\n")
    command.chmod(0o755)
    return folder / "bin"


def run(environment: Path, folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [environment / str(command[0]), *map(str, command[1:])], check=False, cwd=folder, env={}, capture_output=True, text=True
    )


def test_the_wheel_holds_the_package_and_the_shipped_model_and_is_small(built: Path, needed: dict[str, Distribution]) -> None:
    with zipfile.ZipFile(built) as archive:
        names, content_bytes = archive.namelist(), sum(entry.file_size for entry in archive.infolist())
    assert {"affectnet/py.typed", "affectnet/pretrained/fer2013.onnx", "affectnet/pretrained/fer2013.md"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"affectnet", next(name for name in names if "dist-info" in name).split("/")[0]}
    assert not needed.keys() & {"torch", "dvc", "opencv-python-headless", "pandas", "pyarrow", "scipy", "scikit-learn"}
    files = {str(each.locate_file(file)) for each in needed.values() for file in each.files or []}
    size = content_bytes + sum(Path(file).stat().st_size for file in files if Path(file).is_file())
    assert size <= MOST_BYTES, f"{size:,} bytes"


def test_every_extra_is_part_of_all(metadata: list[str]) -> None:
    extras = {line.removeprefix("Provides-Extra: ") for line in metadata if line.startswith("Provides-Extra: ")}
    assert extras == {"all", "dask", "export", "pipeline", "timm", "train", "video"}


def test_the_commands_run_from_another_folder(environment: Path, tmp_path: Path) -> None:
    for name in ("happy", "sad"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        drawn().save(tmp_path / "photos" / name / "1.png")
    photograph = tmp_path / "photos" / "happy" / "1.png"
    assert re.fullmatch(r"affectnet \d+\.\d+\.\d+\n", run(environment, tmp_path, "affectnet", "--version").stdout)
    predicted = run(environment, tmp_path, "affectnet", "predict", photograph, "--json")
    assert predicted.returncode == 0 and '"expression"' in predicted.stdout, predicted.stderr
    described = run(environment, tmp_path, "affectnet", "info")
    assert described.returncode == 0 and "FER2013" in described.stdout, described.stderr
    scored = run(environment, tmp_path, "affectnet", "evaluate", "default", "photos", "--averaging", "flip")
    assert scored.returncode == 0 and "macro-F1" in scored.stdout, scored.stderr
    (tmp_path / "answers.csv").write_text(run(environment, tmp_path, "affectnet", "predict", "photos", "--csv").stdout)
    answered = run(environment, tmp_path, "affectnet", "evaluate", "answers.csv", "--truth", "photos")
    same, _, _ = scored.stdout.partition(", 0.0")  # the answers are calibrated already
    assert answered.returncode == 0 and answered.stdout.startswith(same), answered.stderr
    foreign = run(environment, tmp_path, "affectnet", "evaluate", "default", "photos", "--as", "ferplus_8")
    assert foreign.returncode == 2 and "the description says nchw of [1, 64, 64]" in foreign.stderr, foreign.stderr
    annotated = run(environment, tmp_path, "affectnet", "predict", photograph, "--annotate", "copies", "--whole")
    assert annotated.returncode == 0 and len([*(tmp_path / "copies").rglob("*.*")]) == 1, annotated.stderr


def test_python_has_the_names_and_imports_nothing_else(environment: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from affectnet import Face, Predictor, UserError, __version__\n"
        f"Predictor.load(); print(__version__, [name for name in {FOREIGN!r} if name in sys.modules])"
    )
    done = run(environment, tmp_path, "python", "-c", program)
    assert done.returncode == 0 and done.stdout.endswith(" []\n"), done.stdout + done.stderr


def test_a_model_whose_crops_need_opencv_says_so_once(environment: Path, tmp_path: Path) -> None:
    for name, resampling in (("area", "area"), ("bicubic", "bicubic")):
        section = read_document(ROOT / "params.yaml")["crop"]
        crop = {**{field: section[field] for field in CropPolicy.model_fields}, "resampling": resampling}
        described = metadata_of(crop=crop)
        content = export_network(build(ModelParams.model_validate(TINY), described.outputs), described)
        (tmp_path / f"{name}.onnx").write_bytes(content)
    for number in range(2):
        drawn().save(tmp_path / f"{number}.png")
    done = run(environment, tmp_path, "affectnet", "predict", ".", "--model", "area.onnx")
    assert done.returncode == 2 and done.stdout == ""
    remedy = "needs OpenCV, which is not installed; pip install 'affectnet-pipeline[video]'"
    assert done.stderr == f"error: area.onnx: its crops: {remedy}\n"
    done = run(environment, tmp_path, "affectnet", "predict", ".", "--model", "bicubic.onnx")
    assert done.returncode == 0 and done.stdout.count("\n") == 2, done.stderr


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["predict", "photo.png", "--model", ROOT / "pretrained" / "fer2013.safetensors"], "pip install 'affectnet-pipeline[train]'"),
        (["predict", "photo.png", "--parquet", "faces.parquet"], "pip install pyarrow"),
        (["predict", "film.mp4"], "pip install 'affectnet-pipeline[video]'"),
        (["predict", "photo.png", "--detector", "haar"], "pip install 'affectnet-pipeline[video]'"),
        (["demo"], "run `make page` in a clone of the project"),
    ],
    ids=["safetensors", "parquet", "film", "haar", "demo"],
)
def test_what_needs_more_says_what_to_install(environment: Path, tmp_path: Path, arguments: list[object], remedy: str) -> None:
    drawn().save(tmp_path / "photo.png")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    done = run(environment, tmp_path, "affectnet", *arguments)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(lines) == 1 and remedy in lines[0], done.stderr
