"""A model file described: what it was trained on, its scores, and how it is to be used."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from affectnet.engines.engine import open_engine
from affectnet.reporting.model_facts import model_facts

CARDS = ("{stem}.md", "model_card.md")
"""Names of a model card next to the model file."""


def content(path: Path, description: str | None = None) -> dict[str, Any]:
    """The metadata, the file's bytes and weights, and its card if one lies next to it. Arguments and errors: as `open_engine`."""
    engine = open_engine(path, "cpu", description)
    return {"file": str(path), "bytes": path.stat().st_size, "weights": engine.weights, "card": card_path(path), **asdict(engine.metadata)}


def text(path: Path, description: str | None = None) -> str:
    """The same as readable lines."""
    engine = open_engine(path, "cpu", description)
    file = f"{path}, {path.stat().st_size / 1e6:.1f} MB, {engine.weights:,} weights, format {engine.metadata.format}"
    card = card_path(path)
    facts = {"file": file, **({"card": card} if card else {}), **model_facts(engine.metadata)}
    return "\n".join(f"{name:<12} {value}".rstrip() for name, value in facts.items())


def card_path(path: Path) -> str | None:
    """The model card: what the model learned from, its test scores and limits."""
    candidates = (path.with_name(name.format(stem=path.stem)) for name in CARDS)
    return next((str(candidate) for candidate in candidates if candidate.is_file()), None)
