"""What comes with the repository: its params, and the model file that answers when none is named."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PRETRAINED = "pretrained/fer2013.safetensors"
TRAINED = "models/model.safetensors"


def default_model() -> Path:
    """The repository's pretrained model, from any working folder; where it has none, the working folder's trained one."""
    pretrained = ROOT / PRETRAINED
    return pretrained if pretrained.is_file() else Path(TRAINED)


def params_file() -> Path:
    """The repository's params.yaml."""
    return ROOT / "params.yaml"
