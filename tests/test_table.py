"""The table of experiments: narrow, always with the data set, and never with the scores of other params."""

from collections.abc import Mapping
from typing import Any

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
