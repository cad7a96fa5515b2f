"""The model file: one safetensors file with the weights and, as one JSON string, everything needed to use them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from affectnet.atomic import replacing
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.network import ModelParams, build

FORMAT = 2
METADATA_KEY = "affectnet"
"""One key only: with several, their order in the file, and so its bytes, changes from process to process (measured, safetensors 0.8)."""


@dataclass(frozen=True)
class Card:
    """What a model file says of its weights.

    labels: expression names in the order of the outputs, which are the logits; affect: whether valence and arousal follow
    them; temperature: what the logits are divided by before softmax, fitted on our validation split; image_px, mean, std:
    input is RGB in 0–1, resized to image_px × image_px, minus mean, by std, per channel; crop: the policy that cut the
    training crops; data: SHA-256 of the training shards; training: params and scores on the validation split; versions:
    library versions.
    """

    model: dict[str, Any]
    labels: tuple[str, ...]
    affect: bool
    temperature: float
    image_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: dict[str, Any]
    data: str
    training: dict[str, Any]
    versions: dict[str, str]
    format: int = FORMAT

    @property
    def outputs(self) -> int:
        """Width of the network's output."""
        return len(self.labels) + 2 * self.affect


def save_model(path: Path, network: nn.Module, card: Card) -> None:
    """Writes the file whole or not at all; the same weights and card give the same bytes."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.state_dict().items())}
    content = save(weights, metadata={METADATA_KEY: json.dumps(asdict(card), sort_keys=True)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def load_model(path: Path) -> tuple[nn.Module, Card]:
    """The network in evaluation mode on the CPU, and its card.

    Nothing is unpickled. Errors: UserError when the file is missing, not ours, of a later format, of foreign labels, or
    its weights do not fit or are not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dvc repro`") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from None
    card = _card(path, metadata.get(METADATA_KEY))
    network = _network(path, card, weights)
    return network.eval(), card


def _card(path: Path, text: str | None) -> Card:
    if text is None:
        raise UserError(f"{path}: a safetensors file, but not a model of this pipeline (no {METADATA_KEY!r} in its metadata)")
    try:
        content = json.loads(text)
        if content.get("format") != FORMAT:
            raise UserError(f"{path}: model format {content.get('format')!r}, this version reads {FORMAT}")
        card = Card(**{**content, **{name: tuple(content[name]) for name in ("labels", "mean", "std")}})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is not a model card: {type(error).__name__}: {error}") from None
    foreign = [label for label in card.labels if label not in EXPRESSIONS]
    if foreign or len(set(card.labels)) != len(card.labels) or not card.outputs:
        raise UserError(f"{path}: labels {card.labels} are not distinct names of {', '.join(EXPRESSIONS)}")
    return card


def _network(path: Path, card: Card, weights: dict[str, torch.Tensor]) -> nn.Module:
    try:
        network = build(ModelParams.model_validate(card.model), card.outputs)
        network.load_state_dict(weights)
    except (ValidationError, RuntimeError) as error:
        raise UserError(f"{path}: weights and description disagree: {str(error).splitlines()[-1].strip()}") from None
    broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor.float()).all()]
    if broken:
        raise UserError(f"{path}: weights are not finite in {len(broken)} tensors, first {broken[0]}")
    return network
