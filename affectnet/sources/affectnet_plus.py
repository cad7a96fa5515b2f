"""AffectNet+: 224×224 images and one JSON file an image, its keys in any capitalisation."""

import json
from pathlib import Path
from typing import Any

from affectnet.sources.per_image import Annotation, PerImage, checked, content

LARGEST = 1 << 20
"""Bytes of a JSON file at most."""


class AffectNetPlus(PerImage):
    """`human_annotated/train_set/{images,annotations}` and validation_set likewise (Fard et al. 2024, arXiv 2410.22506).

    The images without human labels (`no_human_annotated`) are left alone.
    """

    def accepts(self, folder: Path) -> bool:
        return not any(part.lower().startswith("no_human") for part in folder.relative_to(self.root).parts)

    def annotated_name(self, file: str) -> str | None:
        return file.removesuffix(".json") if file.endswith(".json") else None

    def read(self, files: tuple[Path, ...]) -> Annotation:
        (file,) = files
        try:
            found = plain_keys(json.loads(content(file, LARGEST).decode("utf-8-sig")))
        except (OSError, ValueError, RecursionError, AttributeError) as error:
            return Annotation(fault="malformed", detail=f"{file.name}: {type(error).__name__}")
        meta = found.get("metadata")
        about = {**found, **(plain_keys(meta) if isinstance(meta, dict) else {})}
        landmarks = about.get("landmarks")
        return checked(found.get("humanlabel"), about.get("valence"), about.get("arousal"), landmarks if landmarks else None)


def plain_keys(content: dict[str, Any]) -> dict[str, Any]:
    """The mapping with its keys in lower case, without `-`, `_` and spaces: `Human-Label` and `human_label` are one."""
    return {"".join(c for c in key.lower() if c.isalnum()): value for key, value in content.items()}
