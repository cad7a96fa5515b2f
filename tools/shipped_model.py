"""Writes affectnet/pretrained/fer2013.onnx, and the metadata of both shipped files: `python -m tools.shipped_model`.

The weights stay those of pretrained/fer2013.safetensors.
"""

import re
from dataclasses import replace
from pathlib import Path

from torch import nn

from affectnet.engines.onnx_export import export_network
from affectnet.files.atomic import replacing
from affectnet.files.sha256 import file_sha256
from affectnet.images.box_map import BoxMap
from affectnet.models.checkpoint import load_model, save_model
from affectnet.predict.defaults import SHIPPED

WEIGHTS = Path(__file__).parents[1] / "pretrained" / "fer2013.safetensors"
CARD = SHIPPED.with_suffix(".md")

ABOUT = {
    "data set": "FER2013 (Goodfellow et al. 2013): 35,887 grey faces of 48 px from web searches",
    "test": "accuracy 0.654 [0.639, 0.670], macro-F1 0.618, on the 3,589 faces of its public test",
    "licence": "for research, as the data set; the code is MIT",
    "limits": "never predicts Contempt; misses every second face of Fear, Disgust and Sad; errors by group of people are unknown; "
    "not for decisions about people",
}
"""What the card says, in a line each."""

CROP = {"resampling": "bicubic"}
"""The training faces are stored as they came, so any resampling is theirs; this one needs no OpenCV."""


BOX_MAPS = {"libfacedetection": BoxMap(-0.01, -0.02, 1.24, 1.03), "haar": BoxMap(0.01, 0.01, 1.12, 1.12)}
"""What the stage `detect` fits on FER2013's training images, whose whole image is the crop: 291 and 222 of 300 faces detected."""


def main() -> None:
    network, metadata = load_model(WEIGHTS)
    metadata = replace(metadata, about=ABOUT, crop={**metadata.crop, **CROP}, box_maps=BOX_MAPS)
    with replacing(SHIPPED) as temporary:
        temporary.write_bytes(export_network(network, metadata, half=True))
    assert isinstance(network, nn.Sequential), "the shipped network is behind Grey"
    save_model(WEIGHTS, network[1], metadata, "float16")
    text = CARD.read_text()
    for path in (WEIGHTS, SHIPPED):
        described = f"`{path.name}`, {path.stat().st_size:,} bytes, SHA-256 `{file_sha256(path).hex()}`"
        text, count = re.subn(rf"`{re.escape(path.name)}`, [\d,]+ bytes, SHA-256 `[0-9a-f]{{64}}`", described, text)
        assert count == 1, f"{CARD} does not describe {path.name}"
    with replacing(CARD) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    main()
