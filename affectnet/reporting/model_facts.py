"""What a model file is, as labelled lines: for `affectnet info`, its page, the report and the model card."""

from collections.abc import Mapping
from typing import Any

from affectnet.metrics.registry import label
from affectnet.metrics.regression import DIMENSIONS
from affectnet.models.metadata import ModelMetadata
from affectnet.reporting.values import setting, shown

SWITCHES = ("loss", "optimizer", "task")
"""Params that are an entry of a catalogue; `model` is one, too, and stands under `network`."""


def model_facts(metadata: ModelMetadata) -> dict[str, str]:
    """Label → text."""
    training = metadata.training
    params = training.get("params", {})
    settings = {name: value for name, value in params.items() if name not in {*SWITCHES, "model"}}
    if "precision" in training:  # what `auto` was on that device
        settings["precision"] = training["precision"]
    side = metadata.image_px
    colour = "RGB, converted to grey," if metadata.grey else "RGB"
    return {
        **metadata.about,
        "network": setting(metadata.model),
        "expressions": ", ".join(metadata.labels) or "none",
        "affect": "valence, arousal" if metadata.affect else "none",
        "validation": _validation_scores(training),
        "epoch": f"{training.get('epoch')} of {training.get('epochs')}",
        **({"started": setting(training["started_from"])} if "started_from" in training else {}),
        **({"teachers": "; ".join(map(setting, training["teachers"]))} if "teachers" in training else {}),
        **{name: setting(params[name]) for name in SWITCHES if name in params},
        "training": setting(settings),
        "data": f"training faces of SHA-256 {metadata.data}",
        "crop": setting(metadata.crop),
        "boxes": "; ".join(f"{name} by {box_map}" for name, box_map in metadata.box_maps.items()) or "as detected",
        "input": f"{side} × {side} px, {colour} in 0–1, less {setting(metadata.mean)}, by {setting(metadata.std)}",
        "temperature": f"{metadata.temperature:.4g}",
        "versions": setting(metadata.versions),
    }


def _validation_scores(training: Mapping[str, Any]) -> str:
    """`accuracy 0.902, macro-F1 0.809`: the scores of the chosen epoch on our validation split."""
    scores = {name.removeprefix("validation/"): value for name, value in training.items() if name.startswith("validation/")}
    return ", ".join(f"{score_label(name)} {shown(float(value))}" for name, value in scores.items())


def score_label(name: str) -> str:
    """The label of a score as training logs it: `macro_f1`, `valence_ccc`, `loss`."""
    dimension, _, key = name.partition("_")
    return f"{dimension} {label(key)}" if dimension in DIMENSIONS else label(name)


def report_label(group: str, key: str) -> str:
    """The label of a score of metrics/evaluate.json: `expression`, `macro_f1` → `macro-F1`; `valence`, `ccc` → `valence CCC`."""
    return f"{group} {label(key)}" if group in DIMENSIONS else label(key)
