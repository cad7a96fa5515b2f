"""A model file described: what it was trained on, its scores, and how it is to be used."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from affectnet.models.checkpoint import load_model

VALIDATION = "validation/"
NAMED = ("loss", "optimizer", "task", "model")
"""Params that are an entry of a catalogue."""


def content(path: Path) -> dict[str, Any]:
    """The model's metadata, the file's bytes and the number of its weights. Errors: UserError when it is no model of this pipeline."""
    network, metadata = load_model(path)
    weights = sum(parameter.numel() for parameter in network.parameters())
    return {"file": str(path), "bytes": path.stat().st_size, "weights": weights, **asdict(metadata)}


def text(found: Mapping[str, Any]) -> str:
    """The same for reading: one line a matter."""
    training, crop = found["training"], found["crop"]
    params = training.get("params", {})
    plain = {name: value for name, value in params.items() if name not in NAMED}
    if "precision" in training:  # what `auto` was on that device
        plain["precision"] = training["precision"]
    mean, std = (", ".join(f"{value:g}" for value in found[name]) for name in ("mean", "std"))
    colour = "RGB, its colour taken away," if found["grey"] else "RGB"
    facts = {
        "file": f"{found['file']}, {found['bytes'] / 1e6:.1f} MB, {found['weights']:,} weights, format {found['format']}",
        "network": _listed(found["model"]),
        "expressions": ", ".join(found["labels"]) or "none",
        "affect": "valence, arousal" if found["affect"] else "none",
        "validation": _listed(validation_scores(training)),
        "epoch": f"{training.get('epoch')} of {training.get('epochs')}",
        **({"started": _listed(training["started_from"])} if "started_from" in training else {}),
        **{name: _listed(params[name]) for name in NAMED[:3] if name in params},
        "training": _listed(plain),
        "data": f"SHA-256 {found['data']}",
        "crop": _listed(crop),
        "input": f"{found['image_px']} × {found['image_px']} px, {colour} in 0–1, less {mean}, by {std}",
        "temperature": f"{found['temperature']:.4g}",
        "versions": _listed(found["versions"]),
    }
    return "\n".join(f"{name:<12} {value}".rstrip() for name, value in facts.items())


def validation_scores(training: Mapping[str, Any]) -> dict[str, float]:
    """The scores on our validation split that a model file tells of its training, by name."""
    return {name.removeprefix(VALIDATION): value for name, value in training.items() if name.startswith(VALIDATION)}


def _listed(values: Any) -> str:
    if isinstance(values, Mapping):
        return ", ".join(
            f"{name} {_listed(value) if not isinstance(value, Mapping) else f'({_listed(value)})'}" for name, value in values.items()
        )
    return f"{values:.4g}" if isinstance(values, float) else str(values)
