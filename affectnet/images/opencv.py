"""OpenCV, which a small installation does not have: half of its size would be OpenCV."""

from typing import Any

from affectnet.errors import UserError

REMEDY = "pip install 'affectnet-pipeline[video]'"


def opencv(needed_for: str) -> Any:
    """The module cv2. needed_for: begins the message. Errors: UserError when OpenCV is not installed."""
    try:
        import cv2  # noqa: PLC0415 (optional, and takes a tenth of a second)
    except ImportError:
        raise UserError(f"{needed_for}: needs OpenCV, which is not installed; {REMEDY}") from None
    return cv2
