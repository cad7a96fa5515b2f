"""Broken and large photographs through `affectnet predict`, in a real process: each has its faces or one line, within memory and time."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from bounds import MOST_MB, in_time, real_module
from broken_images import LARGE, SPECIAL, fuzzed
from tally import Tally, every

__all__ = ["in_time"]


def predicted(images: Mapping[str, bytes], tally: Tally) -> set[str]:
    """The names of the images that had an answer; the others have a line of their own, and all are counted."""
    folder = Path("photographs")
    folder.mkdir()
    for name, content in images.items():
        (folder / name).write_bytes(content)
    ended = real_module("affectnet", "predict", str(folder), "--json")
    assert ended.peak_mb < MOST_MB and "Traceback" not in ended.error, ended.error[-2000:]
    answered = {Path(json.loads(line)["path"]).name for line in ended.out.splitlines()}
    errors = [line for line in ended.error.splitlines() if line.startswith("error: ")]
    assert len(answered) + len(errors) == len(images) and ended.code == (2 if errors else 0), ended.error[-2000:]
    tally("bad photographs", "an answer", len(answered))
    tally("bad photographs", "one line", len(errors))
    return answered


@pytest.mark.parametrize("seed", every(range(6), 1))
def test_fuzzed_photographs_have_an_answer_or_one_line(workspace: Path, tally: Tally, seed: int) -> None:
    predicted(dict(fuzzed(seed)), tally)


def test_bombs_stay_within_memory(workspace: Path, tally: Tally) -> None:
    answered = predicted({name: make() for name, make in SPECIAL.items()}, tally)
    assert answered <= {"exif_of_nothing.jpg", "text_bomb_behind.png", "scans.jpg"}


@pytest.mark.parametrize("name", every(list(LARGE), 1))
def test_the_largest_photographs_stay_within_memory(workspace: Path, tally: Tally, name: str) -> None:
    assert predicted({name: LARGE[name]()}, tally) == {name}
