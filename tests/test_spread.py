from typing import Any

from benchmarks.spread import lines


def experiment(seed: int, loss: str, score: float | None) -> dict[str, Any]:
    metrics = {} if score is None else {"metrics/evaluate.json": {"data": {"expression": {"macro_f1": score}}}}
    params = {"loss": loss, "train": {"seed": seed, "epochs": 3}, "clean": {"expressions": ["Happy", "Sad"]}}
    return {"name": f"{loss}-{seed}", "revs": [{"data": {"params": {"params.yaml": {"data": params}}, "metrics": metrics}}]}


def test_seeds_are_one_line_named_by_what_differs_and_the_best_comes_first() -> None:
    shown: list[dict[str, Any]] = [
        {"rev": "workspace", "experiments": None},
        {
            "rev": "1",
            "experiments": [
                experiment(1, "plain", 0.5),
                experiment(2, "plain", 0.7),
                experiment(1, "focal", 0.8),
                experiment(3, "plain", None),
            ],
        },
    ]
    settings = lines(shown, "expression.macro_f1")
    assert [line.params for line in settings] == [(("loss", "focal"),), (("loss", "plain"),)]
    assert str(settings[1]) == "0.600 ± 0.141 (n = 2)  loss plain" and str(settings[0]) == "0.800 (n = 1)  loss focal"
    assert lines(shown, "valence.ccc") == []


def test_a_seed_that_was_trained_twice_counts_once_and_is_named() -> None:
    shown = [
        {"rev": "1", "experiments": [experiment(11, "plain", 0.9), experiment(12, "plain", 0.52)]},
        {"rev": "2", "experiments": [experiment(11, "plain", 0.5), experiment(12, "focal", 0.4)]},
    ]
    said = [str(line) for line in lines(shown, "expression.macro_f1")]
    assert said == ["0.510 ± 0.014 (n = 2)  loss plain; seed 11: 2 experiments, the last counts", "0.400 (n = 1)  loss focal"]
