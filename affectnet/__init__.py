"""Facial expressions, valence and arousal: `Predictor` for your own Python, and the rooms of the pipeline."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affectnet.errors import UserError
    from affectnet.predict.predictor import Face, Predictor

    __version__: str

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""From version 1.32 on ONNX Runtime writes a number of this machine into the home folder, and sends it to its maker, unless it is off."""

__all__ = ["Face", "Predictor", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    """The names for your own Python, imported when they are asked for: most stages need none."""
    if name in {"Face", "Predictor"}:
        from affectnet.predict import predictor  # noqa: PLC0415

        return getattr(predictor, name)
    if name == "UserError":
        from affectnet.errors import UserError  # noqa: PLC0415

        return UserError
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("affectnet-pipeline")
    raise AttributeError(f"module 'affectnet' has no attribute {name!r}")
