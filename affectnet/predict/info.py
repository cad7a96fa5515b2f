"""A model file described: what it was trained on, its scores, and how it is to be used."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from affectnet.models.checkpoint import load_model
from affectnet.reporting.model_facts import model_facts, weight_count

CARDS = ("{stem}.md", "model_card.md")
"""Names of a model card next to the model file."""


def content(path: Path) -> dict[str, Any]:
    """The metadata, the file's bytes, the number of its weights, and its card if one lies next to it. Errors: UserError as `load_model`."""
    network, metadata = load_model(path)
    return {"file": str(path), "bytes": path.stat().st_size, "weights": weight_count(network), "card": _card(path), **asdict(metadata)}


def text(path: Path) -> str:
    """The same as readable lines. Errors: UserError as `load_model`."""
    network, metadata = load_model(path)
    file = f"{path}, {path.stat().st_size / 1e6:.1f} MB, {weight_count(network):,} weights, format {metadata.format}"
    card = _card(path)
    facts = {"file": file, **({"card": card} if card else {}), **model_facts(metadata)}
    return "\n".join(f"{name:<12} {value}".rstrip() for name, value in facts.items())


def _card(path: Path) -> str | None:
    """The model card: what the model learned from, its test scores and limits."""
    candidates = (path.with_name(name.format(stem=path.stem)) for name in CARDS)
    return next((str(candidate) for candidate in candidates if candidate.is_file()), None)
