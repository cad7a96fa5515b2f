"""The formats of model files, and the functions that migrate the metadata of an older file to the current format, one step each."""

from collections.abc import Callable
from typing import Any, Final

Content = dict[str, Any]
"""The metadata of a model file as its JSON has it."""


def _from_3(content: Content) -> Content:
    """Format 3 wrote eight settings for every network; format 4 writes those that the network's family has, and none of its training."""
    network = content["model"]
    settings = ("width", "head") if str(network["architecture"]).startswith("vgg") else ("stochastic_depth",)
    return {**content, "model": {name: network[name] for name in ("architecture", "image_px", "dropout", *settings)}}


MIGRATIONS: tuple[Callable[[Content], Content], ...] = (_from_3,)
"""From format OLDEST to the one after it, and so on. A field that is only added needs no new format: its default means "as before"."""

OLDEST: Final = 3
"""Format 1 had neither valence and arousal nor a temperature, format 2 could not say whether all training faces were grey."""

FORMAT: Final = OLDEST + len(MIGRATIONS)


def migrated(content: Any) -> Content:
    """The metadata in the current format. Errors: ValueError when its format is older than OLDEST, of a later version or missing."""
    number = content.get("format") if isinstance(content, dict) else None
    if type(number) is not int:
        raise ValueError("no format number")
    if number > FORMAT:
        raise ValueError(f"format {number}: written by a later version; update this project, which reads formats {OLDEST} to {FORMAT}")
    if number < OLDEST:
        raise ValueError(f"format {number}: older than {OLDEST}, which this version does not read; train the model again")
    for step, migrate in enumerate(MIGRATIONS[number - OLDEST :], number + 1):
        try:
            content = {**migrate(content), "format": step}
        except (KeyError, TypeError) as error:
            raise ValueError(f"format {number}: its fields are not those of that format: {error}") from None
    return dict(content)
