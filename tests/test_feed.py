from collections.abc import Callable

import pytest
import torch

from affectnet.models.transforms import normalised
from affectnet.training.augmentation.augment import Augment, params_class
from affectnet.training.distributed import Group
from affectnet.training.loader import MOST_OF_FREE, Feed, Part
from affectnet.training.targets import Targets

FACES = 10
CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")
IMAGES = torch.randint(0, 256, (FACES, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
ROWS = [torch.tensor(rows) for rows in ([3, 1, 1], [9, 0], [5, 6, 7, 8])]


def feed(device: torch.device = CPU) -> Feed:
    """Each face's own number is its target."""
    own = torch.arange(float(FACES))[:, None]
    return Feed(IMAGES, Targets(own, own.repeat(1, 2)), Augment(params_class()()), Group(device))


def parts(source: Feed) -> list[Part]:
    return list(source.parts(ROWS, torch.Generator()))


@pytest.fixture(params=["resident", "one ahead"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Feed:
    if request.param == "one ahead":
        monkeypatch.setattr(Feed, "_on_device", property(lambda _: False))
    return feed()


def test_each_part_has_the_images_and_targets_of_its_rows(source: Feed) -> None:
    found = parts(source)
    assert [part.faces for part in found] == [3, 2, 4]
    for part, rows in zip(found, ROWS, strict=True):
        assert torch.equal(part.images, normalised(IMAGES[rows]))
        assert torch.equal(part.targets.expression[:, 0], rows.float()) and torch.equal(part.targets.affect[:, 1], rows.float())


def test_an_iterator_that_is_let_go_of_leaves_nothing_behind(source: Feed) -> None:
    iterator = source.parts(ROWS, torch.Generator())
    next(iterator)
    del iterator
    assert len(parts(source)) == len(ROWS)


@pytest.mark.parametrize(("free", "moves"), [(lambda size: size / MOST_OF_FREE + 1, True), (lambda size: size / MOST_OF_FREE - 1, False)])
def test_images_go_where_the_network_is_when_they_fit(free: Callable[[float], float], moves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free(IMAGES.nbytes), 0))
    distant = feed(ELSEWHERE)
    assert distant.targets.expression.device == ELSEWHERE and distant.images.device == CPU
    distant.settle()
    assert distant.images.device == (ELSEWHERE if moves else CPU)
    assert [part.images.device for part in parts(distant)] == [ELSEWHERE] * 3
