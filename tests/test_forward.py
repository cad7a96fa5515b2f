"""Averaging over views of a face: the views, and their mean."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from affectnet.models.forward import predict
from affectnet.models.outputs import CROP_SHARE, Averaging
from affectnet.models.transforms import normalised

HALF, PLAIN = (0.5,) * 3, (1.0,) * 3


class Columns(nn.Module):
    """A network that records its inputs; its outputs are the means of the left, middle and right thirds."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen.append(pixels)
        return torch.stack([part.mean((1, 2, 3)) for part in pixels.tensor_split(3, dim=3)], 1)


def faces(count: int, side: int) -> torch.Tensor:
    generator = np.random.default_rng(1)
    cells = generator.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return torch.from_numpy(np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in cells]))


def answered(images: torch.Tensor, averaging: Averaging, batch: int = 256) -> tuple[np.ndarray, list[torch.Tensor]]:
    network = Columns()
    return predict(network, images, torch.device("cpu"), 3, HALF, PLAIN, averaging, batch).logits, network.seen


def test_a_mirrored_face_gets_the_same_answer_when_it_is_averaged_with_its_mirror_image() -> None:
    images = faces(5, 48)
    for averaging in ("flip", "ten_crop"):
        outputs, mirrored = (answered(one, averaging)[0] for one in (images, images.flip(2)))
        np.testing.assert_allclose(outputs, mirrored, atol=1e-5)
        np.testing.assert_allclose(outputs[:, 0], outputs[:, 2], atol=1e-5)
    assert np.abs(answered(images, "none")[0] - answered(images.flip(2), "none")[0]).max() > 0.01


@pytest.mark.parametrize("side", [48, 64, 224])
def test_ten_crops_are_corners_and_centre_and_their_mirror_images_by_pillow(side: int) -> None:
    images = faces(2, side)
    outputs, seen = answered(images, "ten_crop")
    part, middle = round(CROP_SHARE * side), (side - round(CROP_SHARE * side)) // 2
    assert (side, part) in {(48, 42), (64, 56), (224, 196)} and len(seen) == 10
    corners = [(0, 0), (0, side - part), (side - part, 0), (side - part, side - part), (middle, middle)]
    expected = []
    for mirrored in (False, True):
        for top, left in corners:
            pixels = [Image.fromarray(one[top : top + part, left : left + part].numpy()) for one in images]
            view = np.stack([np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)) for one in pixels])
            expected.append(normalised(torch.from_numpy(view[:, :, ::-1].copy() if mirrored else view), HALF, PLAIN))
    for crops in expected:  # in any order
        assert min(float((crops - one).abs().max()) for one in seen) < 0.06
    np.testing.assert_allclose(outputs, torch.stack([Columns()(crops) for crops in expected]).mean(0), atol=2e-3)


def test_the_batch_changes_nothing() -> None:
    images = faces(7, 48)
    np.testing.assert_allclose(answered(images, "ten_crop", 2)[0], answered(images, "ten_crop")[0], atol=1e-6)
