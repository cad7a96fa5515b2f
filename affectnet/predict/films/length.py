"""How long a film is, by its file's statement: the last frame that was analysed may come long before its end."""

import os

from affectnet.images.opencv import opencv


def stated_end(path: str) -> float | None:
    """Seconds from the film's beginning to its end; None where the file states none, or OpenCV does not take its name."""
    cv2 = opencv(path)
    absolute = os.path.abspath(path)  # noqa: PTH100 (leaves links as they are; FFmpeg cannot take it for a URL)
    if os.fsencode(absolute).decode("utf-8", "replace") != absolute:  # which OpenCV refuses
        return None
    video = cv2.VideoCapture(absolute, cv2.CAP_FFMPEG)
    try:
        rate, count = float(video.get(cv2.CAP_PROP_FPS)), float(video.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()
    return count / rate if rate > 0 and count > 0 else None
