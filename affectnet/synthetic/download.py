"""Writes the drawn download: photographs, lists and faults, in the layout of AffectNet 2017."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectnet.images.formats import SUFFIX_FORMATS
from affectnet.running.parallel import in_order
from affectnet.running.progress import progress
from affectnet.sources.drawn import ENDING
from affectnet.synthetic.actions import draw_actions, valence_arousal
from affectnet.synthetic.further import HEADER as FURTHER_HEADER
from affectnet.synthetic.further import further_line
from affectnet.synthetic.photograph import Photograph, draw_photograph, draw_scene
from affectnet.synthetic.plan import ALL_CODES, DemoParams, Item, plan_download

IMAGES = "Manually_Annotated/Manually_Annotated_Images"
LISTS = "Manually_Annotated_file_lists"
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
CHUNK = 16
ABSENT = -2.0

Lines = tuple[str, str]
"""What the list says about a face, and what the second list says."""


@dataclass(frozen=True)
class Row:
    """One line of a list, its cells as text."""

    path: str
    box: tuple[str, str, str, str]
    landmarks: str
    label: int
    valence: str
    arousal: str

    def line(self) -> str:
        return ",".join([self.path, *self.box, self.landmarks, str(self.label), self.valence, self.arousal])


def write_download(folder: Path, params: DemoParams, seed: int, workers: int) -> tuple[int, int]:
    """Draws the download into the folder; returns its numbers of training and validation rows. Same seed, same bytes."""
    items = plan_download(params, seed)
    for item in items:
        (folder / IMAGES / item.path).parent.mkdir(parents=True, exist_ok=True)
    chunks = [items[first : first + CHUNK] for first in range(0, len(items), CHUNK)]
    done = in_order(partial(_write_chunk, folder / IMAGES, params), chunks, workers)
    rows = [row for chunk in progress(done, "draw", len(chunks), f"{CHUNK} faces") for row in chunk]
    by_split: dict[str, list[Lines]] = {"training": [], "validation": [], "nowhere": []}
    for item, lines in zip(items, rows, strict=True):
        by_split[item.split] += lines
    training = _with_listed_twice(by_split["training"], by_split["validation"], params.faults.listed_twice)
    order = np.random.default_rng([seed, 1]).permutation(len(training))
    lists = folder / LISTS
    lists.mkdir(parents=True, exist_ok=True)
    _write_lists(lists, "training", [HEADER], [training[at] for at in order])
    _write_lists(lists, "validation", [], by_split["validation"])
    for number in range(params.faults.thumbs):
        (folder / IMAGES / str(number + 1) / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504))
    return len(training), len(by_split["validation"])


def _with_listed_twice(training: list[Lines], validation: Sequence[Lines], count: int) -> list[Lines]:
    """The training lines and the first `count` validation lines: photographs that both lists name."""
    return [*training, *validation[:count]]


def _write_lists(folder: Path, name: str, header: list[str], rows: Sequence[Lines]) -> None:
    """The list that AffectNet has, and the second one, a line of each per row."""
    _write_lines(folder / f"{name}.csv", chain(header, (labels for labels, _ in rows)))
    _write_lines(folder / f"{name}{ENDING}", chain([FURTHER_HEADER], (further for _, further in rows)))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{line}\n" for line in lines)


def _write_chunk(images: Path, params: DemoParams, items: Sequence[Item]) -> list[list[Lines]]:
    return [_write_item(images, params, item) for item in items]


def _write_item(images: Path, params: DemoParams, item: Item) -> list[Lines]:
    """Draws and writes one photograph; returns its lines for the lists, one pair per face."""
    generator = np.random.default_rng(item.drawing)
    shots = [_draw_shot(generator, params, item)]
    if item.fault == "several_faces":
        shots.append(_draw_shot(generator, params, item))
    image, boxes, landmarks = _side_by_side(shots)
    if item.fault in {"near_duplicates", "near_copies_of_validation"}:
        scale = 0.94
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        boxes, landmarks = [tuple(round(v * scale) for v in box) for box in boxes], [points * scale for points in landmarks]
    quality = int(generator.integers(72, 96)) if item.fault not in {"near_duplicates", "near_copies_of_validation"} else 80
    content = _file_content(image, item, quality)
    if content is not None:
        (images / item.path).write_bytes(content)
    scores = np.random.default_rng([*item.drawing, item.number])
    labels = [_line(item, box, points, image.size, scores) for box, points in zip(boxes, landmarks, strict=True)]
    opinions = np.random.default_rng([*item.drawing, item.number, 3])  # of its own: what it draws changes no photograph and no label
    return [(line, further_line(item.path, shot, item.label, opinions)) for line, shot in zip(labels, shots, strict=True)]


def _draw_shot(generator: np.random.Generator, params: DemoParams, item: Item) -> Photograph:
    scene = draw_scene(generator, params.smallest_px, params.largest_px)
    return draw_photograph(draw_actions(item.expression, generator), generator, scene)


def _side_by_side(shots: Sequence[Photograph]) -> tuple[Image.Image, list[tuple[int, ...]], list[NDArray[np.float64]]]:
    """One image with all shots from left to right, and the boxes (left, top, side) and landmarks in its px."""
    if len(shots) == 1:
        return shots[0].image, [shots[0].box], [shots[0].landmarks]
    image = Image.new("RGB", (sum(shot.image.width for shot in shots), max(shot.image.height for shot in shots)))
    boxes: list[tuple[int, ...]] = []
    landmarks, left = [], 0
    for shot in shots:
        image.paste(shot.image, (left, 0))
        boxes.append((shot.box[0] + left, *shot.box[1:]))
        landmarks.append(shot.landmarks + (left, 0))
        left += shot.image.width
    return image, boxes, landmarks


def _file_content(image: Image.Image, item: Item, quality: int) -> bytes | None:
    """The file's bytes with its fault; None for a missing file."""
    if item.fault == "missing":
        return None
    if item.fault == "empty":
        return b""
    if item.fault == "not_an_image":
        return b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"
    kind = SUFFIX_FORMATS[item.suffix.lower()]
    options: dict[str, object] = {"quality": quality} if kind == "JPEG" else {}
    if item.fault == "misnamed":
        kind, options = "PNG", {}
    elif item.fault == "grey":
        image = image.convert("L")
    elif item.fault == "transparent":
        image.putalpha(Image.radial_gradient("L").resize(image.size).point(lambda v: 255 if v < 200 else 0))
    elif item.fault == "exif_turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        image, options["exif"] = image.transpose(Image.Transpose.ROTATE_90), exif.tobytes()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    content = buffer.getvalue()
    return content[: len(content) * 3 // 5] if item.fault in {"truncated", "truncated_in_validation"} else content


def _line(
    item: Item, box: tuple[int, ...], landmarks: NDArray[np.float64], dimensions: tuple[int, int], generator: np.random.Generator
) -> str:
    """One line of a list with its fault."""
    left, top, side = box
    cells = [str(left), str(top), str(side), str(side)]
    if item.fault == "null_box":
        cells = ["NULL", "NULL", "-1", "-1"]
    elif item.fault == "box_outside":
        cells = [str(-side // 6), str(top), str(side), str(side)]
    elif item.fault == "box_beyond":
        cells = [str(dimensions[0] + 50), str(dimensions[1] + 50), str(side), str(side)]
    elif item.fault == "box_empty":
        cells = [str(left), str(top), "0", "0"]
    points = [f"{value:.2f}" for value in landmarks.ravel()]
    if item.fault == "no_landmarks":
        points = []
    elif item.fault == "broken_landmarks":
        points = points[:-1]
    valence, arousal = _scores(item, generator)
    line = Row(item.path, (cells[0], cells[1], cells[2], cells[3]), ";".join(points), ALL_CODES[item.label], valence, arousal).line()
    return line[: line.index(";")] if item.fault == "malformed" else line


def _scores(item: Item, generator: np.random.Generator) -> tuple[str, str]:
    valence, arousal = valence_arousal(draw_actions(item.expression, np.random.default_rng([*item.drawing, 2])), generator)
    if item.fault == "contradicting_valence":
        valence = -valence
    absent = item.label in {"Uncertain", "No-Face"} or item.fault == "no_valence_arousal"
    return (f"{ABSENT:g}", f"{ABSENT:g}") if absent else (f"{valence:.6f}", f"{arousal:.6f}")
