"""The rules of tools/guard.py: which files may be of a data set, and so may not enter Git.

Refused, by content and by name: images, tables and arrays of data, weights, archives and every other binary file, and text with
labels, landmarks or pixels per file.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from affectnet.images.formats import IMAGE_SUFFIXES

PICTURE, DRAWING, WEIGHTS, DATA, ARCHIVE, BINARY = (
    "a picture",
    "a drawing",
    "weights of a model",
    "a table or array of data",
    "an archive",
    "not UTF-8 text",
)

ALLOWED = (
    ("docs/*.png", PICTURE),  # faces that the demo drew
    ("docs/*.svg", DRAWING),
    ("metrics/evaluate/*.svg", DRAWING),
    ("page/*.svg", DRAWING),
    ("affectnet/pretrained/*.onnx", WEIGHTS),  # models of this repository
    ("pretrained/*.safetensors", WEIGHTS),
    ("affectnet/images/libfacedetection.onnx", WEIGHTS),  # the face detector
)
"""Exceptions: pattern and kind. A pattern's `*` matches no `/`."""

CONTENT = {
    PICTURE: rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|II[*+]\x00|MM\x00[*+]|RIFF.{4}WEBP|8BPS|\xff\x4f\xff\x51|\xff\x0a"
    rb"|/\* XPM|%!PS|#define \w+_width|\x00\x00\x01\x00.\x00|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00"
    rb"|\x00\x00\x00\x0c(?:jP  |JXL )|.{4}ftyp(?:avi|he|mif|msf)|P[1-7]\s(?:#[^\n]*\n|WIDTH |\s*\d+\s+\d+\s)",
    DATA: rb"PAR1|ARROW1|ORC[\x00-\x1f\x80-\xff]|\x93NUMPY|\x89HDF\r\n|MATLAB 5|SQLite format 3\x00|\x80[\x02-\x05][\x80-\xff(}\]cKXGN]",
    WEIGHTS: rb".{4}\x00\x00\x00\x00\{|GGUF|\x08[\x01-\x20]\x12.",
    ARCHIVE: rb"PK[\x03\x05][\x04\x06]|\x1f\x8b|BZh[1-9]|\xfd7zXZ\x00|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!|.{257}ustar|%PDF-",
}
"""Kind → regular expression of the first bytes. Files of torch and npz are ZIP archives."""

PICTURES = sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)

SUFFIXES = {
    PICTURE: " ".join([*PICTURES, "jxl", "psd", "tga", "dds", "xpm", "xbm"]),
    DRAWING: "svg",
    DATA: "parquet feather arrow orc npy npz h5 hdf5 mat pkl pickle joblib lmdb mdb tfrecord tfrecords sqlite db rec",
    WEIGHTS: "safetensors pt pth ckpt onnx tflite pb bin gguf keras caffemodel",
    ARCHIVE: "zip tar gz tgz bz2 xz zst 7z rar pdf",
}

IMAGE = rf"[^\s,;|\"'`<>()]+\.(?:{'|'.join(PICTURES)})(?![a-z])|\w+_(?:exp|val|aro|lnd)\.npy"
"""Regular expression of the name of an image of a data set."""

TABLES = {".csv", ".tsv", ".txt", ".lst", ".list", ".dat", ".jsonl", ".ndjson", ".xml"}
"""Suffixes of text tables, in which a single row that names an image is refused."""

RECORDS = {".json", ".yaml", ".yml", ".html", ".htm"}
"""Suffixes of records, in which ROWS names of images are refused, whatever else is there."""

EXPRESSION = "neutral|happ|sad|surpris|fear|disgust|ang(?:er|ry)|contempt"
ROWS = 5
"""Lines like rows of labels from which any other text counts as a list; an example in a document has fewer."""

ROW = re.compile(
    rf"^[\s\"'`\[({{|,-]*(?:(?:{IMAGE})[\"'`]?[\s,;:|]+[\"'`]?(?:-?\d|{EXPRESSION})|(?:\d+|(?:{EXPRESSION})\w*)[\"'`]?[\s,;:|]+[\"'`]?(?:{IMAGE}))",
    re.IGNORECASE | re.MULTILINE,
)
EMBEDDED = re.compile(
    r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/]{20}|(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR)(?:[A-Za-z0-9+/\s]|\\n){200}|[A-Za-z0-9+/]{1000}"
)
AFFECTNET_NAME = re.compile(rf"\b[0-9a-f]{{56}}\.(?:{'|'.join(PICTURES)})\b", re.IGNORECASE)
NUMBERS = re.compile(r"(?<![\w.])(?:-?\d+(?:\.\d*)?(?:e[+-]?\d+)?[;,| \t]{1,3}){99}-?\d")
ONLY_NUMBERS = re.compile(r"[\s\d.+eE-]+")
BOX = 4
"""Numbers of the smallest annotation file, the box of one face."""

FILE_COLUMNS = re.compile("id|(?:ima?ge?|face|photo)s?(?:_?(?:id|name|path))?|(?:sub_?directory_?)?file_?(?:name|path)?|path|pth|pixels")
LABEL_COLUMNS = re.compile("expressions?|emotions?|exp|labels?|class|valence|arousal|val|aro|human-label")

LONGEST = 4 << 20
"""Bytes of a file that are read. Longer text is refused: no source is as long."""


class File(NamedTuple):
    """A file to check: its name, its first LONGEST bytes (None: another repository), and its size."""

    name: str
    content: bytes | None
    size: int


def reason(name: str, content: bytes | None, size: int) -> str | None:
    """Why a file may not enter Git, or None when it may. The arguments are those of File."""
    path = PurePosixPath(name)
    if content is None:
        return "another repository, whose files are not checked"
    kind = next((kind for kind, magic in CONTENT.items() if re.match(magic, content, re.DOTALL)), None)
    text = None if kind else _text(content, whole=size <= LONGEST)
    kind = kind or (BINARY if text is None else None)
    if kind:
        return None if _allowed(path, kind) else f"{kind}, by its content"
    suffix = path.suffix.lower()[1:]
    kind = next((kind for kind, names in SUFFIXES.items() if suffix in names.split()), None)
    if kind and not _allowed(path, kind):
        return f"{kind}, by its name"
    if kind and kind != DRAWING:
        return f"called {kind}, but is text"
    if size > LONGEST:
        return f"text of {size:,} bytes, more than any source has"
    return _label(path, text or "")


def _text(content: bytes, whole: bool) -> str | None:
    """The content as text, or None when it is not UTF-8 or has control characters. whole: else its last character may be cut."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(content, final=whole)
    except UnicodeDecodeError:
        return None
    return None if re.search(r"[\0-\x08\x0e-\x1a\x1c-\x1f]", text) else text


def _allowed(path: PurePosixPath, kind: str) -> bool:
    return any(kind == allowed and PurePosixPath("/", path).match(f"/{pattern}") for pattern, allowed in ALLOWED)


def _label(path: PurePosixPath, text: str) -> str | None:
    """What a text has of a data set: images, landmarks, or labels per file; None for nothing."""
    if text.startswith("version https://git-lfs"):
        return "a pointer of Git LFS: the file itself would be pushed"
    if EMBEDDED.search(text):
        return "a file within text, in base64"
    if match := AFFECTNET_NAME.search(text):
        return f"names a photograph of AffectNet, {match[0]}"
    if path.suffix.lower() != ".svg" and NUMBERS.search(text):
        return "a hundred numbers in a row: landmarks or pixels"
    if ONLY_NUMBERS.fullmatch(text) and len(text.split()) >= BOX:
        return "nothing but numbers: a box or a label of one photograph"
    return _table(path, text) or _json(text)


def _table(path: PurePosixPath, text: str) -> str | None:
    if path.suffix.lower() in TABLES:
        if match := re.search(IMAGE, text, re.IGNORECASE):
            return f"rows that name image files, {match[0]}"
        cells = [cell.strip(" \"'#").lower() for cell in re.split(r"[,;\t]", text.partition("\n")[0])]
        keys, labels = ([cell for cell in cells if columns.fullmatch(cell)] for columns in (FILE_COLUMNS, LABEL_COLUMNS))
        if keys and labels:
            return f"a table of labels, {labels[0]} by {keys[0]}"
    if path.suffix.lower() in RECORDS and len(names := {match[0] for match in re.finditer(IMAGE, text, re.IGNORECASE)}) >= ROWS:
        return f"{len(names):,} names of image files, as {min(names)}"
    rows = [match[0].strip() for match in ROW.finditer(text)]
    return f"{len(rows):,} rows of labels, first {rows[0]}" if len(rows) >= ROWS else None


def _json(text: str) -> str | None:
    """What a text that is JSON, or has lines of JSON, has of a data set."""
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    for part in (text, *text.splitlines()):
        try:
            if reason := next(filter(None, map(_json_value, _values(json.loads(part)))), None):
                return reason
        except (ValueError, RecursionError):
            continue
    return None


def _values(value: Any) -> Iterator[Any]:
    """A JSON value and all values and keys in it."""
    yield value
    for inner in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(inner)


def _json_value(value: Any) -> str | None:
    if isinstance(value, str) and re.fullmatch(rf"[^\n]*\.(?:{'|'.join(PICTURES)})|{IMAGE}", value, re.IGNORECASE):
        return f"JSON that names image files, {value}"
    if isinstance(value, dict) and {"human-label", "soft-label"} & {key.lower() for key in value}:
        return "an annotation of AffectNet+"
    if isinstance(value, list):
        flat = [number for item in value for number in (item if isinstance(item, list) else [item])]
        if len(flat) >= 100 and all(isinstance(number, int | float) for number in flat):
            return "a hundred numbers in a row: landmarks or pixels"
    return None
