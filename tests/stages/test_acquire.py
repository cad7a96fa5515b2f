import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import local

from affectnet.errors import UserError
from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.params import parse, read_document
from affectnet.sources.registry import open_source
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.faults import Faults
from affectnet.synthetic.further import soft_label, subset
from affectnet.synthetic.plan import ALL_CODES
from affectnet.tables.source_pointer import Pointer
from stages.acquire import AcquireParams, run

NEVER_SEEN = Path("no-record.json")
FAULTS = dict.fromkeys(Faults.model_fields, 1)


def params(faults: dict[str, int] | None = None, seed: int = 3) -> AcquireParams:
    demo = {
        "layout": "demo",
        "training": 40,
        "validation": 16,
        "floor": 2,
        "smallest_px": 96,
        "largest_px": 128,
        "faults": faults or FAULTS,
    }
    return AcquireParams.model_validate({"seed": seed, "labels": list(EXPRESSIONS), "dataset_name": "demo", "dataset": demo})


def draw(folder: Path, workers: int = 1, **changes: Any) -> dict[str, bytes]:
    """Every file of a small download, by its path."""
    run(params(**changes), local(workers), NEVER_SEEN, raw=folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines(files: dict[str, bytes], name: str) -> list[list[str]]:
    return list(csv.reader(files[f"Manually_Annotated_file_lists/{name}"].decode().splitlines()))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return draw(tmp_path_factory.mktemp("demo") / "raw")


def test_the_same_seed_draws_the_same_bytes_whatever_the_workers(files: dict[str, bytes], tmp_path: Path) -> None:
    assert draw(tmp_path / "raw", workers=2) == files
    other = draw(tmp_path / "other", seed=4)
    assert set(other) != set(files)


def test_the_second_lists_say_what_was_drawn_and_are_read_with_the_first(files: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    rows = [row for part in open_source(Pointer.read(tmp_path)).rows() for row in part.to_pylist()]
    assert {row["list"] for row in rows} == {f"Manually_Annotated_file_lists/{name}.csv" for name in ("training", "validation")}
    for row in rows:
        second = lines(files, Path(row["list"]).stem + "_further.csv")
        cells = dict(zip(second[0], second[row["row"]], strict=True))
        assert sum(row["soft_label"]) == pytest.approx(1) and row["age"] == pytest.approx(float(cells["age"]))
        assert row["soft_label"] == pytest.approx([float(cells[name]) for name in EXPRESSIONS], abs=1e-3)
        assert (row["subset"], row["gender"]) == (cells["subset"], "woman" if float(cells["woman"]) > float(cells["man"]) else "man")
        assert dict(row["pose"]) == pytest.approx({angle: float(cells[angle]) for angle in ("yaw", "pitch", "roll")})
    tests = [row for row in rows if row["split"] == "test"]
    assert sum(int(np.argmax(row["soft_label"])) == row["expression"] for row in tests) >= 0.8 * len(tests)


def test_a_weak_expression_is_partly_neutral_and_a_wrong_label_is_difficult() -> None:
    for name in EXPRESSIONS[1:]:
        weak, strong = (soft_label(draw_actions(name, np.random.default_rng(1), intensity)) for intensity in (0.25, 0.7))
        assert strong.argmax() == CODES[name] and weak[0] > strong[0] and weak.sum() == pytest.approx(1)
        assert subset(strong, name) == "easy" and subset(strong, "Neutral") == "difficult" == subset(strong, "Uncertain")


def test_training_list_has_a_header_and_the_validation_list_none(files: dict[str, bytes]) -> None:
    assert lines(files, "training.csv")[0][0] == "subDirectory_filePath"
    assert "/" in lines(files, "validation.csv")[0][0]


def test_classes_are_skewed_as_affectnets_with_a_floor_and_validation_is_even(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "raw", faults=dict.fromkeys(FAULTS, 0))
    training = Counter(int(row[6]) for row in lines(drawn, "training.csv")[1:])
    validation = Counter(int(row[6]) for row in lines(drawn, "validation.csv"))
    assert sum(training.values()) == 40 and training[1] == max(training.values()) and min(training.values()) == 2
    assert validation == dict.fromkeys(range(8), 2)


def test_each_fault_is_there_as_often_as_asked(files: dict[str, bytes]) -> None:
    rows = lines(files, "training.csv")[1:]
    images = "Manually_Annotated/Manually_Annotated_Images/"
    whole = [row for row in rows if len(row) == 9]
    assert len(rows) - len(whole) == FAULTS["malformed"]
    assert sum(row[1] == "NULL" for row in whole) == 1
    assert sum(row[5] == "" for row in whole) == 1
    assert sum(row[5].count(";") not in {0, 135} for row in whole) == 1
    assert sum(images + row[0] not in files for row in whole) == 1
    assert sum(files.get(images + row[0]) == b"" for row in whole) == 1
    assert sum(row[3] == "0" for row in whole) == 1
    assert sorted(int(row[6]) for row in whole if int(row[6]) > 7) == [8, 9, 10]
    assert all((row[7] == "-2") == (row[6] in {"9", "10"}) for row in whole if int(row[6]) > 7)
    assert {row[0] for row in whole} & {row[0] for row in lines(files, "validation.csv")}
    assert sum(name.endswith("Thumbs.db") for name in files) == 1
    contents = [content for name, content in files.items() if name.startswith(images) and content]
    assert len(contents) - len(set(contents)) == 3  # an exact duplicate, a contradictory one, and a copy of validation
    listed = {images + row[0] for row in [*rows, *lines(files, "validation.csv")]}
    assert len([name for name in files if name.startswith(images) and name not in listed and not name.endswith(".db")]) >= 1


def test_valence_and_arousal_lie_in_the_disc_and_follow_the_expression(files: dict[str, bytes]) -> None:
    rows = [row for row in [*lines(files, "training.csv")[1:], *lines(files, "validation.csv")] if len(row) == 9 and row[7] != "-2"]
    values = np.array([[float(row[7]), float(row[8])] for row in rows])
    assert (np.hypot(*values.T) <= 1 + 1e-6).all()
    by_name = {name: values[[int(row[6]) == code for row in rows]].mean(0) for name, code in ALL_CODES.items() if name in EXPRESSIONS}
    assert by_name["Happy"][0] > 0.3 > by_name["Sad"][0]
    assert by_name["Surprise"][1] > 0.3


def test_landmarks_lie_in_the_photograph_and_mostly_in_their_box(files: dict[str, bytes]) -> None:
    for row in lines(files, "validation.csv"):
        points = np.array(row[5].split(";"), float).reshape(68, 2)
        left, top, side = (int(value) for value in row[1:4])
        inside = ((points >= (left, top)) & (points < (left + side, top + side))).all(1)
        assert inside.mean() > 0.85
        assert points[36:42, 0].mean() < points[42:48, 0].mean() and points[:, 1].argmax() in range(5, 12)


def own(layout: str, **changes: Any) -> AcquireParams:
    document = read_document(Path(__file__).parents[2] / "params.yaml")
    document["dataset"] = layout
    document["datasets"][layout] = {**document["datasets"][layout], **changes}
    return parse(document, "acquire", AcquireParams)


@pytest.mark.parametrize(
    ("layout", "root", "said"),
    [
        ("affectnet2017", None, "root: not set"),
        ("affectnet2017", "data", "data is not absolute"),
        ("affectnet2017", "/nowhere/at/all", "is not a readable folder"),
        ("affectnet2017", "/" + "a" * 300, "is not a readable folder"),
        ("affectnet2017", "/a\0b", "is not a readable folder"),
        ("affectnet2017", "", "no training.csv and no validation.csv"),
        ("affectnet2021", "", "one train_set and one val_set are needed"),
        ("affectnet_plus", "", "one train_set and one val_set are needed"),
        ("folder", "", "no folder that datasets.folder.splits or classes maps, there is none"),
    ],
)
def test_a_copy_that_is_not_there_is_one_line_and_no_pointer(tmp_path: Path, layout: str, root: str | None, said: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=said) as caught:
        run(own(layout, root=str(empty) if root == "" else root), local(), NEVER_SEEN, raw=tmp_path / "raw")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    "changes",
    [{"splits": {"train": "training"}}, {"root": 3}, {"expected": {"train": 1}}],
)
def test_a_map_that_maps_to_nothing_known_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"params.yaml: datasets.folder.(splits|root|expected)"):
        own("folder", **changes)
