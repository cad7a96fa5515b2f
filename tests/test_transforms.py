import torch
from drawn import grey

from affectnet.models.transforms import MEAN, STD, Grey, all_grey, normalised


def faces(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 20, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_normalised_pixels_follow_the_formula_and_lie_channels_last() -> None:
    images = faces()
    pixels = normalised(images)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    expected = (images[2, 3, 4].double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    torch.testing.assert_close(pixels[2, :, 3, 4].double(), expected, atol=1e-6, rtol=1e-6)


def test_grey_is_pillows_to_a_rounding_and_leaves_grey_as_it_is() -> None:
    images = faces()
    expected, colourless = normalised(torch.from_numpy(grey(images.numpy()))), Grey(MEAN, STD)
    torch.testing.assert_close(colourless(normalised(images)), expected, atol=0.51 / 255 / min(STD), rtol=0)
    torch.testing.assert_close(colourless(expected), expected, atol=1e-5, rtol=0)


def test_one_pixel_of_one_image_is_colour() -> None:
    images = faces()[..., :1].repeat(300, 1, 1, 3)
    assert all_grey(images) and all_grey(images[:0])
    images[-1, 5, 6, 2] ^= 1
    assert not all_grey(images)
