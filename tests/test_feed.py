from collections.abc import Callable

import pytest
import torch

from affectnet.models.transforms import normalised
from affectnet.training.augmentation.augment import Augment, params_class
from affectnet.training.distributed import Group
from affectnet.training.loader import FREE_MEMORY_SHARE, Loader, MicroBatch
from affectnet.training.targets import Targets

FACES = 10
CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")
IMAGES = torch.randint(0, 256, (FACES, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
ROWS = [torch.tensor(rows) for rows in ([3, 1, 1], [9, 0], [5, 6, 7, 8])]


def loader(device: torch.device = CPU) -> Loader:
    """Each face's target is its number."""
    numbers = torch.arange(float(FACES))[:, None]
    return Loader(IMAGES, Targets(numbers, numbers.repeat(1, 2)), Augment(params_class()()), Group(device))


def loaded(source: Loader) -> list[MicroBatch]:
    return list(source.load(ROWS, torch.Generator()))


@pytest.fixture(params=["resident", "one ahead"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Loader:
    if request.param == "one ahead":
        monkeypatch.setattr(Loader, "_on_device", property(lambda _: False))
    return loader()


def test_each_part_has_the_images_and_targets_of_its_rows(source: Loader) -> None:
    parts = loaded(source)
    assert [one.faces for one in parts] == [3, 2, 4]
    for one, rows in zip(parts, ROWS, strict=True):
        assert torch.equal(one.images, normalised(IMAGES[rows]))
        assert torch.equal(one.targets.expression[:, 0], rows.float()) and torch.equal(one.targets.affect[:, 1], rows.float())


def test_an_iterator_that_is_dropped_leaves_nothing_behind(source: Loader) -> None:
    iterator = source.load(ROWS, torch.Generator())
    next(iterator)
    del iterator
    assert len(loaded(source)) == len(ROWS)


@pytest.mark.parametrize(
    ("free", "moves"),
    [(lambda size: size / FREE_MEMORY_SHARE + 1, True), (lambda size: size / FREE_MEMORY_SHARE - 1, False)],
)
def test_images_go_where_the_network_is_when_they_fit(free: Callable[[float], float], moves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free(IMAGES.nbytes), 0))
    distant = loader(ELSEWHERE)
    assert distant.targets.expression.device == ELSEWHERE and distant.images.device == CPU
    distant.move_to_device()
    assert distant.images.device == (ELSEWHERE if moves else CPU)
    assert [one.images.device for one in loaded(distant)] == [ELSEWHERE] * 3
