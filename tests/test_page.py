"""The page in Chromium: the same answers as Python, the camera, files that are no photographs, and nothing that is sent."""

import base64
import csv
import io
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from browser import AXE, Tab, browser_context, needs_page, opened, page_files, served
from chain import TINY
from model_files import metadata
from PIL import Image
from playwright.sync_api import BrowserContext, Playwright, sync_playwright

from affectnet.engines.onnx_export import export_network
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.images.crop import crop_face
from affectnet.images.crop_policy import Box, CropPolicy
from affectnet.images.data_uri import data_uri
from affectnet.images.decode import open_photograph
from affectnet.models.backbones.registry import ModelParams
from affectnet.models.network import build
from affectnet.predict.films.smoothing import Smoother
from affectnet.predict.paths import Shot
from affectnet.predict.predictor import Face, Predictor
from affectnet.predict.writers import Answer, csv_rows
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene
from affectnet.web.site import write_site
from benchmarks.page import write_camera

pytestmark = needs_page

EDGES = ("left", "top", "right", "bottom")
SHEETS, EACH, SIDE = 12, 5, 200
"""Photographs, and drawn people in each, side by side."""


def person(number: int, side: int = SIDE) -> Image.Image:
    generator = np.random.default_rng([7, number])
    actions = draw_actions(EXPRESSIONS[number % len(EXPRESSIONS)], generator, 1.0)
    return draw_photograph(actions, generator, draw_scene(generator, side, side)).image.convert("RGB")


def people(path: Path, numbers: Sequence[int], **options: Any) -> Path:
    picture = Image.new("RGB", (SIDE * len(numbers), SIDE))
    for at, number in enumerate(numbers):
        picture.paste(person(number), (at * SIDE, 0))
    picture.save(path, **options)
    return path


def from_left(faces: Sequence[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: face.box[0] + face.box[2])


def compare(tab: Tab, predictor: Predictor, path: Path, most: float = 0.01, share: float = 0.0) -> int:
    """The number of faces, whose boxes, probabilities, valence and arousal are those of Python. share: of a face by which boxes differ."""
    expected = from_left(predictor.predict(path))
    rows = tab.predicted(path)
    assert [row["face"] for row in rows] == [str(number) for number in range(1, len(expected) + 1)]
    areas = [(float(row["right"]) - float(row["left"])) * (float(row["bottom"]) - float(row["top"])) for row in rows]
    assert areas == sorted(areas, reverse=True)
    rows.sort(key=lambda row: float(row["left"]) + float(row["right"]))
    for face, row in zip(expected, rows, strict=True):
        assert [float(row[edge]) for edge in EDGES] == pytest.approx(face.box, abs=max(0.2, share * (face.box[2] - face.box[0])))
        probabilities = {name: float(row[name]) for name in face.probabilities}
        assert probabilities == pytest.approx(face.probabilities, abs=most)
        if face.expression is not None:
            assert probabilities[face.expression] >= max(probabilities.values()) - 2 * most and row["expression"] in probabilities
        for name in ("valence", "arousal"):
            value = getattr(face, name)
            assert (row[name] == "") if value is None else float(row[name]) == pytest.approx(value, abs=most)
    return len(rows)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page") / "built"


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def context(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A browser that allows the camera, which shows a film of two people."""
    camera = write_camera(tmp_path_factory.mktemp("camera") / "camera.mjpeg")
    started = browser_context(playwright, camera, "--use-fake-ui-for-media-stream")
    started.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
    yield started
    assert started.browser is not None
    started.browser.close()


@pytest.fixture(scope="module")
def address(built: Path) -> Iterator[str]:
    with served(page_files(built)) as where:
        yield where


@pytest.fixture(scope="module")
def shown(context: BrowserContext, address: str) -> Iterator[Tab]:
    """The page with the shipped model: no error in its console, and no request but for its own files."""
    tab = opened(context, address)
    yield tab
    assert tab.errors == []
    assert [url for url in tab.requested if not url.startswith((address, "blob:", "data:"))] == []
    tab.page.close()


@pytest.fixture(scope="module")
def of_both(context: BrowserContext, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tab, Predictor]]:
    """The page with a model of eight expressions, valence and arousal, and the same model in Python."""
    torch.manual_seed(3)
    described = metadata(affect=True)
    network = build(ModelParams.model_validate(TINY), described.outputs).eval()
    network.classifier[-1].weight.data.mul_(20)  # type: ignore[index, union-attr]
    model = tmp_path_factory.mktemp("model") / "model.onnx"
    model.write_bytes(export_network(network, described))
    with served(page_files(built, model)) as where:
        tab = opened(context, where)
        yield tab, Predictor.load(model)
        assert tab.errors == []
        tab.page.close()


def test_sixty_faces_have_the_answers_of_python(shown: Tab, tmp_path: Path) -> None:
    """All but one to 0.01: with the same box to a tenth of a px, the probabilities of the face of sheet 9 differ by 0.016."""
    predictor = Predictor.load()
    count = 0
    for sheet in range(SHEETS):
        numbers = range(EACH * sheet, EACH * (sheet + 1))
        count += compare(shown, predictor, people(tmp_path / f"{sheet}.png", numbers), most=0.02 if sheet == 9 else 0.01)
    assert count >= 0.9 * SHEETS * EACH


def test_large_photographs_and_jpegs_have_the_answers_of_python(shown: Tab, tmp_path: Path) -> None:
    """Python decodes a large JPEG at half its size, and the browser's decoder differs in colour: a box may move by 0.3 % of the face."""
    predictor = Predictor.load()
    large = person(1, 375).resize((1500, 1500))
    large.save(tmp_path / "large.png")
    large.save(tmp_path / "large.jpg", quality=90)
    turned = Image.Exif()
    turned[0x0112] = 6
    person(1, 400).rotate(90).save(tmp_path / "turned.jpg", quality=95, exif=turned)
    assert compare(shown, predictor, tmp_path / "large.png") == 1
    assert compare(shown, predictor, tmp_path / "large.jpg", most=0.02, share=0.01) == 1
    assert compare(shown, predictor, tmp_path / "turned.jpg", most=0.02, share=0.01) == 1


POLICIES = [
    {"padding": padding, "resampling": resampling, "enlarge": enlarge, "square": square, "margin": margin, "format": form}
    for padding, resampling, enlarge, square, margin, form in (
        ("edge", "bicubic", True, True, 0.3, "jpeg"),
        ("black", "area", True, False, 0.1, "png"),
        ("mean", "area", False, True, 0.5, "jpeg"),
        ("shrink", "bicubic", False, False, 0.2, "png"),
    )
]
CROP = """async ({pixels, width, height, boxes, policy}) => {
  const {cropped} = await import('/crop.mjs');
  const data = Uint8Array.from(atob(pixels), (one) => one.charCodeAt(0));
  return boxes.map((box) => { const crop = cropped({width, height, data}, box, policy);
    return {...crop, data: Array.from(crop.data)}; }); }"""


@pytest.mark.parametrize("changes", POLICIES, ids=lambda changes: f"{changes['padding']}-{changes['resampling']}-{changes['format']}")
def test_every_policy_cuts_the_crop_of_python(changes: dict[str, Any], shown: Tab) -> None:
    policy = CropPolicy(image_px=96, align=False, quality=95, **changes)
    pixels = np.asarray(person(2, 300))
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    boxes: list[Box | None] = [(-20.4, 11.5, 120.5, 200.2), (100.0, 90.5, 140.0, 150.0), (30.0, 200.0, 310.0, 299.0), None]
    sent = {"pixels": base64.b64encode(pixels.tobytes()).decode(), "width": 300, "height": 300}
    crops = shown.page.evaluate(CROP, {**sent, "boxes": boxes, "policy": policy.model_dump()})
    for box, crop in zip(boxes, crops, strict=True):
        with Image.open(io.BytesIO(crop_face(content.getvalue(), box, None, policy, "x").content)) as image:
            expected = np.asarray(image.convert("RGB")).astype(int)
        assert (crop["height"], crop["width"]) == expected.shape[:2]
        difference = np.abs(np.array(crop["data"]).reshape(expected.shape) - expected)
        assert difference.mean() < 0.1 and difference.max() <= 4, box


WHOLE = """async ({pixels, width, height, policy, options}) => {
  const {cropped} = await import('/crop.mjs');
  const data = Uint8Array.from(atob(pixels), (one) => one.charCodeAt(0));
  return Array.from(cropped({width, height, data}, null, policy, {jpeg: true, ...options}).data); }"""


@pytest.mark.parametrize(
    ("width", "changes", "plain", "unchanged"),
    [
        (48, {}, True, True),
        (48, {}, False, False),
        (48, {"enlarge": True}, True, False),
        (96, {"enlarge": True}, True, True),
        (60, {}, True, False),
        (60, {"square": False}, True, True),
        (48, {"format": "png"}, True, True),
    ],
)
def test_a_jpeg_that_is_its_own_crop_is_not_compressed_again(
    width: int, changes: dict[str, Any], plain: bool, unchanged: bool, shown: Tab
) -> None:
    values = {"margin": 0.3, "square": True, "padding": "edge", "enlarge": False, "format": "jpeg", "resampling": "bicubic", **changes}
    policy = CropPolicy(image_px=96, align=False, quality=75, **values)
    height = width if width != 60 else 48
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    sent = {"pixels": base64.b64encode(pixels.tobytes()).decode(), "width": width, "height": height}
    crop = shown.page.evaluate(WHOLE, {**sent, "policy": policy.model_dump(), "options": {"plain": plain}})
    assert (crop == pixels.flatten().tolist()) is unchanged


def test_small_jpegs_without_a_face_have_the_answers_of_python(shown: Tab, tmp_path: Path) -> None:
    """Python passes them through, but for those that EXIF rotates, and PNG."""
    predictor = Predictor.load()
    turned, upright = Image.Exif(), Image.Exif()
    turned[0x0112], upright[0x0112] = 3, 1
    small = Image.fromarray(np.random.default_rng(2).integers(0, 256, (12, 12, 3), np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)
    forms: dict[str, tuple[str, dict[str, Any]]] = {
        "grey.jpg": ("L", {}),
        "colour.jpg": ("RGB", {"subsampling": 0}),
        "upright.jpg": ("L", {"exif": upright}),
        "turned.jpg": ("L", {"exif": turned}),
        "small.png": ("L", {}),
    }
    for name, (mode, options) in forms.items():
        small.convert(mode).save(tmp_path / name, quality=60, **options)
        assert predictor.predict(tmp_path / name) == []
        (face,) = predictor.predict(tmp_path / name, "whole")
        (row,) = shown.predicted(tmp_path / name)
        assert row["where"] == "whole"
        most = 0.01 if name in {"turned.jpg", "small.png"} else 0.002
        assert {label: float(row[label]) for label in face.probabilities} == pytest.approx(face.probabilities, abs=most), name


PLAIN = """async (files) => {
  const {isPlainJpeg} = await import('/source.mjs');
  return files.map((file) => isPlainJpeg(Uint8Array.from(atob(file), (one) => one.charCodeAt(0)))); }"""


def test_a_plain_jpeg_is_one_to_python_too(shown: Tab) -> None:
    """Both orders of bytes in EXIF; each orientation; CMYK; several photographs in one file; a file that ends in its header."""

    def saved(mode: str = "RGB", form: str = "JPEG", **options: Any) -> bytes:
        content = io.BytesIO()
        person(0, 64).convert(mode).save(content, form, **options)
        return content.getvalue()

    def rotated(orientation: int, order: str) -> bytes:
        exif = Image.Exif()
        exif.endian = order
        exif[0x010E], exif[0x0112] = "a long description", orientation
        return saved(exif=exif)

    several = saved(form="MPO", save_all=True, append_images=[person(1, 64)])
    files = [saved(), saved("L"), saved(progressive=True), saved("CMYK"), saved(form="PNG"), saved()[:100], several]
    files += [rotated(orientation, order) for order in "<>" for orientation in range(1, 9)]
    expected = []
    for file in files:
        try:
            expected.append(open_photograph(file, "x").plain_format == "jpeg")
        except UserError:
            expected.append(False)
    assert [True, True, True, False, False, False, False, True, *[False] * 7, True, *[False] * 7] == expected
    assert shown.page.evaluate(PLAIN, [base64.b64encode(file).decode() for file in files]) == expected


def test_a_model_of_valence_and_arousal_has_its_bars_and_circle(of_both: tuple[Tab, Predictor], tmp_path: Path) -> None:
    tab, predictor = of_both
    path = people(tmp_path / "two.png", (0, 1))
    assert compare(tab, predictor, path) == 2
    faces = predictor.predict(path)
    bars = tab.page.locator("#panel tr")
    assert [row.split()[0] for row in bars.all_inner_texts()] == list(EXPRESSIONS)
    tab.page.get_by_role("radio", name="1").focus()
    tab.page.keyboard.press("ArrowRight")
    assert tab.page.locator("#panel h3").inner_text().startswith("Face 2: ")
    assert [float(row.split()[1]) for row in bars.all_inner_texts()] == pytest.approx([*faces[1].probabilities.values()], abs=0.0151)
    dot = tab.page.locator("#panel svg circle").last
    at = float(dot.get_attribute("cx") or "nan") / 100, -float(dot.get_attribute("cy") or "nan") / 100
    assert at == pytest.approx((faces[1].valence, faces[1].arousal), abs=0.01)
    box = tab.page.locator("#overlay").bounding_box()
    assert box is not None
    left, top, right, bottom = (edge * box["width"] / (2 * SIDE) for edge in faces[0].box)
    tab.page.mouse.click(box["x"] + (left + right) / 2, box["y"] + (top + bottom) / 2)
    assert tab.page.locator("#panel h3").inner_text().startswith("Face 1: ")


def test_its_csv_has_the_rows_of_predict(shown: Tab, tmp_path: Path) -> None:
    """A small face left of a large one; names that begin as formulas do; a photograph without a face."""
    group = Image.new("RGB", (600, 400), "grey")
    group.paste(person(0, 160), (0, 120))
    group.paste(person(1, 400), (200, 0))
    written, read = io.StringIO(), list[dict[str, str]]()
    write = csv_rows(written, EXPRESSIONS[:7], tracked=False)
    for name, picture in (("-group.png", group), ("=1+1.png", group), ("nobody.png", Image.new("RGB", (300, 200), "grey"))):
        picture.save(tmp_path / name)
        faces = Predictor.load().predict(tmp_path / name)
        whole = None if faces else Predictor.load().predict(tmp_path / name, "whole")[0]
        write(Answer(Shot(name, name), faces, whole))
        read += shown.predicted(tmp_path / name)
    expected = list(csv.DictReader(io.StringIO(written.getvalue())))
    assert [list(row) for row in read] == [list(row) for row in expected] and len(read) == 5
    for row, other in zip(read, expected, strict=True):
        for name in row:
            numbers = name in {*EDGES, *EXPRESSIONS} and row[name] and other[name]
            most = 0.2 if name in EDGES else 0.01
            assert float(row[name]) == pytest.approx(float(other[name]), abs=most) if numbers else row[name] == other[name], name
    shown.predicted(tmp_path / "-group.png")
    (largest,) = [row for row in read if row["path"] == "-group.png" and row["face"] == "1"]
    assert float(largest["left"]) > 200 and f": 1 {largest['expression']} " in shown.page.locator("#status").inner_text()


def test_what_is_no_photograph_is_one_line_that_stays(shown: Tab, tmp_path: Path) -> None:
    people(tmp_path / "whole.jpg", (0,))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:300])
    (tmp_path / "text.jpg").write_text("no photograph")
    (tmp_path / "empty.png").touch()
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")
    unreadable = "no photograph or film that this browser can read"
    lines = {
        "text.jpg": unreadable,
        "large.png": "9,000 × 9,000 px, more than 64 million px; make it smaller",
        "cut.jpg": unreadable,
        "film.mp4": "no film that this browser can play",
        "drawing.svg": unreadable,
        "empty.png": unreadable,
    }
    for name, line in lines.items():
        shown.open(tmp_path / "whole.jpg")
        shown.status("whole.jpg: ")
        shown.open(tmp_path / name)
        said = shown.problem()
        assert said.startswith(f"{name}: {line}") and "\n" not in said
        assert shown.page.locator("#frame").is_hidden() and shown.page.locator("#csv").is_disabled()
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate((256 << 20) + 1)
    shown.open(tmp_path / "huge.jpg")
    assert shown.problem().startswith("huge.jpg: more than 256 MiB")
    shown.open(tmp_path / "whole.jpg")
    shown.status("whole.jpg: ")
    assert shown.page.get_by_role("alert").count() == 0


def test_a_photograph_without_a_face_is_answered_whole_and_says_so(shown: Tab, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "nobody.png")
    (row,) = shown.predicted(tmp_path / "nobody.png")
    (face,) = Predictor.load().predict(tmp_path / "nobody.png", "whole")
    assert row["where"] == "whole" and float(row[face.expression or ""]) == pytest.approx(max(face.probabilities.values()), abs=0.01)
    assert shown.page.get_by_text("The prediction is for the whole photograph").is_visible()


COPY = """async address => { const content = atob(address.split(',')[1]);
  const picture = new Blob([Uint8Array.from(content, (one) => one.charCodeAt(0))], {type: 'image/png'});
  await navigator.clipboard.write([new ClipboardItem({'image/png': picture})]); }"""


def test_a_photograph_is_pasted_or_an_example_taken_by_keyboard(shown: Tab) -> None:
    shown.page.evaluate(COPY, data_uri(np.asarray(person(0)), "PNG"))
    shown.page.get_by_role("button", name="Paste").focus()
    shown.page.keyboard.press("Enter")
    shown.status("pasted: 1 face: ")
    shown.page.keyboard.press("Tab")
    shown.page.keyboard.press("Space")
    shown.status("example.jpg: 3 faces: ")
    with Image.open(shown.saved("Save PNG")) as saved:
        assert saved.size == (960, 320) and len(np.unique(np.asarray(saved.crop((80, 50, 260, 80))))) > 10


HIDE = """() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true});
  document.dispatchEvent(new Event('visibilitychange')); delete document.hidden; }"""


def test_the_camera_runs_after_a_click_keeps_numbers_and_stops_when_the_page_is_hidden(shown: Tab) -> None:
    page = shown.page
    assert page.locator("#light").is_hidden()
    page.get_by_role("button", name="Start the camera").click()
    shown.status("The camera is on.")
    assert page.locator("#light").is_visible()
    page.locator("#speed", has_text="2 faces").wait_for()
    page.get_by_role("slider", name="Smoothing").fill("2")
    page.locator("#speed", has_text="frames a second").wait_for()
    page.get_by_role("button", name="Freeze").click()
    page.get_by_role("button", name="Go on").wait_for()
    page.wait_for_timeout(500)  # frames that were on their way
    rows = shown.rows()
    page.wait_for_timeout(300)
    assert shown.rows() == rows
    seconds = sorted({float(row["seconds"]) for row in rows})
    assert len(seconds) >= 3 and {row["track"] for row in rows} == {"1", "2"}
    lefts = {track: {float(row["left"]) < 320 for row in rows if row["track"] == track} for track in ("1", "2")}
    assert lefts == {"1": {True}, "2": {False}}
    with Image.open(shown.saved("Save PNG")) as saved:
        assert saved.size == (640, 480)
    page.get_by_role("button", name="Go on").click()
    page.evaluate(HIDE)
    shown.status("The camera is off, since the page was hidden.")
    assert page.locator("#light").is_hidden() and page.evaluate("document.querySelector('video').srcObject === null")
    assert shown.rows()[: len(rows)] == rows


def test_a_stopped_camera_leaves_its_rows_and_last_picture(shown: Tab) -> None:
    page = shown.page
    page.get_by_role("button", name="Start the camera").click()
    page.locator("#speed", has_text="2 faces").wait_for()
    page.get_by_role("button", name="Freeze").click()
    page.wait_for_timeout(500)  # frames that were on their way
    rows, picture = shown.rows(), shown.saved("Save PNG").read_bytes()
    page.get_by_role("button", name="Stop the camera").click()
    shown.status("The camera is off.")
    assert page.locator("#light").is_hidden() and page.evaluate("document.querySelector('video').srcObject === null")
    assert page.get_by_role("button", name="Freeze").is_disabled() and page.get_by_role("slider", name="Smoothing").is_disabled()
    page.wait_for_timeout(300)
    assert rows and shown.rows() == rows and shown.saved("Save PNG").read_bytes() == picture
    assert page.locator("#overlay").is_visible() and page.get_by_role("radio").count() == 2
    page.get_by_role("button", name="Start the camera").click()
    shown.status("The camera is on.")
    page.locator("#speed", has_text="2 faces").wait_for()
    page.get_by_role("button", name="Stop the camera").click()
    shown.status("The camera is off.")
    assert {row["track"] for row in shown.rows()} == {"1", "2"}
    page.get_by_role("button", name="example").click()
    shown.status("example.jpg: 3 faces: ")
    assert {row["path"] for row in shown.rows()} == {"example.jpg"}


LIVE = """async () => {
  const {Live} = await import('/live.mjs');
  const [asked, rows] = [[], []];
  let present;
  const video = Object.assign(document.createElement('canvas'), {videoWidth: 300, paused: false, seeking: false});
  video.requestVideoFrameCallback = (next) => (present = next);
  const ask = (_, {bitmap, ...sent}) => new Promise((resolve) => asked.push({...sent, answer: () => resolve({bitmap, times: {}})}));
  const live = new Live({ask}, video, ({seconds}) => rows.push(seconds), (error) => rows.push(error.message));
  const pause = () => new Promise((resolve) => setTimeout(resolve, 50));
  const show = (seconds) => (present(0, {mediaTime: seconds}), pause());
  const answer = () => (asked.splice(0).forEach((one) => one.answer()), pause());
  live.start();
  await show(50);
  live.restart();
  await show(10);
  const sent = asked.map(({seconds, first}) => [seconds, first]);
  await answer();
  const moved = rows.splice(0);
  const late = show(10.1);  // its bitmap is not there when the film is moved
  live.restart();
  await late;
  await show(0.6);
  await answer();
  const again = rows.splice(0);
  video.seeking = true;
  await show(0.7);
  video.seeking = false;
  await show(3);
  await answer();
  Object.assign(video, {paused: true, currentTime: 3.04});
  video.dispatchEvent(new Event('pause'));
  await pause();
  await answer();
  const frozen = rows.splice(0);
  live.stop();
  return {sent, moved, again, frozen}; }"""


def test_a_moved_film_has_no_row_from_before_and_no_frame_twice(shown: Tab) -> None:
    """Frames on their way when the film is moved are dropped; the shown one is not sent again when the film pauses."""
    answers = shown.page.evaluate(LIVE)
    assert answers == {"sent": [[50, True], [10, True]], "moved": [10], "again": [0.6], "frozen": [3]}


SLOW_RUNTIME = """
export const env = {wasm: {}};
export class Tensor { constructor(_, data, dims) { Object.assign(this, {data, dims}); } }
const answers = {
  model: ({dims: [count]}) => ({probabilities: new Float32Array(7 * count).fill(1 / 7)}),
  detector: ({dims: [, , height, width]}) => Object.fromEntries([8, 16, 32].flatMap((stride) => {
    const count = (height / stride) * (width / stride);
    const [cls, obj, bbox] = [1, 1, 4].map((each) => new Float32Array(each * count));
    if (stride === 32) { cls[20] = obj[20] = 0.9; bbox.set([0, 0, 1.2, 1.2], 80); }
    return [[`cls_${stride}`, cls], [`obj_${stride}`, obj], [`bbox_${stride}`, bbox]]; })),
};
const tensors = (outputs) => Object.fromEntries(Object.entries(outputs).map(([name, data]) => [name, {data}]));
const create = async (kind) => ({
  inputNames: ['input'], inputMetadata: [{shape: [1, 3, 'height', 'width']}],
  run: async ({input}) => { await new Promise((resolve) => setTimeout(resolve, 50)); return tensors(answers[kind](input)); },
});
export const InferenceSession = {create};
"""
"""In place of ONNX Runtime: one face at the same place in every picture, after 50 ms."""

FRAMES = """async ([source, addresses]) => {
  const {Host} = await import('/host.mjs');
  const bitmaps = [];
  for (const address of addresses) bitmaps.push(await createImageBitmap(await (await fetch(address)).blob()));
  const host = new Host();
  host.start();
  const settings = await (await fetch('/settings.json')).json();
  const runtime = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));
  await host.ask('open', {runtime, settings, files: {detector: 'detector', model: 'model'}});
  const ask = (bitmap, seconds, first) => host.ask('frame', {bitmap, seconds, first}, [bitmap]);
  const before = await ask(bitmaps[0], 50, true);
  const [late, next] = await Promise.all([ask(bitmaps[1], 50.1, false), ask(bitmaps[2], 0, true)]);
  host.worker.terminate();
  return [before, late, next].map(({faces}) => faces.map(({number}) => number)); }"""


def test_a_late_frame_of_the_old_film_takes_no_number_of_the_new_one(context: BrowserContext, address: str) -> None:
    """It is still in detection when the first frame of the new film, another picture, arrives."""
    old, new = (data_uri(np.asarray(person(number)), "PNG") for number in (0, 1))
    page = context.new_page()
    page.goto(f"{address}licences.txt")  # the worker without the page
    assert page.evaluate(FRAMES, [SLOW_RUNTIME, [old, old, new]]) == [[1], [1], [1]]
    page.close()


def write_pair(path: Path, frames: int) -> Path:
    """A film of two people who stand still, 10 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 10, (2 * SIDE, SIDE))
    frame = np.asarray(Image.open(people(path.with_suffix(".png"), (0, 1))).convert("RGB"))
    for _ in range(frames):
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def test_a_film_is_followed_to_its_end(shown: Tab, tmp_path: Path) -> None:
    shown.open(write_pair(tmp_path / "film.webm", 12))
    shown.status("film.webm: playing.")
    shown.page.get_by_role("button", name="Go on").wait_for(timeout=20_000)  # it has ended
    shown.page.wait_for_timeout(500)
    rows = shown.rows()
    assert {row["path"] for row in rows} == {"film.webm"} and {row["track"] for row in rows} == {"1", "2"}
    assert max(float(row["seconds"]) for row in rows) == pytest.approx(1.1, abs=0.01)  # its last frame begins there


def test_a_film_that_is_moved_back_begins_there(shown: Tab, tmp_path: Path) -> None:
    page = shown.page
    shown.open(write_pair(tmp_path / "film.webm", 60))
    page.locator("#speed", has_text="2 faces").wait_for()
    for _ in range(3):
        page.evaluate("video.currentTime = 4.5")
        page.wait_for_timeout(500)
        page.evaluate("video.currentTime = 0.5")
        page.wait_for_timeout(700)
        rows = shown.rows()
        seconds = [float(row["seconds"]) for row in rows]
        assert seconds and seconds == sorted(seconds) and seconds[0] > 0.4 and seconds[-1] < 4
        assert {row["track"] for row in rows} == {"1", "2"}
    page.get_by_role("button", name="Freeze").click()
    page.wait_for_timeout(500)
    page.evaluate("video.currentTime = 3")
    page.wait_for_timeout(700)
    assert [float(row["seconds"]) for row in shown.rows()] == pytest.approx([3, 3], abs=0.11)


SMOOTH = """async () => {
  const {Smoother} = await import('/track.mjs');
  const face = (share) => ({probabilities: [1 - share, share], valence: 0.123456789, arousal: -0.5});
  const smoother = new Smoother();
  const [none, first] = [smoother.smooth(1, 0, face(1e-9), 0), smoother.smooth(1, 1, face(1e-9), 0)];
  return {none, first, next: smoother.smooth(1, 2, face(0.5), 1).probabilities[1]}; }"""


def test_without_smoothing_the_predictions_are_those_of_the_network(shown: Tab) -> None:
    """Smoothing that begins later begins with the last of them."""
    answers = shown.page.evaluate(SMOOTH)
    face = {"probabilities": [1 - 1e-9, 1e-9], "valence": 0.123456789, "arousal": -0.5}
    smoother = Smoother(1.0)
    for second, share in ((1, 1e-9), (2, 0.5)):
        expected = smoother.smooth(1, second, Face((0, 0, 1, 1), None, {"a": 1 - share, "b": share}, 0.123456789, -0.5))
    assert answers["none"] == answers["first"] == face and answers["next"] == pytest.approx(expected.probabilities["b"])


def test_the_name_of_a_csv_says_how_its_rows_are_smoothed(shown: Tab, tmp_path: Path) -> None:
    page = shown.page

    def name() -> str:
        with page.expect_download() as download:
            page.get_by_role("button", name="Save CSV").click()
        return download.value.suggested_filename

    page.get_by_role("slider", name="Smoothing").evaluate("one => (one.value = 0.5)")
    shown.open(write_pair(tmp_path / "film.webm", 12))
    page.get_by_role("button", name="Go on").wait_for(timeout=20_000)  # it has ended
    page.wait_for_timeout(500)
    assert name() == "film.webm.smooth0.5.faces.csv"
    page.get_by_role("slider", name="Smoothing").fill("0")
    page.evaluate("video.currentTime = 0.5")
    page.wait_for_timeout(700)
    assert name() == "film.webm.faces.csv"
    page.get_by_role("slider", name="Smoothing").fill("2")
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Freeze").wait_for()
    page.get_by_role("button", name="Go on").wait_for(timeout=20_000)
    page.wait_for_timeout(500)
    assert name() == "film.webm.smooth0-2.faces.csv"
    page.get_by_role("button", name="example").click()
    shown.status("example.jpg: 3 faces: ")
    assert name() == "example.jpg.faces.csv"


def test_a_camera_that_is_denied_is_one_line(playwright: Playwright, address: str) -> None:
    denied = browser_context(playwright, None)
    tab = opened(denied, address)
    tab.page.get_by_role("button", name="Start the camera").click()
    assert tab.problem().startswith("Camera: not allowed; allow it for this page")
    assert tab.page.locator("#light").is_hidden() and tab.page.get_by_role("button", name="Start the camera").is_enabled()
    assert denied.browser is not None
    denied.browser.close()


FETCH = "async address => { try { await fetch(address); return 'sent'; } catch (error) { return error.name; } }"


def test_nothing_can_be_sent_and_the_page_works_offline(context: BrowserContext, built: Path) -> None:
    """Neither the page nor its workers can open a connection, not even to their own server, which has ended."""
    with served(page_files(built)) as where:
        tab = opened(context, where)
        before = list(tab.requested)
        for scope in (tab.page, tab.page.workers[0]):  # the others are threads, which wait for work and answer nothing
            assert [scope.evaluate(FETCH, to) for to in (where, "https://example.org/")] == ["TypeError"] * 2
    assert tab.errors and all("Content Security Policy" in error or "Fetch API cannot load" in error for error in tab.errors)
    tab.page.get_by_role("button", name="example").click()
    tab.status("example.jpg: 3 faces: ")
    assert [url for url in tab.requested[len(before) :] if not url.startswith("blob:")] == []
    tab.page.close()


def test_it_works_from_any_static_host(context: BrowserContext, built: Path, tmp_path: Path) -> None:
    """Without the headers that give threads, and below a path."""
    write_site(page_files(built), tmp_path / "site")
    assert sum(path.stat().st_size for path in (tmp_path / "site").rglob("*")) < 16e6

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as host:
        threading.Thread(target=host.serve_forever, args=(0.05,), daemon=True).start()
        tab = opened(context, f"http://127.0.0.1:{host.server_port}/site/")
        assert tab.page.evaluate("crossOriginIsolated") is False
        tab.page.get_by_role("button", name="example").click()
        tab.status("example.jpg: 3 faces: ")
        assert tab.errors == []
        tab.page.close()
        host.shutdown()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible_and_fits_phone_and_desk(width: int, scheme: Any, of_both: tuple[Tab, Predictor]) -> None:
    page = of_both[0].page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    page.get_by_role("button", name="example").click()
    of_both[0].status("example.jpg: 3 faces: ")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(AXE.read_text(encoding="utf-8"))
    violations = page.evaluate("async () => (await axe.run()).violations.map(({id, impact, nodes}) => [impact, id, nodes[0].html])")
    assert [one for one in violations if one[0] in {"serious", "critical"}] == []
    heading = "(() => { const {left, width} = document.querySelector('h1').getBoundingClientRect(); return [left, width]; })()"
    before = page.evaluate(heading)
    page.get_by_role("radio", name="2").check()
    assert page.evaluate(heading) == before and page.locator("h1").count() == 1
