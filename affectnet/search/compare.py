"""Whether models differ by more than chance, on the same test faces: `affectnet compare main my-experiment`.

Each argument is a model file, or a Git revision or DVC experiment whose model is in the cache, and is asked about our test split; with
--truth each is a file of answers that any program gave. The first is compared with each of the others.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affectnet.engines.engine import Engine, open_engine
from affectnet.errors import UserError, exit_code, first_few
from affectnet.metrics.bootstrap import interval
from affectnet.metrics.classification import scores
from affectnet.metrics.expression_scores import mean_of_present
from affectnet.metrics.paired import LEAST_DIFFERING, Difference, Score, Values, difference, holm, mcnemar, resampled_scores, whole_score
from affectnet.metrics.regression import DIMENSIONS, affect_scores
from affectnet.models.outputs import Averaging, Outputs
from affectnet.predict import defaults
from affectnet.predict.answers.permutation import permuted
from affectnet.predict.defaults import DEFAULT
from affectnet.predict.options import NO_MODEL_ASKED, Parser, add_compare, refuse_useless, truth_options
from affectnet.reporting.model_facts import report_label
from affectnet.reporting.predictions import Predictions

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "models/model.safetensors"

Models = Sequence[tuple[str, Predictions]]
"""Names, and predictions for the same faces."""

Tree = dict[str, Any]


def compared(models: Models, draws: int, seed: int) -> Tree:
    """Each model's scores with 95 % intervals, and those of each other model compared with the first, as a tree of plain values.

    All models see the same resamples. macro-F1 is the mean over the expressions that the faces have, so that it means the same for each
    model. Errors: UserError when a model has no score in common with the first.
    """
    named = [{"name": name, "scores": {}} for name, _ in models]
    results: Tree = {"faces": len(models[0][1]), "draws": draws, "models": named, "differences": [], "mcnemar": _mcnemar(models)}
    for name, having, score, answers in _scores([predictions for _, predictions in models]):
        faces = len(answers[0])
        resamples = resampled_scores(score, len(having), faces, draws, np.random.default_rng(seed))
        values = [whole_score(score, position, faces) for position in range(len(having))]
        for position, at in enumerate(having):
            low, high = interval(resamples[position])
            named[at]["scores"][name] = {"value": values[position], "low": float(low), "high": float(high)}  # type: ignore[index]
        if having[0] == 0:
            pairs = [
                difference(name, values[0], values[at], resamples[[0, at]], int((answers[0] != answers[at]).sum()))
                for at in range(1, len(having))
            ]
            corrected = holm([pair.p for pair in pairs])
            others = [models[at][0] for at in having[1:]]
            results["differences"] += [
                {"second_name": other, **asdict(pair), "p_holm": p} for other, pair, p in zip(others, pairs, corrected, strict=True)
            ]
    _require_common(models, results)
    return results


def paired(first: Predictions, second: Predictions, draws: int, seed: int) -> tuple[list[Difference], list[Tree]]:
    """The differences in the scores that both models have; and of each model value, low and high by the name of the score."""
    results = compared([("first", first), ("second", second)], draws, seed)
    rows = [Difference(**{name: row[name] for name in Difference.__dataclass_fields__}) for row in results["differences"]]
    return rows, [model["scores"] for model in results["models"]]


def _scores(models: Sequence[Predictions]) -> Iterator[tuple[str, list[int], Score, Sequence[NDArray[Any]]]]:
    """For each score its name, the models that have it, its function of rows and a position among them, and what it sees of their answers.

    That is (n,) for each of these models: where two of them are equal in a face, the score cannot tell their answers to it apart.
    """
    first = models[0]
    having = [at for at, one in enumerate(models) if one.metadata.labels]
    if having:
        classes = list(dict.fromkeys(name for at in having for name in models[at].names))
        columns = [np.array([classes.index(name) for name in models[at].names]) for at in having]
        true = columns[0][models[having[0]].true]
        cells = [true * len(classes) + of_model[models[at].predicted] for at, of_model in zip(having, columns, strict=True)]
        right = [models[at].predicted == models[at].true for at in having]
        for name, answers in (("accuracy", right), ("macro_f1", cells)):
            yield f"expression.{name}", having, partial(_expression_score, name, cells, len(classes)), answers
    having = [at for at, one in enumerate(models) if one.metadata.affect]
    annotated = np.isfinite(first.true_affect).all(1)
    for column, dimension in enumerate(DIMENSIONS if having else ()):
        if annotated.sum() > 1:
            true_affect = first.true_affect[annotated, column]
            predicted = [models[at].affect[annotated, column] for at in having]
            for name in ("ccc", "rmse"):
                yield f"{dimension}.{name}", having, partial(_affect_score, name, true_affect, predicted), predicted


def _expression_score(name: str, cells: list[NDArray[np.int64]], k: int, rows: NDArray[np.int64], position: int) -> Values:
    """cells: (n,) cell of each face in the model's k × k confusion matrix. Macro-F1 is over the classes that have faces in the rows."""
    offset = np.arange(len(rows))[:, None] * k**2
    counts = np.bincount((cells[position][rows] + offset).ravel(), minlength=len(rows) * k**2).reshape(len(rows), k, k)
    each = scores(counts)
    return each.accuracy if name == "accuracy" else mean_of_present(each.f1, counts.sum(2) > 0)


def _affect_score(name: str, true: Values, predicted: list[Values], rows: NDArray[np.int64], position: int) -> Values:
    values: Values = getattr(affect_scores(true[rows], predicted[position][rows]), name)
    return values


def _mcnemar(models: Models) -> list[Tree]:
    """McNemar's test of the first model and each other, where both name expressions."""
    right = [(name, one.predicted == one.true) for name, one in models if one.metadata.labels]
    if not models[0][1].metadata.labels:
        return []
    tests = [(name, *mcnemar(right[0][1], other)) for name, other in right[1:]]
    corrected = holm([p for *_, p in tests])
    return [
        {"second_name": name, "only_first": only_first, "only_second": only_second, "p": p, "p_holm": p_holm}
        for (name, only_first, only_second, p), p_holm in zip(tests, corrected, strict=True)
    ]


def _require_common(models: Models, results: Tree) -> None:
    having = {row["second_name"] for row in results["differences"]}
    without = [name for name, _ in models[1:] if name not in having]
    if without:
        raise UserError(
            f"{models[0][0]} and {without[0]}: one predicts only expressions, the other only valence and arousal; nothing to compare"
        )


def markdown(results: Tree) -> str:
    """The comparison as two Markdown tables, the models with the highest first score first."""
    models = results["models"]
    names = list(dict.fromkeys(name for model in models for name in model["scores"]))
    ranked = sorted(models, key=lambda model: -model["scores"].get(names[0], {"value": -np.inf})["value"])
    rows = [["", *map(_label, names)]]
    rows += [[model["name"], *(_with_interval(model["scores"].get(name)) for name in names)] for model in ranked]
    lines = [f"{results['faces']:,} test faces", "", *_table(rows), "", f"Compared with {models[0]['name']}:", ""]
    tests = [
        [row["second_name"], _label(row["name"]), f"{row['second'] - row['first']:+.3f} [{_ends(row)}]", *_p(row)]
        for row in results["differences"]
    ]
    tests += [
        [row["second_name"], "McNemar", f"only it right: {row['only_second']:,}, only the first: {row['only_first']:,}", *_p(row)]
        for row in results["mcnemar"]
    ]
    lines += _table([["", "score", "difference, 95 %", "p", "p, Holm"], *tests])
    few = any(row["low"] is None for row in results["differences"])
    note = [f"–: no interval of fewer than {LEAST_DIFFERING} faces with different answers."] if few else []
    draws = f"{results['draws']:,} resamples of the faces, the same for all models"
    return "\n".join([*lines, "", f"Intervals and p by bootstrap, {draws}; they do not cover the spread between training seeds.", *note])


def _ends(row: Tree) -> str:
    return "–" if row["low"] is None else f"{row['low']:+.3f}, {row['high']:+.3f}"


def _p(row: Tree) -> list[str]:
    return [f"{p:.4f}" if p >= 0.0001 else "< 0.0001" for p in (row["p"], row["p_holm"])]


def _label(name: str) -> str:
    group, _, key = name.partition(".")
    return report_label(group, key)


def _with_interval(score: Tree | None) -> str:
    return "–" if score is None else f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as Markdown, padded so that it is readable as text, too."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


@contextmanager
def model_file(argument: str) -> Iterator[Path]:
    """The path of the model file that the argument names. Errors: UserError when it is neither a file nor a revision with one."""
    if argument == DEFAULT or Path(argument).is_file():
        yield defaults.model_file(argument)
        return
    try:
        import dvc.api  # noqa: PLC0415 (a second, and not in a small installation)

        from affectnet.search.revision import Revision  # noqa: PLC0415
    except ImportError:
        raise UserError(f"{argument}: not a file, and revisions need DVC; pip install 'affectnet-pipeline[pipeline]'") from None
    try:
        content = dvc.api.read(MODEL, rev=Revision.named(argument).commit, mode="rb")
    except UserError as error:
        raise UserError(f"{argument}: no file; {str(error).removeprefix(f'{argument}: ')}") from None
    except Exception as error:  # DVC has no common class of errors, from an unknown output to a lost cache
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{argument}: {MODEL} of this revision is not in the cache: {reason}; run `dvc pull`") from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        yield path


def of_models(arguments: Sequence[str], faces: Path, averaging: Averaging) -> tuple[Models, list[str]]:
    """Each model's predictions for our test split, and a line about each model that was trained on other faces than ours.

    Errors: UserError as `model_file`, `open_engine` and `predictions_of_split`.
    """
    from affectnet.models.dataset import shards_sha256  # noqa: PLC0415
    from affectnet.params import Runtime, parse, read_document  # noqa: PLC0415
    from affectnet.predict.answers.tables import TABLE_SUFFIXES  # noqa: PLC0415
    from affectnet.reporting.split_predictions import predictions_of_split  # noqa: PLC0415 (torch takes seconds)
    from affectnet.tables.face_shards import shard_paths  # noqa: PLC0415
    from affectnet.training.teacher import REGION  # noqa: PLC0415

    if tables := [argument for argument in arguments if Path(argument).suffix.lower() in TABLE_SUFFIXES]:
        raise UserError(f"{first_few(tables)}: tables of answers, not models; their labels come by --truth TABLE|FOLDER")
    runtime = parse(read_document(), "runtime", Runtime)
    models = []
    for argument in arguments:
        with model_file(argument) as path:
            engine = open_engine(path, runtime.device)

            def outputs_for(images: "Tensor", engine: Engine = engine) -> Outputs:
                return engine.outputs(images.numpy(), averaging)

            models.append((argument, predictions_of_split(path, engine.metadata, outputs_for, faces, runtime.workers, averaging, REGION)))
    if not any(faces.glob("train-*")):
        return models, [f"WARNING: {faces}: without training faces; a model that was trained on some of its test faces is not noticed"]
    ours = shards_sha256(shard_paths(faces, "train"))
    others = [name for name, one in models if getattr(one.metadata, "data", None) != ours]
    return models, [f"WARNING: {name}: trained on other faces than those of {faces}, perhaps on some of its test faces" for name in others]


def of_answers(options: argparse.Namespace) -> tuple[Models, list[str]]:
    """Each file's answers for the same photographs, and lines about what was counted how."""
    from affectnet.predict.answers.score import score_answers  # noqa: PLC0415
    from affectnet.predict.answers.truth import read_truth  # noqa: PLC0415

    refuse_useless({"--averaging": options.averaging != "none", "--faces": options.faces}, NO_MODEL_ASKED)
    truth = read_truth(options.truth, options.split, options.truth_labels, options.label_set)
    scored = [(name, score_answers(Path(name), options.labels, truth)) for name in options.models]
    lines = [f"{name}: {line}" for name, one in scored for line in one.caveats()]
    return [(name, one.predictions) for name, one in scored], lines


def run(options: argparse.Namespace, log: Callable[[str], object]) -> None:
    """Prints the comparison. log: gets the lines about what was counted how, and about each model whose order of labels looks permuted."""
    if len(options.models) < 2:
        raise UserError("one model only; name two or more to compare")
    if options.truth is None:
        reading = {"--split": options.split, "--labels": options.labels, **truth_options(options)}
        refuse_useless(reading, "models are asked about our test split, whose labels are known; give it with --truth only")
        models, lines = of_models(options.models, options.faces or Path("data/faces"), options.averaging)
    else:
        models, lines = of_answers(options)
    lines += [f"{name}: {order}" for name, one in models if (order := permuted(one))]
    results = compared(models, options.draws, options.seed)
    print(json.dumps(results, indent=2) if options.json else markdown(results))
    for line in lines:
        log(f"compare: {line}")


def main() -> None:
    parser = Parser(prog="python -m affectnet.search.compare", description=__doc__)
    add_compare(parser)
    run(parser.parse_args(), partial(print, file=sys.stderr))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
