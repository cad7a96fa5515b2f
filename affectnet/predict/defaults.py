"""The model that is used when none is named."""

from pathlib import Path

DEFAULT = "default"
"""Stands for the shipped model wherever a model file is named."""

SHIPPED = Path(__file__).parents[1] / "pretrained" / "fer2013.onnx"


def model_file(model: str | Path | None) -> Path:
    """The path of a model file; None and `default` are the shipped one, from any working folder."""
    return SHIPPED if model is None or str(model) == DEFAULT else Path(model)
