"""The model that is used when none is named."""

from pathlib import Path

DEFAULT = "default"
"""Stands for the shipped model wherever a model file is named."""

FOLDERS = (Path(__file__).parents[1] / "pretrained", Path(__file__).parents[2] / "pretrained")
"""Where the shipped model lies: in an installed package, and in a clone."""

SHIPPED = "fer2013.onnx"


def model_file(model: str | Path | None) -> Path:
    """The path of a model file; None and `default` are the shipped one, from any working folder."""
    if model is not None and str(model) != DEFAULT:
        return Path(model)
    candidates = [folder / SHIPPED for folder in FOLDERS]
    return next((path for path in candidates if path.is_file()), candidates[-1])
