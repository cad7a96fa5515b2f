"""What the page has to know, as JSON: the model's metadata and the constants of detection and tracking, which so have one home."""

from collections.abc import Sequence
from dataclasses import asdict
from types import ModuleType
from typing import Any

from affectnet.images import decode, yunet
from affectnet.models.metadata import ModelMetadata
from affectnet.models.outputs import Averaging
from affectnet.predict.colours import UNNAMED, colours_of
from affectnet.predict.films import tracks
from affectnet.reporting.model_facts import model_facts

LIVE_SMALLEST = 0.135
"""Smallest face in the frames of a camera or film, as a share of the shorter side: 640 × 480 px are then searched once, at 320 px, in a

third of the time that the default of photographs takes (docs/page.md)."""

YUNET = (
    *("SCORE", "STRIDES", "SMALLEST_PX", "SEARCHED_PX", "ENLARGED_PX", "COARSEST_PX", "TILE_PX", "TILE_OVERLAP_PX"),
    *("OVERLAP", "CONTAINED", "MOST_BOXES", "MOST_GROWTH"),
)
TRACKS = (
    *("BRIDGE_S", "BUFFER", "LEAST_IOU", "VELOCITY_S", "FADING_S", "SHORTEST_S"),
    *("SIDE", "SHIFT", "CHANGED", "CUT", "LEAST_CONTRAST", "SMALL_PART"),
)


def settings(metadata: ModelMetadata, detector: str, smallest: float, averaging: Averaging) -> dict[str, Any]:
    """detector: name of the one whose boxes the model's map is for; smallest: of a face in a photograph, as a share of its shorter side."""
    facts = model_facts(metadata)
    shown = (*metadata.about, "expressions", "affect", "network", "input", "crop", "data", "validation")
    return {
        "model": asdict(metadata),
        "facts": {name: facts[name] for name in shown},
        "detector": detector,
        "averaging": averaging,
        "smallest": smallest,
        "live_smallest": max(smallest, LIVE_SMALLEST),
        "limits": {"photograph_bytes": decode.MOST_BYTES, "photograph_px": decode.MOST_PIXELS},
        "yunet": _constants(yunet, YUNET),
        "tracks": _constants(tracks, TRACKS),
        "colours": colours_of(metadata.labels),
        "unnamed": UNNAMED,
    }


def _constants(module: ModuleType, names: Sequence[str]) -> dict[str, Any]:
    return {name.lower(): getattr(module, name) for name in names}
