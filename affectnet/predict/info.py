"""A model file described: what it was trained on, its scores, and how it is to be used."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from affectnet.engines.description import Description, read_description
from affectnet.engines.engine import open_engine
from affectnet.reporting.model_facts import model_facts
from affectnet.reporting.values import setting

CARD, CARD_OF = "model_card.md", ("model.onnx", "model.safetensors")
"""What stage `report` writes next to the models of the pipeline, and their names; another file's card has its name and `.md`."""


def content(path: Path, description: str | None = None) -> dict[str, Any]:
    """The metadata, the file's bytes and weights, and its card if it lies next to it. Arguments and errors: as `open_engine`.

    Of a file of other authors, whose metadata are unknown, its bytes and its description.
    """
    engine = open_engine(path, "cpu", description)
    file = {"file": str(path), "bytes": path.stat().st_size}
    if description is not None:
        return {**file, "description": description, **read_description(description).model_dump()}
    return {**file, "weights": engine.weights, "card": card_path(path), **asdict(engine.metadata)}


def text(path: Path, description: str | None = None) -> str:
    """The same as readable lines."""
    engine = open_engine(path, "cpu", description)
    file = f"{path}, {path.stat().st_size / 1e6:.1f} MB"
    if description is not None:
        return _lines({"file": file, "description": description, **_description_facts(read_description(description))})
    card = card_path(path)
    file = f"{file}, {engine.weights:,} weights, format {engine.metadata.format}"
    return _lines({"file": file, **({"card": card} if card else {}), **model_facts(engine.metadata)})


def card_path(path: Path) -> str | None:
    """The model card: what the model learned from, its test scores and limits."""
    candidates = [path.with_suffix(".md"), *([path.with_name(CARD)] if path.name in CARD_OF else [])]
    return next((str(candidate) for candidate in candidates if candidate.is_file()), None)


def _lines(facts: dict[str, str]) -> str:
    return "\n".join(f"{name:<12} {value}".rstrip() for name, value in facts.items())


def _description_facts(described: Description) -> dict[str, str]:
    """Label → text."""
    side = described.image_px
    scaled = f"in 0–{described.highest}, less {setting(described.mean)}, by {setting(described.std)}"
    return {
        "source": described.source,
        "labels": ", ".join(label or "null" for label in described.labels),
        "values": described.values,
        "outputs": setting(described.outputs) if described.outputs else "all, in the file's order",
        "crop": setting({"margin": described.margin, "square": described.square}),
        "input": f"{side} × {side} px, {described.layout}, {described.channels} {scaled}",
    }
