"""Face detectors: the same answers in threads, sizes and formats, an independent run of the network, the download, hostile photographs."""

import contextlib
import http.server
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import onnx
import pytest
from chain import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from affectnet.__main__ import main
from affectnet.errors import UserError
from affectnet.images import yunet, yunet_files
from affectnet.images.decode import Pixels, open_photograph
from affectnet.images.detection import DEFAULT, DETECTORS, detect, load_detector
from affectnet.images.yunet_files import PACKAGED
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene

LOCAL = [name for name in DETECTORS if name != "yunet"]
"""Detectors that need no download."""

FIXED_PX = 640


def portrait(side: int, seed: int = 4) -> Image.Image:
    generator = np.random.default_rng(seed)
    return draw_photograph(draw_actions("Happy", generator), generator, draw_scene(generator, side, side)).image.convert("RGB")


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def fixed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network for photographs of one size, as the file of OpenCV's zoo is."""
    model = onnx.load(PACKAGED)
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = FIXED_PX
    path = tmp_path_factory.mktemp("fixed") / "fixed.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", LOCAL)
def test_threads_may_share_a_detector(name: str) -> None:
    pictures, detector = [np.asarray(portrait(side)) for side in (200, 140, 170) * 6], load_detector(name)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(detector, pictures)) == [detector(picture) for picture in pictures]


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("form", [jpeg, png])
def test_boxes_of_a_large_photograph_are_in_its_own_px_and_inside_it(name: str, form: object) -> None:
    detector, encode = load_detector(name), jpeg if form is jpeg else png
    (near,), (far,) = (
        detect(open_photograph(encode(image), "a"), detector) for image in (portrait(400), portrait(400).resize((2400, 2400)))
    )
    np.testing.assert_allclose(np.array(far) / 6, near, atol=25)
    assert min(far) >= 0 and max(far) <= 2400


@pytest.mark.parametrize("name", LOCAL)
def test_the_largest_face_comes_first_and_each_face_has_one_box(name: str) -> None:
    group = Image.new("RGB", (900, 400), "grey")
    for left, side in ((0, 150), (200, 400), (650, 220)):
        group.paste(portrait(side), (left, 100 if side < 300 else 0))
    boxes = detect(open_photograph(png(group), "a"), load_detector(name))
    assert len(boxes) == 3 and [left > 600 for left, *_ in boxes] == [False, True, False]
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
    assert areas == sorted(areas, reverse=True)


def test_opencv_runs_the_network_to_the_same_boxes(fixed_file: Path) -> None:
    """OpenCV has its own interpreter of the network, and its own decoding of the outputs."""
    reference = cv2.FaceDetectorYN.create(str(fixed_file), "", (FIXED_PX, FIXED_PX), yunet.SCORE, yunet.OVERLAP)
    for seed in range(8):
        pixels = np.asarray(portrait(320, seed))
        reference.setInputSize((320, 320))
        ((left, top, width, height, *_),) = reference.detect(pixels[:, :, ::-1])[1]
        (box,) = load_detector()(pixels)
        np.testing.assert_allclose(box, (left, top, left + width, top + height), atol=0.1)


def test_a_model_file_for_one_size_searches_larger_photographs_too(fixed_file: Path) -> None:
    detector = load_detector(fixed_file)
    assert detector.name == "fixed"
    for side in (150, 400, 1500):
        pixels = np.asarray(portrait(300).resize((side, side)))
        ((expected,), (box,)) = load_detector()(pixels), detector(pixels)
        np.testing.assert_allclose(box, expected, atol=0.03 * side)


def test_a_face_on_the_border_of_tiles_has_one_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yunet, "TILE_PX", 320)
    face, detector = portrait(100), load_detector(smallest=0.01)
    for left in range(0, 900, 37):
        photograph = Image.new("RGB", (1000, 700), "grey")
        photograph.paste(face, (left, left // 2))
        ((x, y, right, bottom),) = detector(np.asarray(photograph))
        assert left < (x + right) / 2 < left + 100 and left // 2 < (y + bottom) / 2 < left // 2 + 100


@pytest.mark.parametrize("side", [60, 300, 1200])
def test_a_picture_without_a_face_has_no_box(side: int) -> None:
    generator, detector = np.random.default_rng(side), load_detector()
    noise = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((side, side)))
    for picture in (noise, smooth, np.zeros((side, side), np.uint8), np.full((side, side, 3), 255, np.uint8)):
        assert list(detector(picture)) == []


@given(
    arrays(
        np.uint8, st.one_of(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
    )
)
@settings(max_examples=60)
def test_any_small_picture_has_an_answer(pixels: Pixels) -> None:
    for box in detect(open_photograph(png(Image.fromarray(pixels)), "a"), load_detector()):
        assert np.isfinite(box).all() and box[0] < box[2] <= pixels.shape[1] and box[1] < box[3] <= pixels.shape[0]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 60_000), (60_000, 1), (30_000, 2_000), (9_000, 7_000)])
def test_photographs_of_any_form_take_bounded_memory(width: int, height: int) -> None:
    """The pixels themselves have at most 180 MB, which a decoder needs anyway; smallest: the finest search that can be asked for."""
    code = (
        "import resource, sys; import numpy as np; from affectnet.images.detection import load_detector\n"
        f"pixels = np.full(({height}, {width}, 3), 90, np.uint8); detector = load_detector(smallest=1e-6)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; detector(pixels)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < 800, done.stdout


def test_the_default_needs_no_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; sys.modules['cv2'] = None; from affectnet.images.decode import open_photograph\n"
        "from affectnet.images.detection import detect, load_detector\n"
        "print(len(detect(open_photograph(sys.stdin.buffer.read(), 'a'), load_detector())))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=jpeg(portrait(300)), capture_output=True, check=True)
    assert done.stdout == b"1\n"


def test_onnx_runtime_writes_and_sends_nothing(tmp_path: Path) -> None:
    """It keeps its number of the machine, and what it has not sent yet, in these folders."""
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    code = "from affectnet.images.detection import load_detector; load_detector()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_haar_without_a_fitting_opencv_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    without = ModuleType("cv2")
    without.__file__, without.__version__ = "cv2/__init__.py", "5.0.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv2", without)
    with pytest.raises(UserError, match=r"detector haar: OpenCV 5.0.0 comes without cascades; pip install 'opencv-python-headless<5'"):
        load_detector("haar")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="detector haar: needs OpenCV, which is not installed; pip install"):
        load_detector("haar")


def test_a_detector_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"detector: 'retina' is neither a file nor one of libfacedetection, haar, yunet;"):
        load_detector("retina")
    (tmp_path / "broken.onnx").write_bytes(b"none")
    with pytest.raises(UserError, match=r"broken\.onnx: not a model of YuNet"):
        load_detector(tmp_path / "broken.onnx")
    assert main(["predict", "a.jpg", "--detector", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_has_its_own_name_that_of_a_built_in_detector_only_with_its_content(fixed_file: Path, tmp_path: Path) -> None:
    for name in ("other.onnx", "haar.onnx", f"{DEFAULT}.onnx"):
        (tmp_path / name).write_bytes(PACKAGED.read_bytes())
        assert load_detector(tmp_path / name).name == DEFAULT
    for name in DETECTORS:
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(fixed_file.read_bytes())
        with pytest.raises(UserError, match=rf"{name}\.onnx: not the detector {name}; give the file another name"):
            load_detector(path)
    assert load_detector((tmp_path / "haar.onnx").rename(tmp_path / "mine.onnx")).name == "mine"


def other_network(side: int | str, outputs: list[str]) -> bytes:
    """A valid ONNX file that is not YuNet's."""
    shape = [1, 3, side, side]
    pixels = onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in outputs]
    nodes = [onnx.helper.make_node("Identity", ["input"], [name]) for name in outputs]
    graph = onnx.helper.make_graph(nodes, "other", [pixels], values)
    content: bytes = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)]).SerializeToString()
    return content


@pytest.mark.parametrize("side", ["px", 33, 64, 1 << 20])
@pytest.mark.parametrize("outputs", [["probabilities"], [f"{kind}_{stride}" for stride in (8, 16, 32) for kind in ("cls", "obj", "bbox")]])
def test_another_network_is_one_line(side: int | str, outputs: list[str], tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(other_network(side, outputs))
    with pytest.raises(UserError, match=r"other\.onnx: not a model of YuNet"):
        load_detector(tmp_path / "other.onnx")


class Zoo(http.server.BaseHTTPRequestHandler):
    """Answers with the class's content, and counts."""

    content, status, requests = b"", 200, 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fixed_file: Path) -> Iterator[type[Zoo]]:
    """A server in place of OpenCV's repository, whose file has the hash that is expected; an empty cache folder."""

    class Local(Zoo):
        content = fixed_file.read_bytes()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Local) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(yunet_files, "ZOO_URL", f"http://127.0.0.1:{server.server_port}/{yunet_files.ZOO_FILE}")
        monkeypatch.setattr(yunet_files, "ZOO_SHA256", sha256(Local.content).hexdigest())
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield Local
        server.shutdown()
        thread.join()


def test_yunet_is_downloaded_once(zoo: type[Zoo], tmp_path: Path) -> None:
    for _ in range(2):
        detector = load_detector("yunet")
        assert detector.name == "yunet" and len(detector(np.asarray(portrait(300)))) == 1
    assert zoo.requests == 1
    (file,) = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert load_detector(file).name == "yunet"
    file.write_bytes(b"damaged")
    assert load_detector("yunet").name == "yunet" and zoo.requests == 2


@pytest.mark.parametrize("case", ["another file", "no such file", "no server", "no folder"])
def test_a_download_that_fails_is_one_line_and_leaves_nothing(
    case: str, zoo: type[Zoo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = {"another file": "gave 4 bytes whose SHA-256 is not", "no such file": "cannot be downloaded: Not Found"}
    messages |= {"no server": "cannot be downloaded: ", "no folder": "set XDG_CACHE_HOME to a folder that can be written"}
    if case == "another file":
        zoo.content = b"page"
    elif case == "no such file":
        zoo.status = 404
    elif case == "no server":
        monkeypatch.setattr(yunet_files, "ZOO_URL", "http://127.0.0.1:9/none.onnx")
    else:
        (tmp_path / "cache").write_text("a file")
    assert main(["predict", "a.jpg", "--detector", "yunet"]) == 2
    out = capsys.readouterr()
    assert messages[case] in out.err and out.err.startswith("error: ") and out.err.count("\n") == 1 and not out.out
    with contextlib.suppress(NotADirectoryError):
        assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_the_file_in_the_package_is_the_one_that_was_measured() -> None:
    """docs/log.md's figures hold for these weights; tools/libfacedetection.py writes the same bytes."""
    assert sha256(PACKAGED.read_bytes()).hexdigest() == "a1e0dacf2b4b45e519eed748980aa4a812fb017a16a38c4f5d93245548ce6a20"
    licence = PACKAGED.with_suffix(".LICENSE").read_text()
    assert "3-clause BSD" in licence and licence in onnx.load(PACKAGED).doc_string
    assert load_detector().name == DEFAULT
