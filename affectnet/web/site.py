"""The files of the page: what `make page` built, a model, and what the page has to know about it."""

import json
from dataclasses import dataclass
from pathlib import Path

from affectnet.engines.engine import file_kind
from affectnet.engines.onnx_engine import OnnxEngine
from affectnet.errors import UserError
from affectnet.files.atomic import replacing_folder
from affectnet.images.detection import DEFAULT, SMALLEST_SHARE, load_detector
from affectnet.images.yunet_files import PACKAGED, fetched, read_network
from affectnet.models.outputs import Averaging
from affectnet.predict.info import card_path
from affectnet.web.example import example
from affectnet.web.settings import settings

BUILT = Path(__file__).with_name("built")
"""Written by `python -m tools.page`, and part of a wheel that was made afterwards."""

SETTINGS = "settings.json"

Files = dict[str, bytes]
"""Content by path below the page's address; `index.html` is the page."""


@dataclass(frozen=True)
class Reading:
    """How faces are read: the name or file of a detector, the smallest face as a share of the shorter side, and the views averaged."""

    detector: str | None = None
    smallest: float = SMALLEST_SHARE
    averaging: Averaging = "flip"


def site_files(model: Path, reading: Reading) -> Files:
    """All files of the page for an ONNX model of this pipeline.

    Errors: UserError when the page is not built, the model is not an ONNX file of this pipeline, or the detector is no network.
    """
    if file_kind(model) != "onnx":
        raise UserError(f"{model}: a browser runs only ONNX files; give the model.onnx that `dvc repro export` writes")
    engine = OnnxEngine(model, "cpu")
    name, detector = _detector(reading)
    files = _built()
    card = card_path(model)
    content = model.read_bytes()
    licences = files["licences.txt"] + PACKAGED.with_suffix(".LICENSE").read_bytes()
    described = settings(engine.metadata, name, reading.smallest, reading.averaging)
    described |= {"model_bytes": len(content), "card": card is not None}
    files |= {"model.onnx": content, "detector.onnx": detector, "example.jpg": example(), "licences.txt": licences}
    files |= {SETTINGS: f"{json.dumps(described, indent=1)}\n".encode()}
    return files if card is None else {**files, "model.md": Path(card).read_bytes()}


def write_site(files: Files, folder: Path) -> None:
    """Writes the files into a new folder, or one that an earlier call wrote. Errors: UserError when it holds anything else."""
    if folder.exists() and not (folder / SETTINGS).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not a page that was written here; give the name of a new folder")
    with replacing_folder(folder) as temporary:
        for name, content in files.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_bytes(content)


def _built() -> Files:
    files = {path.relative_to(BUILT).as_posix(): path.read_bytes() for path in sorted(BUILT.rglob("*")) if path.is_file()}
    if "index.html" not in files:
        raise UserError(f"{BUILT}: the page is not built; run `make page` in a clone of the project, which needs Node 20 with npm")
    return files


def _detector(reading: Reading) -> tuple[str, bytes]:
    """Name and content of a detector that is a network."""
    if reading.detector == "haar":
        raise UserError("--detector haar: a cascade of OpenCV, which the page cannot run; choose libfacedetection, yunet or a file")
    detector = load_detector(reading.detector, reading.smallest)
    if reading.detector in {None, DEFAULT}:
        return detector.name, read_network(PACKAGED)
    return detector.name, read_network(fetched() if reading.detector == "yunet" else Path(str(reading.detector)))
