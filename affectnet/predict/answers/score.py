"""Somebody's answers for labelled photographs as Predictions, which every score and comparison takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError, first_few, many
from affectnet.metrics.regression import DIMENSIONS
from affectnet.models.outputs import Outputs
from affectnet.predict.answers.matching import matched
from affectnet.predict.answers.tables import Table, read_table
from affectnet.predict.answers.truth import Truth, codes_of, half_affect, in_range, text_of, unused_mappings
from affectnet.predict.image_folder import Classes
from affectnet.reporting.predictions import Predictions

Values = NDArray[np.float64]

LEAST = float(np.finfo(np.float32).tiny)
"""Smaller probabilities count as this one, whose logarithm is finite."""

SLIGHT = 1e-6
"""By how much the logit of an answer is larger than the others, where the probabilities are equal or there are none."""


@dataclass(frozen=True)
class Answerer:
    """What is known of a program by its answers: the expressions it names and whether it names valence and arousal."""

    labels: tuple[str, ...]
    affect: bool
    temperature: float = 1.0
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """Answers joined with the truth.

    predictions: of every photograph of the truth; missing: those without an answer; foreign: answers for no photograph of it; without: rows
    of the truth without a label; notes: what of the tables was not used.
    """

    predictions: Predictions
    missing: int
    foreign: int
    without: int
    notes: Sequence[str] = ()

    def caveats(self) -> list[str]:
        """Lines about what was counted how."""
        answers = [f"{many(self.missing, 'photograph')} without an answer, counted as errors"] if self.missing else []
        answers += [f"{many(self.foreign, 'answer')} for photographs that are not in the truth, left out"] if self.foreign else []
        answers += self.notes
        return answers + ([f"{many(self.without, 'row')} of the truth without a label, left out"] if self.without else [])


def score_answers(file: Path, mappings: Sequence[str], truth: Truth) -> Scored:
    """The answers of a file for the photographs of the truth. mappings: what other names and all numbers mean, of --labels.

    A photograph without an answer counts as an error: a wrong expression with no confidence, the wrong ones spread evenly over the other
    expressions; as valence and arousal 0. Errors: UserError when the file is not a table of answers, or does not match the truth.
    """
    table, classes = read_table(file), truth.classes(mappings)
    expressions, affect = _expressions(table, classes, truth), _affect(table, truth)
    if not expressions.labels and affect is None:
        columns = f"expression, a column per expression such as {', '.join(truth.labels[:2])}, or {' and '.join(DIMENSIONS)}"
        raise UserError(
            f"{file}: no answers that {truth.name} has labels for; give {columns}; its columns: {first_few(list(table.columns), 8)}"
        )
    rows = matched(table.images, file, truth.images, truth.name)
    answerer = Answerer(expressions.labels, affect is not None)
    n, missing = len(truth.images), np.zeros(len(truth.images), bool)
    true = np.zeros(n, np.int64) if truth.codes is None else truth.codes
    logits, dimensions = np.zeros((n, len(expressions.labels))), np.zeros((n, 2 * answerer.affect))
    if expressions.labels:
        without = _placed(logits, rows, expressions.logits, expressions.answered)
        logits[without] = _wrong(true[without], answerer.labels, file, truth.labels)
        missing |= without
    if affect is not None:
        unanswered = _placed(dimensions, rows, affect, np.asarray(np.isfinite(affect).all(1)))
        missing |= unanswered & np.isfinite(truth.affect).all(1)
    outputs = Outputs(logits.astype(np.float32), dimensions.astype(np.float32))
    predictions = Predictions.from_outputs(file, answerer, outputs, truth.labels, true, truth.affect, expressions.ranked)
    notes = [*truth.notes, *table.notes, *unused_mappings(table, mappings, "--labels"), *half_affect(table)]
    notes += _notes(table, expressions, (rows >= 0) & expressions.answered, truth, classes)
    return Scored(predictions, int(missing.sum()), int((rows < 0).sum()), truth.without, notes)


def _notes(table: Table, expressions: "_Expressions", scored: NDArray[np.bool_], truth: Truth, classes: Classes) -> list[str]:
    """Lines about labels of the truth without a column of probabilities, and scored rows whose expression contradicts theirs."""
    if truth.codes is None or not expressions.ranked:
        return []
    absent = [truth.labels[code] for code in np.unique(truth.codes) if truth.labels[code] not in expressions.labels]
    notes = [f"{table.file}: no column of {', '.join(absent)}: each of its photographs is an error"] if absent else []
    if "expression" in table.columns:
        named = _named(table, classes)
        likely = [expressions.labels[column] for column in expressions.logits.argmax(1)]
        other = sum(named[row] is not None and named[row] != likely[row] for row in np.flatnonzero(scored))
        notes += [f"{table.file}: {many(other, 'row')} whose expression is not the largest probability, which counts"] if other else []
    return notes


def _placed(to: Values, rows: NDArray[np.int64], values: Values, answered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Copies the answers to their rows; returns (n,) which rows have none."""
    used = (rows >= 0) & answered
    to[rows[used]] = values[used]
    missing = np.ones(len(to), bool)
    missing[rows[used]] = False
    return missing


@dataclass(frozen=True)
class _Expressions:
    """logits (n, k) of the k labels; answered: (n,) whether a row has them; ranked: whether they are more than one name per row."""

    labels: tuple[str, ...]
    logits: Values
    answered: NDArray[np.bool_]
    ranked: bool


def _expressions(table: Table, classes: Classes, truth: Truth) -> _Expressions:
    """By a column per expression, else by the column `expression`; none where the truth has no expressions."""
    columns = {name: classes[name] for name in table.columns if classes.get(name)}
    twice = sorted(name for name, expression in columns.items() if list(columns.values()).count(expression) > 1)
    if twice:
        raise UserError(f"{table.file}: several columns of the same expression, {first_few(twice)}; keep one of each")
    if truth.codes is None or not (columns or "expression" in table.columns):
        return _Expressions((), np.zeros((len(table), 0)), np.ones(len(table), bool), False)
    return _probabilities(table, classes, columns, truth.labels) if columns else _names(table, classes, truth.codes, truth.labels)


def _named(table: Table, classes: Classes) -> list[str | None]:
    """The label that the column `expression` names, per row."""
    return [None if cell is None else classes.get(text_of(cell)) for cell in table.columns["expression"]]


def _probabilities(table: Table, classes: Classes, columns: dict[str, str | None], known: Sequence[str]) -> _Expressions:
    """Of equal probabilities the one that the column `expression` names counts, or the first."""
    labels = tuple(sorted((str(expression) for expression in columns.values()), key=known.index))
    by_label = {str(expression): name for name, expression in columns.items()}
    values = np.stack([np.array(table.numbers(by_label[label])) for label in labels], 1)
    total = values.sum(1, keepdims=True)
    answered = np.isfinite(total[:, 0])
    wrong = answered & ((values < 0).any(1) | (total[:, 0] <= 0))
    if wrong.any():
        shown = [table.images[row] for row in np.flatnonzero(wrong).tolist()]
        raise UserError(f"{table.file}: probabilities below 0, or all 0, {first_few(shown)}; give probabilities or percentages, not logits")
    shares = np.divide(values, total, out=np.full(values.shape, 1 / len(labels)), where=answered[:, None])
    logits = np.log(np.maximum(shares, LEAST))
    for row, name in enumerate(_named(table, classes) if "expression" in table.columns else ()):
        if name in labels and logits[row, column := labels.index(name)] == logits[row].max():
            logits[row, column] += SLIGHT
    return _Expressions(labels, logits, answered, True)


def _names(table: Table, classes: Classes, true: NDArray[np.int64], labels: Sequence[str]) -> _Expressions:
    codes = codes_of(table.file, table.columns["expression"], classes, labels, "--labels")
    known = np.union1d(true, codes[codes >= 0])
    logits = np.where(codes[:, None] == known, 0.0, np.log(LEAST))
    return _Expressions(tuple(labels[code] for code in known), logits, codes >= 0, False)


def _affect(table: Table, truth: Truth) -> Values | None:
    """(n, 2), or None where truth or answers have no values. Errors: UserError for a value beyond −1 … 1."""
    if not table.columns.keys() >= set(DIMENSIONS) or np.isnan(truth.affect).all():
        return None
    values = np.stack([in_range(table, name, np.array(table.numbers(name))) for name in DIMENSIONS], 1)
    return values if np.isfinite(values).any() else None


def _wrong(true: NDArray[np.int64], answered: Sequence[str], file: Path, labels: Sequence[str]) -> Values:
    """(m, k) logits of wrong answers for m faces: about 0 each, slightly more for one of the k answered labels that is not the face's."""
    codes = np.array([labels.index(label) for label in answered])
    logits = np.zeros((len(true), len(codes)))
    for code in np.unique(true):
        faces, others = np.flatnonzero(true == code), np.flatnonzero(codes != code)
        if not len(others):
            raise UserError(f"{file}: answers and truth name one expression only, {labels[code]}; nothing to score")
        logits[faces, others[np.arange(len(faces)) % len(others)]] = SLIGHT
    return logits
