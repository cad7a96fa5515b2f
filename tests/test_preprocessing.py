import pytest
import torch

from affectnet.preprocessing import MEAN, STD, Augment, Augmentation, normalised


def faces(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 20, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def augment(preset: Augmentation, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return Augment(preset, torch.Generator().manual_seed(seed))(images)


def test_normalised_pixels_follow_the_formula_and_lie_channels_last() -> None:
    images = faces()
    found = normalised(images)
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = (images[2, 3, 4].double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    torch.testing.assert_close(found[2, :, 3, 4].double(), expected, atol=1e-6, rtol=1e-6)


def test_none_changes_nothing() -> None:
    images = normalised(faces())
    assert torch.equal(augment("none", images), images)


def test_flip_mirrors_some_images_and_leaves_the_others() -> None:
    images = normalised(faces(64))
    found = augment("flip", images)
    flipped = (found == images.flip(3)).all(dim=(1, 2, 3))
    same = (found == images).all(dim=(1, 2, 3))
    assert bool((flipped ^ same).all())
    assert 15 < int(flipped.sum()) < 49


@pytest.mark.parametrize("preset", ["flip", "standard"])
def test_the_generator_alone_decides(preset: Augmentation) -> None:
    images = normalised(faces())
    torch.manual_seed(1)
    first = augment(preset, images)
    torch.manual_seed(2)
    assert torch.equal(first, augment(preset, images))
    assert not torch.equal(first, augment(preset, images, seed=5))


def test_standard_draws_anew_for_each_image_of_a_batch() -> None:
    images = normalised(faces(1)).repeat(8, 1, 1, 1)
    found = augment("standard", images)
    assert found.shape == images.shape and found.isfinite().all()
    assert len({tuple(image.flatten().tolist()) for image in found}) == 8
