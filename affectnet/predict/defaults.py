"""The repository's params, and the model file that is used when none is named."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PRETRAINED = "pretrained/fer2013.safetensors"
TRAINED = "models/model.safetensors"


def default_model() -> Path:
    """The repository's pretrained model, from any working folder; if it is missing, the model trained in the working folder."""
    pretrained = ROOT / PRETRAINED
    return pretrained if pretrained.is_file() else Path(TRAINED)


def params_file() -> Path:
    """The repository's params.yaml."""
    return ROOT / "params.yaml"
