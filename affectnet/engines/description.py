"""What an ONNX file of other authors expects and returns, as a YAML file says it: shipped for some, or the user's own."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from affectnet.errors import UserError, first_few
from affectnet.expressions import EXPRESSIONS
from affectnet.images.crop_policy import CropPolicy
from affectnet.params import Section, parse, read_document

FOLDER = Path(__file__).parent / "descriptions"

SHIPPED = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
"""Names of the descriptions in the package."""

Label = Literal["Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt", "valence", "arousal"]

DIMENSIONS = ("valence", "arousal")
"""As in affectnet.metrics.regression, which comes after this room."""

PER_CHANNEL = Field(min_length=1, max_length=3)


class Description(Section):
    """One file, or several with the same interface; docs/answers.md explains each field.

    labels: what each value of the outputs is, in their order, null for one that is left out; the outputs of several tensors follow each
    other. mean, std: per channel, in the order of `channels`, for pixels from 0 to `highest`.
    """

    source: str
    labels: list[Label | None] = Field(min_length=1, max_length=64)
    values: Literal["logits", "probabilities"]
    image_px: int = Field(ge=16, le=1024)
    layout: Literal["nchw", "nhwc"]
    channels: Literal["rgb", "bgr", "grey"]
    highest: Literal[1, 255]
    mean: Annotated[list[float], PER_CHANNEL]
    std: Annotated[list[Annotated[float, Field(gt=0)]], PER_CHANNEL]
    outputs: list[str] | None = None
    margin: float = Field(default=0.0, ge=-0.4, le=2)
    square: bool = False

    @property
    def expressions(self) -> tuple[str, ...]:
        """Names of the expressions in the order of their values."""
        return tuple(label for label in self.labels if label in EXPRESSIONS)

    @property
    def affect(self) -> bool:
        return set(DIMENSIONS) <= set(self.labels)

    @property
    def depth(self) -> int:
        """Channels of the input."""
        return 1 if self.channels == "grey" else 3

    @property
    def crop(self) -> CropPolicy:
        """The cut of the face: lossless, the detected box with its margin, stretched to the input's square unless it is square already."""
        return CropPolicy(
            image_px=self.image_px,
            margin=self.margin,
            square=self.square,
            align=False,
            padding="edge",
            enlarge=True,
            format="png",
            quality=95,
            resampling="bicubic",
        )


def read_description(name: str) -> Description:
    """A shipped description, or that of a file. Errors: UserError when it is neither, or says what cannot be."""
    path = FOLDER / f"{name}.yaml" if name in SHIPPED else Path(name)
    if not path.is_file():
        raise UserError(f"--as: {name}: neither a file nor a shipped description; these are {', '.join(SHIPPED)}")
    description = parse({"model": read_document(path)}, "model", Description, path)
    named = [label for label in description.labels if label]
    twice = sorted({label for label in named if named.count(label) > 1})
    problems = [f"{path}: labels: several of {first_few(twice)}; name each once"] if twice else []
    if set(DIMENSIONS) & set(named) and not description.affect:
        problems.append(f"{path}: labels: only one of {' and '.join(DIMENSIONS)}; name both, or null for the other")
    if not description.expressions and not description.affect:
        problems.append(f"{path}: labels: no expression and no {DIMENSIONS[0]}; name what the outputs are")
    for field in ("mean", "std"):
        values = getattr(description, field)
        if len(values) != description.depth:
            problems.append(f"{path}: {field}: {len(values)} values for {description.depth} channels ({description.channels})")
    if problems:
        raise UserError(*problems)
    return description
