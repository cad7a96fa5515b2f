"""AffectNet+: 224×224 images and one JSON file per image, its keys in any capitalisation."""

import json
import re
from pathlib import Path
from typing import Any

from affectnet.errors import reraise_machine_fault
from affectnet.sources.per_image import Annotation, PerImage, parse_annotation, read_limited
from affectnet.sources.source import FileParams, layout

LARGEST_JSON = 1 << 20
"""Bytes of a JSON file at most."""

LANDMARKS = ("landmark68", "landmarks68", "landmarks")
"""Plain keys of the 68 points: the release has `landmark-68`, other copies have the others. `landmark-29` is not read."""


@layout("affectnet_plus")
class AffectNetPlus(PerImage):
    """`human_annotated/train_set/{images,annotations}` and validation_set likewise (Fard et al. 2024, arXiv 2410.22506).

    The images without human labels (`no_human_annotated`) are not read.
    """

    Params = FileParams

    sign = re.compile(r"_set/annotations/[^/]+\.json$")

    def accepts(self, folder: Path) -> bool:
        return not any(part.lower().startswith("no_human") for part in folder.relative_to(self.root).parts)

    def annotated_name(self, file: str) -> str | None:
        return file.removesuffix(".json") if file.endswith(".json") else None

    def read(self, files: tuple[Path, ...]) -> Annotation:
        (file,) = files
        try:
            values = plain_keys(json.loads(read_limited(file, LARGEST_JSON).decode("utf-8-sig")))
        except (OSError, ValueError, RecursionError, AttributeError) as error:
            reraise_machine_fault(error, file)
            return Annotation(fault="malformed", detail=f"{file.name}: {type(error).__name__}")
        landmarks = next(filter(None, map(values.get, LANDMARKS)), None)
        return parse_annotation(values.get("humanlabel"), values.get("valence"), values.get("arousal"), landmarks)


def plain_keys(content: dict[str, Any]) -> dict[str, Any]:
    """All values of the mapping and of the mappings in it; among equal keys the outermost counts.

    Keys are in lower case, without `-`, `_` and spaces, so that `Human-Label` and `human_label` are equal.
    """
    plain: dict[str, Any] = {}
    level = [content]
    while level:
        for key, value in ((key, value) for mapping in level for key, value in mapping.items()):
            plain.setdefault("".join(c for c in key.lower() if c.isalnum()), value)
        level = [value for mapping in level for value in mapping.values() if isinstance(value, dict)]
    return plain
