"""One photograph in every type that Python code passes to the predictor: one prediction, or one line with the accepted types."""

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from portraits import MODEL, drawn, write_model

from affectnet.cleaning.inspection import inspect_file
from affectnet.errors import UserError
from affectnet.images.decode import open_photograph
from affectnet.models.device import select_device
from affectnet.predict.predictor import Predictor

ORIENTATION = 0x0112
TURNS: dict[int, Image.Transpose | None] = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation → the operation that makes such a photograph upright (CIPA DC-008, table 7)."""


@pytest.fixture
def predictor(workspace: Path) -> Predictor:
    write_model()
    return Predictor.load(MODEL)


def written(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners() -> Image.Image:
    """64 × 40 px, a colour in each quarter."""
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:20, :32], pixels[20:, :32] = (250, 10, 10), (10, 250, 10)
    pixels[:20, 32:], pixels[20:, 32:] = (10, 10, 250), (240, 240, 240)
    return Image.fromarray(pixels)


def with_exif(kind: str, number: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = number
    return written(corners(), kind, exif=exif, **LOSSLESS.get(kind, {}))


def with_xmp(kind: str, number: int) -> bytes:
    text = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{number}"/></rdf:RDF></x:xmpmeta>'
    )
    options: dict[str, Any] = {"xmp": text.encode()}
    if kind == "PNG":
        about = PngImagePlugin.PngInfo()
        about.add_itxt("XML:com.adobe.xmp", text)
        options = {"pnginfo": about}
    elif kind == "TIFF":
        options = {"tiffinfo": {700: text.encode()}}
    return written(corners(), kind, **options, **LOSSLESS.get(kind, {}))


LOSSLESS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "MPO": {"save_all": True, "append_images": [corners()]},
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
@pytest.mark.parametrize("stored", [with_exif, with_xmp])
def test_every_format_is_turned_by_exif_and_by_xmp_only(stored: Callable[[str, int], bytes], kind: str, tmp_path: Path) -> None:
    for number, turn in TURNS.items():
        expected = corners() if turn is None else corners().transpose(turn)
        (tmp_path / "a").write_bytes(content := stored(kind, number))
        photograph, entry = open_photograph(content, "a"), inspect_file(tmp_path / "a", "image", md5=False)
        assert photograph.dimensions == (entry.width, entry.height) == expected.size, number
        difference = np.asarray(Image.fromarray(photograph.pixels()).convert("RGB"), np.int16) - np.asarray(expected, np.int16)
        assert np.abs(difference).mean() < 6, number


def sideways() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return written(drawn().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def sixteen_bits() -> bytes:
    return written(Image.fromarray(np.asarray(drawn().convert("L")).astype(np.uint16) * 257), "PNG")


def layered(mode: str) -> bytes:
    """A face in a round window, transparent around it."""
    x, y = np.mgrid[:320, :320] - 160
    image = drawn().convert(mode)
    image.putalpha(Image.fromarray(np.where(x * x + y * y < 140 * 140, 255, 0).astype(np.uint8)))
    return written(image, "PNG")


def palette() -> bytes:
    image = drawn().quantize(200)
    return written(image, "PNG", transparency=0)


def floating() -> bytes:
    return written(Image.fromarray(np.asarray(drawn().convert("L"), np.float32)), "TIFF")


FILES: dict[str, Callable[[], bytes]] = {
    "plain": lambda: written(drawn(), "PNG"),
    "stored turned": sideways,
    "16 bits": sixteen_bits,
    "grey and transparent": lambda: layered("L"),
    "colour and transparent": lambda: layered("RGB"),
    "palette and transparent": palette,
    "CMYK": lambda: written(drawn().convert("CMYK"), "TIFF"),
    "one bit": lambda: written(drawn().convert("1"), "PNG"),
    "animation": lambda: written(drawn(), "GIF", save_all=True, append_images=[Image.new("RGB", (320, 320))]),
    "WebP": lambda: written(drawn(), "WEBP", lossless=True),
}


def saved(content: bytes) -> Path:
    Path("photo.bin").write_bytes(content)
    return Path("photo.bin")


def just_written(content: bytes) -> io.BytesIO:
    buffer = io.BytesIO()
    buffer.write(content)
    return buffer


FORMS: dict[str, Callable[[bytes], Any]] = {
    "path": saved,
    "string": lambda content: str(saved(content)),
    "bytearray": bytearray,
    "memoryview": memoryview,
    "BytesIO": io.BytesIO,
    "BytesIO at its end": just_written,
    "open file": lambda content: saved(content).open("rb"),
    "unbuffered file": lambda content: saved(content).open("rb", buffering=0),
    "Pillow": lambda content: Image.open(io.BytesIO(content)),
    "Pillow, loaded": lambda content: Image.open(io.BytesIO(content)).copy(),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("form", FORMS)
def test_a_photograph_has_one_answer_whatever_it_comes_as(form: str, file: str, predictor: Predictor) -> None:
    content = FILES[file]()
    expected = predictor.predict(content, "whole")
    assert len(expected) == 1 and predictor.predict(FORMS[form](content), "whole") == expected


def test_a_transparent_picture_lies_on_white(predictor: Predictor) -> None:
    nothing = predictor.predict(Image.new("RGBA", (100, 100)), "whole")
    assert nothing == predictor.predict(Image.new("RGB", (100, 100), "white"), "whole")


@pytest.mark.parametrize(
    "boxes",
    [
        lambda box: np.array([box]),
        lambda box: np.array([box], np.int32),
        lambda box: torch.tensor([box]),
        lambda box: [np.array(box)],
        lambda box: [list(box)],
        lambda box: (box,),
    ],
)
def test_boxes_may_be_any_numbers(boxes: Callable[[Any], Any], predictor: Predictor) -> None:
    box = (20.0, 30.0, 200.0, 210.0)
    assert predictor.predict(drawn(), boxes(box)) == predictor.predict(drawn(), [box])


def test_no_box_is_no_face(predictor: Predictor) -> None:
    assert predictor.predict(drawn(), []) == predictor.predict(drawn(), np.empty((0, 4))) == []


@pytest.mark.parametrize(
    ("faces", "said"),
    [
        ((20, 30, 200, 210), "faces: numbers of shape .4,.; give 'detect', 'whole', or a list of boxes"),
        (np.array([20, 30, 200, 210]), "shape .4,.; give"),
        ([(20, 30, 200)], "shape .1, 3.; give"),
        ([(20, 30, 200, 210), (20, 30)], "faces: .*; give 'detect'"),
        ([("left", 30, 200, 210)], "faces: .*; give 'detect'"),
        ([None], "faces: .*; give 'detect'|shape"),
        (None, "faces: .*; give 'detect'"),
        ("wholee", "faces: 'wholee'; give 'detect', 'whole'"),
        ([(float("nan"), 30, 200, 210)], "does not overlap the 320 × 320 px photograph"),
    ],
)
def test_faces_that_are_none_are_one_line(faces: Any, said: str, predictor: Predictor) -> None:
    with pytest.raises(UserError, match=said) as caught:
        predictor.predict(drawn(), faces)
    assert "\n" not in str(caught.value)


def closed() -> io.BytesIO:
    buffer = io.BytesIO(written(drawn(), "PNG"))
    buffer.close()
    return buffer


def cut_short() -> Image.Image:
    content = written(drawn(), "PNG")
    return Image.open(io.BytesIO(content[: len(content) // 2]))


PIXELS: NDArray[np.uint8] = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (lambda: None, "None, which OpenCV's imread returns for a file that it cannot read"),
        (lambda: 3, "photograph: int; give a path, a file's bytes"),
        (lambda: [[0, 1], [2, 3]], "photograph: list; give"),
        (lambda: io.StringIO("text"), "a file that gives str; open it in binary mode"),
        (lambda: saved(b"text").open(encoding="utf-8"), "photo.bin: a file that gives str"),
        (lambda: saved(b"text").open("ab"), "photo.bin: cannot be read"),
        (closed, "photograph: cannot be read: I/O operation on closed file"),
        (io.BytesIO, "photograph: unreadable image"),
        (cut_short, "photograph: unreadable image: image file is truncated"),
        (lambda: Image.open(io.BytesIO(floating())), "floating-point pixels have no stated range"),
        (lambda: Image.new("RGB", (0, 5)), r"array of uint8, shape \(5, 0, 3\)"),
        (lambda: PIXELS.astype(np.uint16), "array of uint16"),
        (lambda: PIXELS / 255.0, "array of float64"),
        (lambda: PIXELS[None], r"shape \(1, 8, 8, 3\)"),
        (lambda: PIXELS.transpose(2, 0, 1), r"shape \(3, 8, 8\); give \(h, w\)"),
        (lambda: torch.zeros(1, 3, 8, 8), r"tensor of torch.float32, shape \(1, 3, 8, 8\)"),
        (lambda: torch.full((3, 8, 8), float("nan")), "not all in 0–1"),
        (lambda: torch.zeros(3, 8, 8, dtype=torch.int64), "tensor of torch.int64"),
    ],
)
def test_what_is_no_photograph_is_one_line(picture: Callable[[], Any], said: str, predictor: Predictor) -> None:
    with pytest.raises(UserError, match=said) as caught:
        predictor.predict(picture(), "whole")
    assert "\n" not in str(caught.value)


class Failing(io.BytesIO):
    """A file on a disk that fails."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


def test_what_the_machine_refuses_is_not_the_photographs_fault(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        predictor.predict(Failing(), "whole")

    def full(image: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr("affectnet.images.pictures.upright", full)
    with pytest.raises(MemoryError):
        predictor.predict(drawn(), "whole")


def test_one_photograph_for_many_and_places_for_others_are_one_line(predictor: Predictor) -> None:
    many: Any = "photo.png"
    with pytest.raises(UserError, match=r"pictures: one picture, 'photo\.png'; give a list, or call predict"):
        predictor.predict_many(many)
    with pytest.raises(UserError, match="faces: for 1 of 2 photographs"):
        predictor.predict_many([drawn(), drawn()], ["whole"])


@pytest.mark.parametrize("device", ["mps", "gpu", "cuda:99", "GPU", "", torch.device("mps"), torch.device("cuda", 99)])
def test_a_device_that_is_not_here_is_one_line_that_lists_what_is(device: Any, predictor: Predictor) -> None:
    with pytest.raises(UserError, match=r"device: no device '\S*' here; torch sees cpu(, cuda)?.*; use one of these, or auto"):
        Predictor.load(MODEL, device)


@pytest.mark.parametrize("device", ["auto", "cpu", torch.device("cpu")])
def test_a_device_that_is_here_is_taken(device: Any, predictor: Predictor) -> None:
    assert Predictor.load(MODEL, device).predict(drawn(), "whole")


def test_gpus_are_taken_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    names = ("auto", "cpu", "cuda", "cuda:0", "cuda:1")
    assert [str(select_device(name)) for name in names] == ["cuda", "cpu", "cuda", "cuda:0", "cuda:1"]
    with pytest.raises(UserError, match="torch sees cpu, cuda, cuda:0, cuda:1"):
        select_device("cuda:2")
