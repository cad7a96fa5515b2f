"""Scores by group: against fairlearn, against planted gaps, and from columns and files of groups."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from chain import refused
from sklearn.metrics import accuracy_score, f1_score, recall_score

from affectnet.expressions import EXPRESSIONS
from affectnet.metrics.groups import Answers, Gap, bounds, group_intervals, group_scores, largest_gaps
from affectnet.metrics.regression import affect_scores
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.groups import read_groupings
from stages.fingerprint import record_groups

NAMES = EXPRESSIONS[:4]
RECORDS = Path("metrics/fingerprint/group_files.json")
Generator = np.random.Generator


def answers(true: np.ndarray, right: np.ndarray, generator: Generator) -> Answers:
    """Predictions that are right where `right` is true, else the next expression; without valence and arousal."""
    predicted = np.where(right, true, (true + 1) % len(NAMES))
    return Answers(NAMES, true, predicted, np.full((len(true), 2), np.nan), np.empty((len(true), 0)))


def gaps_of(given_answers: Answers, group: np.ndarray, draws: int = 200) -> dict[str, Gap]:
    generator = np.random.default_rng(0)
    resamples = [group_intervals(given_answers.of(group == at), draws, 5, generator) for at in range(group.max() + 1)]
    return largest_gaps(given_answers, group, resamples, 5, generator)


def test_scores_and_largest_gap_are_fairlearns() -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")
    generator = np.random.default_rng(1)
    true, group = generator.integers(0, 4, 300), generator.integers(0, 3, 300)
    true[group == 2] = np.minimum(true[group == 2], 2)  # an expression that one group lacks
    one = answers(true, generator.random(300) < 0.6 + 0.1 * group, generator)

    def macro_f1(actual: np.ndarray, predicted: np.ndarray) -> float:
        return float(f1_score(actual, predicted, labels=np.unique(actual), average="macro"))

    def recall_of(column: int) -> Callable[[np.ndarray, np.ndarray], float]:
        return lambda actual, predicted: float(recall_score(actual, predicted, labels=[column], average="macro", zero_division=np.nan))

    scorers = {"accuracy": accuracy_score, "macro_f1": macro_f1, **{f"recall/{name}": recall_of(at) for at, name in enumerate(NAMES)}}
    frame = fairlearn.MetricFrame(metrics=scorers, y_true=true, y_pred=one.predicted, sensitive_features=group)
    ours = group_scores(one, group, 3, 5)
    assert set(ours) == set(scorers)
    for name in scorers:
        assert ours[name] == pytest.approx(frame.by_group[name].to_numpy(), nan_ok=True), name
    largest = frame.difference(method="between_groups")
    assert {name: gap.value for name, gap in gaps_of(one, group, 20).items()} == pytest.approx(dict(largest[["accuracy", "macro_f1"]]))


def test_ccc_per_group_is_that_of_its_annotated_faces() -> None:
    generator = np.random.default_rng(2)
    true, predicted, group = generator.uniform(-1, 1, (90, 2)), generator.uniform(-1, 1, (90, 2)), np.arange(90) % 3
    true[generator.random(90) < 0.3, 0] = np.nan
    true[group == 2, 1] = np.nan
    nobody = Answers((), np.empty(0, int), np.empty(0, int), true, predicted)
    ours = group_scores(nobody, group, 3, 5)
    for at in range(3):
        known = (group == at) & np.isfinite(true[:, 0])
        assert ours["valence_ccc"][at] == pytest.approx(float(affect_scores(true[known, 0], predicted[known, 0]).ccc))
    assert list(np.isnan(ours["arousal_ccc"])) == [False, False, True]
    assert set(gaps_of(nobody, group, 50)) == {"valence_ccc", "arousal_ccc"}


def test_groups_with_few_annotated_faces_have_no_gap_by_that() -> None:
    """A group all of whose faces have valence and arousal, of which the other groups have some: p is uniform where nothing differs."""
    values = []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        true, group = generator.uniform(-1, 1, (90, 2)), np.array([0] * 80 + [1] * 10)
        true[:80][generator.random(80) < 0.9] = np.nan
        expression = generator.integers(0, 4, 90)
        one = Answers(NAMES, expression, expression, true, true + generator.normal(0, 0.5, true.shape))
        values += [gap.p for name, gap in gaps_of(one, group, 60).items() if name.endswith("ccc")]
    assert len(values) > 30 and np.mean(np.array(values) <= 0.05) < 0.15 and 0.3 < np.median(values) < 0.7


def test_groups_of_which_the_first_has_no_score_are_compared() -> None:
    generator = np.random.default_rng(5)
    true, group = generator.uniform(-1, 1, (60, 2)), np.repeat(np.arange(3), 20)
    true[:18] = np.nan
    nobody = Answers((), np.empty(0, int), np.empty(0, int), true, true * 0.9)
    assert set(gaps_of(nobody, group, 20)) == {"valence_ccc", "arousal_ccc"}


def test_a_planted_gap_is_seen_with_its_groups_and_an_interval_around_it() -> None:
    generator = np.random.default_rng(3)
    true, group = generator.integers(0, 4, 900), np.arange(900) % 3
    gap = gaps_of(answers(true, generator.random(900) < np.array([0.8, 0.8, 0.6])[group], generator), group)["accuracy"]
    assert gap.lowest == 2 and gap.low < 0.2 < gap.high and gap.p == pytest.approx(1 / 201)


def test_groups_without_a_difference_have_p_values_from_everywhere() -> None:
    p_values = []
    for seed in range(40):
        generator = np.random.default_rng([4, seed])
        true, group = generator.integers(0, 4, 200), generator.integers(0, 2, 200)
        p_values.append(gaps_of(answers(true, generator.random(200) < 0.7, generator), group, 60)["accuracy"].p)
    assert sum(p <= 0.1 for p in p_values) <= 9 and min(p_values) < 0.3 and max(p_values) > 0.7


def test_another_mix_of_expressions_is_no_gap_that_the_test_reports() -> None:
    generator = np.random.default_rng(5)
    group = np.repeat([0, 1], 400)
    true = (generator.random(800) < np.array([0.1, 0.9])[group]).astype(int)
    gap = gaps_of(answers(true, generator.random(800) < np.array([0.95, 0.5])[true], generator), group)["accuracy"]
    assert gap.value > 0.25 and gap.p > 0.05


def test_a_rare_expression_is_scored_over_the_resamples_that_have_it() -> None:
    true = np.array([0] * 30 + [1, 1])
    resamples = group_intervals(answers(true, np.full(32, True), np.random.default_rng(0)), 200, 5, np.random.default_rng(0))
    ends = bounds(resamples)
    assert 0 < np.isnan(resamples["recall/Happy"]).sum() < 200 and "recall/Sad" not in ends
    assert ends["recall/Happy"] == ends["macro_f1"] == ends["accuracy"] == (1, 1)


def test_the_recall_of_a_single_face_has_no_interval() -> None:
    true = np.array([0] * 30 + [1])
    resamples = group_intervals(answers(true, np.full(31, True), np.random.default_rng(0)), 200, 5, np.random.default_rng(0))
    assert "recall/Happy" not in bounds(resamples) and {"recall/Neutral", "macro_f1"} <= set(bounds(resamples))


def test_a_group_with_too_few_faces_or_annotations_has_no_interval_of_them() -> None:
    one = Answers((), np.empty(0, int), np.empty(0, int), np.full((8, 2), [0.5, np.nan]), np.zeros((8, 2)))
    assert set(group_intervals(one, 10, 5, np.random.default_rng(0))) == {"valence_ccc"}


def write_annotations(images: list[str]) -> list[str]:
    """data/annotations.parquet with these test photographs."""
    columns: dict[str, Any] = {name: [None] * len(images) for name in ANNOTATIONS.schema.names}
    columns |= {"image": images, "list": ["list"] * len(images), "row": range(1, len(images) + 1), "split": ["test"] * len(images)}
    columns |= {"expression": [0] * len(images), "group": [0] * len(images)}
    ANNOTATIONS.write(Path("data/annotations.parquet"), pa.table(columns, schema=ANNOTATIONS.schema))
    return images


def groups_of(text: str | bytes) -> list[Any]:
    file = Path("groups.csv").absolute()
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    record_groups([str(file)], RECORDS)
    return read_groupings([str(file)], Path("data/annotations.parquet"), RECORDS)


def test_a_file_of_groups_that_changed_since_it_was_recorded_is_one_line(workspace: Path) -> None:
    write_annotations(["1/a.jpg"])
    groups_of("image,tone\n1/a.jpg,light\n")
    Path("groups.csv").write_text("image,tone\n1/a.jpg,dark\n")
    with refused("group_files.json: records no .*groups.csv with these bytes; run `dvc repro`"):
        read_groupings([str(Path("groups.csv").absolute())], Path("data/annotations.parquet"), RECORDS)
    Path("groups.csv").unlink()
    assert record_groups([str(Path("groups.csv").absolute())], RECORDS)[0].endswith("not there, the last record kept")
    assert record_groups(["subset"], RECORDS) == [] and RECORDS.read_text() == "{}\n"


def test_a_file_of_groups_names_photographs_by_path_or_name_and_what_is_unknown_is_counted(workspace: Path) -> None:
    write_annotations(["1/a.jpg", "1/b.jpg", "2/b.jpg", "2/c.jpg", "2/c.jpg"])
    lines = "image,skin tone,glasses\n1/a.jpg,light,yes\na.jpg,light,yes\n2/b.jpg,dark,\nc.jpg,dark,no\nelse.jpg,dark,no\n9/a.jpg,dark,no\n"
    tone, glasses = groups_of("\ufeff" + lines)
    assert (tone.name, tone.groups, tone.group.tolist()) == ("skin tone", ("dark", "light"), [1, -1, 0, 0, 0])
    assert (glasses.groups, glasses.group.tolist()) == (("no", "yes"), [1, -1, -1, 0, 0])
    assert tone.unmatched == 2


BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "there are 0 rows"),
    "no row": ("image,tone\n", "there are 0 rows"),
    "no image": ("photo,tone\n1/a.jpg,light\n", "a column image"),
    "no group": ("image\n1/a.jpg\n", "one per grouping"),
    "a nameless column": ("image,\n1/a.jpg,light\n", "one per grouping"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\xff", "cannot be read as CSV"),
    "more cells": ("image,tone\n1/a.jpg,light,x,y\n", "rows without 2 cells, 1: 1"),
    "an open quote": ('image,tone\n"1/a.jpg,light\n', "cannot be read as CSV"),
    "another set": ("image,tone\n7/z.jpg,light\n", "none of its 1 photographs is in test, first 7/z.jpg"),
    "rows that differ": ("image,tone\n1/a.jpg,light\n1/a.jpg,dark\n", "photographs with rows that differ, 1: 1/a.jpg"),
    "a path and a name that differ": ("image,tone\n1/a.jpg,light\na.jpg,dark\n", "path and by file name whose rows differ, 1: 1/a.jpg"),
    "an ambiguous name": ("image,tone\nb.jpg,light\n", "names of more than one photograph of test, 1: b.jpg"),
    "equal names": ("image,tone,tone\n1/a.jpg,light,dark\n", "of different names"),
}


@pytest.mark.parametrize(("content", "line"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_of_groups_that_cannot_be_used_is_one_line(workspace: Path, content: str | bytes, line: str) -> None:
    write_annotations(["1/a.jpg", "1/b.jpg", "2/b.jpg"])
    with refused(line):
        groups_of(content)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("groups.csv", "groups.csv is not absolute"),
        ("/nowhere/groups.csv", "cannot be read as CSV .No such file"),
        ("skin", "neither a column that forms groups .subset, age, gender, race. nor the absolute path"),
        ("pose", "neither a column"),
    ],
)
def test_a_name_that_is_neither_a_column_nor_a_file_is_one_line(workspace: Path, name: str, line: str) -> None:
    write_annotations(["1/a.jpg"])
    with refused(line):
        read_groupings([name], Path("data/annotations.parquet"), RECORDS)
