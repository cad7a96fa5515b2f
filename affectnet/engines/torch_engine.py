"""A safetensors model file in torch."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from affectnet.models.checkpoint import load_model
from affectnet.models.device import select_device
from affectnet.models.forward import predict
from affectnet.models.metadata import ModelMetadata
from affectnet.models.network import weight_count
from affectnet.models.outputs import BATCH, Averaging, Outputs


class TorchEngine:
    """See affectnet.engines.engine.Engine."""

    def __init__(self, network: nn.Module, metadata: ModelMetadata, device: torch.device, name: str = "model file") -> None:
        self.network, self.metadata, self.name = network.to(device), metadata, name
        self.device, self.weights = str(device), weight_count(network)

    @classmethod
    def load(cls, model: Path, device: str = "auto") -> "TorchEngine":
        """Errors: UserError as `load_model` and `select_device`."""
        network, metadata = load_model(model)
        return cls(network, metadata, select_device(device, "device"), str(model))

    def outputs(self, crops: NDArray[np.uint8], averaging: Averaging = "none", batch: int = BATCH) -> Outputs:
        """See Engine."""
        metadata, device = self.metadata, torch.device(self.device)
        images = torch.from_numpy(crops)
        return predict(self.network, images, device, len(metadata.labels), metadata.mean, metadata.std, averaging, batch)
