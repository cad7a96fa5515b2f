import math
from typing import get_args

import pytest
import torch
from drawn import grey
from torch.nn import functional

from affectnet.models.transforms import GROUP, MEAN, STD, Augment, Augmentation, Draws, Grey, Strength, normalised, without_colour


def faces(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 20, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def augment(preset: Augmentation, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return Augment(preset)(images, draws(len(images), seed))


def draws(count: int, seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), torch.device("cpu"), count, slice(0, count))


def test_normalised_pixels_follow_the_formula_and_lie_channels_last() -> None:
    images = faces()
    found = normalised(images)
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = (images[2, 3, 4].double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    torch.testing.assert_close(found[2, :, 3, 4].double(), expected, atol=1e-6, rtol=1e-6)


def test_grey_is_pillows_to_a_rounding_and_leaves_grey_as_it_is() -> None:
    images = faces()
    wanted, colourless = normalised(torch.from_numpy(grey(images.numpy()))), Grey(MEAN, STD)
    torch.testing.assert_close(colourless(normalised(images)), wanted, atol=0.51 / 255 / min(STD), rtol=0)
    torch.testing.assert_close(colourless(wanted), wanted, atol=1e-5, rtol=0)


def test_one_pixel_of_one_image_is_colour() -> None:
    images = faces()[..., :1].repeat(300, 1, 1, 3)
    assert without_colour(images) and without_colour(images[:0])
    images[-1, 5, 6, 2] ^= 1
    assert not without_colour(images)


def test_none_changes_nothing() -> None:
    assert torch.equal(augment("none", faces()), normalised(faces()))


def test_flip_mirrors_some_images_and_leaves_the_others() -> None:
    images = normalised(faces(64))
    found = augment("flip", faces(64))
    flipped = (found == images.flip(3)).all(dim=(1, 2, 3))
    same = (found == images).all(dim=(1, 2, 3))
    assert bool((flipped ^ same).all())
    assert 15 < int(flipped.sum()) < 49


def test_an_image_moves_as_torchs_own_grid_moves_its_mirror_image_or_itself() -> None:
    moves = Strength(flip=True, degrees=40, shift=0.2, scale=0.3)
    images, same = normalised(faces(16)), draws(16, seed=4)
    mirrored = torch.where((same.uniform() < 0.5)[:, None, None, None], images.flip(3), images)
    angle, scale = same.uniform(math.radians(40)), 1 + same.uniform(0.3)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    shift_x, shift_y = same.uniform(0.4), same.uniform(0.4)
    theta = torch.stack([torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)], 1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    expected = functional.grid_sample(mirrored, grid, padding_mode="border", align_corners=False)
    augment = Augment("none")
    augment.strength = moves
    torch.testing.assert_close(augment(faces(16), draws(16, seed=4)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("preset", ["flip", "standard", "strong"])
def test_the_generator_alone_decides(preset: Augmentation) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = augment(preset, faces())
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, augment(preset, faces()))
    assert not torch.equal(first, augment(preset, faces(), seed=5))


@pytest.mark.parametrize("preset", get_args(Augmentation))
def test_the_generators_of_other_devices_are_not_seeded(preset: Augmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(3)  # seeds them all, so that the test sees it
    augment(preset, faces())
    assert seeded == [3]


@pytest.mark.parametrize("preset", ["standard", "strong"])
def test_each_image_of_a_batch_is_drawn_anew(preset: Augmentation) -> None:
    found = augment(preset, faces(1).repeat(8, 1, 1, 1))
    assert found.shape == (8, 3, 20, 24) and found.isfinite().all()
    assert len({tuple(image.flatten().tolist()) for image in found}) == 8


def test_strong_sees_pixels_as_bytes_and_draws_its_operations_a_group() -> None:
    images = faces(GROUP * 30)
    found = Augment("strong")._rand_augment(images, draws(len(images)))
    assert found.dtype == torch.uint8 and found.shape == images.shape
    changed = (found != images).flatten(1).any(1).view(30, GROUP)
    assert int(changed.any(1).sum()) > 10 and bool((changed.all(1) | ~changed.any(1)).float().mean() > 0.8)


@pytest.mark.parametrize("preset", get_args(Augmentation))
def test_mixing_is_strongs_alone_and_its_shares_are_those_of_the_pixels(preset: Augmentation) -> None:
    augment, drawn = Augment(preset), draws(6, seed=3)
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 40, 40).contiguous()
    seen = set()
    for _ in range(12):
        mixed, partner, share = augment.mixing(images, drawn)
        if preset != "strong":
            assert torch.equal(mixed, images) and partner.tolist() == list(range(6)) and share.tolist() == [1] * 6
            continue
        assert sorted(partner.tolist()) == list(range(6)) and float(share.min()) >= 0 and float(share.max()) <= 1
        expected = share * torch.arange(6) + (1 - share) * partner
        torch.testing.assert_close(mixed.mean((1, 2, 3)), expected, atol=1e-4, rtol=1e-4)
        seen.add("cutmix" if set(mixed.flatten().tolist()) <= set(range(6)) else "mixup")
    assert seen == ({"cutmix", "mixup"} if preset == "strong" else set())
