"""Small faces in large photographs: panoramas, groups."""

import subprocess
import sys

import numpy as np
import pytest
from chain import ROOT
from numpy.typing import NDArray
from PIL import Image
from portraits import drawn

from affectnet.__main__ import main
from affectnet.images.detection import DETECTORS, SMALLEST_SHARE, load_detector
from affectnet.images.yunet import SMALLEST_PX
from affectnet.predict.options import SMALLEST

FACES = 5
LOCAL = [name for name in DETECTORS if name != "yunet"]
"""Detectors that need no download."""


def row_of_faces(width: int, height: int, side: int) -> NDArray[np.uint8]:
    """Five drawn faces side by side in a grey photograph. side: of the drawing in px; the face takes two thirds of it."""
    photograph = Image.new("RGB", (width, height), (120, 130, 140))
    face = drawn(side)
    for number in range(FACES):
        photograph.paste(face, (int(width * (number + 0.5) / FACES - side / 2), (height - side) // 2))
    return np.asarray(photograph)


def found(detector: str, photograph: NDArray[np.uint8], smallest: float, side: int) -> int:
    """The number of the five drawings that contain the centre of a box."""
    height, width = photograph.shape[:2]
    boxes = load_detector(detector, smallest)(photograph)
    middles = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes]
    at = [(width * (number + 0.5) / FACES, height / 2) for number in range(FACES)]
    return sum(any(max(abs(x - u), abs(y - v)) < side / 2 for u, v in middles) for x, y in at)


@pytest.mark.parametrize("detector", LOCAL)
@pytest.mark.parametrize(("width", "height"), [(6400, 1000), (1000, 1000)])
def test_the_smallest_share_holds_in_panoramas_too(detector: str, width: int, height: int) -> None:
    """Faces of about 0.1 of the shorter side; in a panorama of 1 : 6.4, searched at 1280 px, they have 20 px."""
    assert found(detector, row_of_faces(width, height, 150), SMALLEST_SHARE, 150) == FACES


@pytest.mark.parametrize("detector", LOCAL)
def test_smaller_faces_are_searched_on_request_and_otherwise_only_larger_ones(detector: str) -> None:
    photograph = row_of_faces(3200, 2400, 120)
    assert found(detector, photograph, SMALLEST_SHARE, 120) == 0
    assert found(detector, photograph, 0.015, 120) == FACES
    assert found(detector, row_of_faces(1280, 960, 150), 0.5, 150) == 0


def test_the_help_names_the_limits() -> None:
    for command in ("predict", "evaluate", "demo"):
        done = subprocess.run([sys.executable, "-m", "affectnet", command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "--smallest SHARE" in done.stdout
    assert f"default {SMALLEST_SHARE:g};" in SMALLEST and f"at least {SMALLEST_PX} px" in SMALLEST


@pytest.mark.parametrize("share", ["0", "-0.1", "1.5", "nan", "small"])
def test_a_share_that_is_none_is_one_line(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "a.jpg", "--smallest", share])
    err = capsys.readouterr().err
    assert f"{share!r} is not a share above 0 and up to 1" in err and err.count("\n") == 1
