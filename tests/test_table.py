"""The table of experiments: narrow, always with the data set, and never with the scores of other params."""

from collections.abc import Mapping
from typing import Any

import pytest

from affectnet.params import PARAMS_FILE, read_document
from affectnet.reporting.values import leaves
from affectnet.search.table import WIDEST, fresh, lines

SWITCHES = ["dataset", "model", "optimizer", "loss", "task"]


def row(name: str, accuracy: float, changes: Mapping[str, Any], is_fresh: bool = True) -> dict[str, Any]:
    params = {**dict(leaves(read_document())), **changes}
    scores = {"expression.accuracy": accuracy, "expression.macro_f1": accuracy}
    return {"name": name, "created": "11-30 15:00", "params": params, "scores": scores, "fresh": is_fresh}


def test_the_data_set_is_always_shown_and_scores_of_other_params_never() -> None:
    switch = {"dataset": "affectnet2017"}
    table = lines([row("main", 0.8925, switch, is_fresh=False), row("adam", 0.208, switch)], SWITCHES, WIDEST)
    assert table[0].split() == ["experiment", "created", "accuracy", "macro-F1", "dataset", "differs", "in"]
    assert table[1].split() == ["main", "11-30", "15:00", "–", "–", "affectnet2017"]
    assert table[2].split() == ["adam", "11-30", "15:00", "0.208", "0.208", "affectnet2017"]
    assert table[3].startswith("– in 1 of 2 rows: the scores in Git are of other params")


def test_each_row_has_the_params_of_its_entries_and_no_line_is_wide() -> None:
    searched = [
        row(
            f"search-{number}-with-a-long-name-of-an-experiment",
            0.5,
            {
                "optimizer": optimizer,
                "optimizers.adam.lr": 10.0**-number,
                "optimizers.sgd.lr": 0.1 * number,
                "train.epochs": number,
                "train.seed": 20 + number,
                **{f"augmentations.standard.{name}": number for name in ("brightness", "contrast", "saturation", "hue", "rotation")},
            },
        )
        for number, optimizer in enumerate(("adam", "sgd", "adam"), 1)
    ]
    table = lines(searched, SWITCHES, WIDEST)
    assert max(map(len, table)) <= WIDEST and "optimizer" in table[0] and "loss" not in table[0]
    assert "optimizers.lr 0.1" in table[1] and "optimizers.lr 0.2" in table[2] and "adam" not in table[2]
    assert "train.epochs 1" in table[1] and "train.epochs 3" in table[3]


def test_scores_are_fresh_when_the_lock_has_the_params_of_now() -> None:
    lock = {"stages": {"acquire": {"params": {str(PARAMS_FILE): {"dataset": "demo", "datasets.demo": {"photographs": 3}}}}}}
    now = {"dataset": "demo", "datasets.demo.photographs": 3, "optimizer": "adam"}
    assert fresh(lock, now) and not fresh(lock, {**now, "dataset": "affectnet2017"}) and not fresh({}, now)
    assert not fresh(lock, {**now, "datasets.demo.photographs": 4})


@pytest.mark.parametrize("path", ["models/model.safetensors", "data/faces", "data/annotations.parquet"])
def test_scores_are_fresh_when_evaluate_read_what_is_there_now(path: str) -> None:
    """The second run of a stage wrote another file, and `evaluate` did not follow."""

    def lock(read: Mapping[str, str], *written: Mapping[str, str]) -> dict[str, Any]:
        writers: dict[str, Any] = {f"writer{number}": {"cmd": "w", "outs": [{"path": path, **out}]} for number, out in enumerate(written)}
        return {"schema": "2.0", "stages": {**writers, "evaluate": {"cmd": "e", "deps": [{"path": path, **read}]}}}

    first, second = {"hash": "md5", "md5": "01"}, {"hash": "md5", "md5": "02"}
    assert fresh(lock(first, first), {}) and not fresh(lock(first, second), {})
    assert fresh(lock(first), {}) and fresh(lock(first, {"hash": "md5"}), {}) and fresh(lock({}, first), {})
    assert fresh(lock(first, second, first), {}), "one of the writers is a stage of an earlier dvc.yaml"
    assert fresh(lock({"md5": "01"}, second), {}), "the hash of an earlier DVC"
    for stages in (None, {"evaluate": None}, {"evaluate": {"cmd": "e", "deps": None, "outs": None}}):
        assert fresh({"schema": "2.0", "stages": stages}, {})


def test_a_param_that_is_new_or_gone_makes_scores_old() -> None:
    """As for DVC, which compares a whole section: `-S +augmentations.flip.degrees=5` without a run."""
    lock = {"stages": {"train": {"params": {str(PARAMS_FILE): {"augmentations.flip": {"flip": 0.5, "shift": 0.1}, "task": "both"}}}}}
    now = {"augmentations.flip.flip": 0.5, "augmentations.flip.shift": 0.1, "augmentations.flipped.shift": 0.2, "task": "both"}
    assert fresh(lock, now) and fresh(lock, {})
    assert not fresh(lock, {**now, "augmentations.flip.degrees": 5})
    assert not fresh(lock, {name: value for name, value in now.items() if name != "augmentations.flip.shift"})


def test_a_stage_behind_the_scores_counts_and_one_after_them_does_not() -> None:
    """A search's trial ends with `evaluate`: its report is still that of the commit from which it starts."""
    plan, model = {"path": "data/plan.parquet", "md5": "01"}, {"path": "models/model.safetensors", "md5": "02"}
    stages: dict[str, Any] = {
        "rebalance": {"params": {str(PARAMS_FILE): {"rebalance": {"seed": 7}}}, "outs": [plan]},
        "train": {"deps": [plan], "params": {str(PARAMS_FILE): {"optimizer": "sgd"}}, "outs": [model]},
        "evaluate": {"deps": [model]},
        "report": {"deps": [{**model, "md5": "00"}], "params": {str(PARAMS_FILE): {"optimizer": "adam"}}},
    }
    now = {"optimizer": "sgd", "rebalance.seed": 7}
    assert fresh({"stages": stages}, now)
    assert not fresh({"stages": stages}, {**now, "optimizer": "adam"}) and not fresh({"stages": stages}, {**now, "rebalance.seed": 8})
    stages["rebalance"]["outs"] = [{**plan, "md5": "03"}]
    assert not fresh({"stages": stages}, now), "train read another plan"


def test_params_of_the_selected_data_set_are_shown_without_its_paths_and_counts() -> None:
    entry = "datasets.affectnet2017"
    switch = {"dataset": "affectnet2017", "datasets.folder.test_share": 0.2}
    paths = {f"{entry}.root": "/a", f"{entry}.checksums": "/a/sums", f"{entry}.expected.training": 1}
    table = lines([row("a", 0.5, switch), row("b", 0.6, {**switch, **paths, f"{entry}.lists": "both"})], SWITCHES, WIDEST)
    assert table[1].split()[-2:] == ["datasets.lists", "manual"] and table[2].split()[-2:] == ["datasets.lists", "both"]
    assert "root" not in table[2] and "checksums" not in table[2] and "expected" not in table[2]
    folder = {"dataset": "folder", "datasets.folder.splits.test": "validation"}
    table = lines([row("a", 0.5, {"dataset": "folder"}), row("b", 0.6, {**folder, f"{entry}.lists": "both"})], SWITCHES, WIDEST)
    assert table[2].endswith("datasets.splits.test validation") and "lists" not in table[2]
