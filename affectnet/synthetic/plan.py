"""The plan of the demo download: one item per photograph."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from affectnet.expressions import CODES, EXPRESSIONS, NOT_AN_EXPRESSION
from affectnet.params import Section
from affectnet.synthetic.faults import ROW_FAULTS, Faults

AFFECTNET_COUNTS = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
"""Training faces by expression in the 2017 and 2021 releases."""

ALL_CODES = {**CODES, **{name: code for code, name in NOT_AN_EXPRESSION.items()}}

SUFFIXES = ((".jpg", 0.90), (".JPG", 0.02), (".jpeg", 0.02), (".png", 0.045), (".bmp", 0.01), (".tif", 0.005))
"""File name endings and their shares, roughly as in AffectNet's lists."""

FOLDERS = 40


class DemoParams(Section):
    """One entry of `datasets` with layout demo."""

    layout: Literal["demo"]
    training: int = Field(ge=8, le=100_000)  # the numbers of the validation photographs begin there and seed their drawing
    validation: int = Field(ge=8, le=100_000)
    floor: int = Field(ge=1)
    smallest_px: int = Field(ge=96)
    largest_px: int = Field(le=1024)
    faults: Faults


@dataclass(frozen=True)
class Item:
    """One photograph. drawing: the seed of its picture, shared by duplicates; expression: that is drawn; label: in the list."""

    split: Literal["training", "validation", "nowhere"]
    number: int
    drawing: tuple[int, ...]
    expression: str
    label: str
    fault: str
    suffix: str
    path: str


def plan_download(params: DemoParams, seed: int) -> list[Item]:
    """Every photograph of the download, in order of split and number; the same seed gives the same plan."""
    generator = np.random.default_rng([seed, 0])
    items = [
        *_faultless("training", training_counts(params), generator, seed),
        *_faultless("validation", validation_counts(params), generator, seed),
    ]
    return [*items, *_faulty(params, items, generator, seed)]


def training_counts(params: DemoParams) -> dict[str, int]:
    """Faces per expression: AffectNet's shares with a minimum; the most frequent expression makes up for the minimum of the others."""
    share = np.array(AFFECTNET_COUNTS) / sum(AFFECTNET_COUNTS)
    counts = np.maximum(np.rint(params.training * share).astype(int), params.floor)
    counts[np.argmax(counts)] -= counts.sum() - params.training
    return dict(zip(EXPRESSIONS, counts.tolist(), strict=True))


def validation_counts(params: DemoParams) -> dict[str, int]:
    each, more = divmod(params.validation, len(EXPRESSIONS))
    return {name: each + (code < more) for name, code in CODES.items()}


def _faultless(
    split: Literal["training", "validation"], counts: dict[str, int], generator: np.random.Generator, seed: int
) -> Iterator[Item]:
    first = 0 if split == "training" else 100_000
    expressions = generator.permutation([name for name, count in counts.items() for _ in range(count)])
    for number, expression in enumerate(expressions.tolist(), first):
        suffix = str(generator.choice([name for name, _ in SUFFIXES], p=[share for _, share in SUFFIXES]))
        yield _item(split, number, (seed, number), expression, expression, "", suffix)


def _faulty(params: DemoParams, faultless: list[Item], generator: np.random.Generator, seed: int) -> Iterator[Item]:
    """Rows and files with a fault. Their expressions are among the three most frequent, so that the faces of rare ones have no fault."""
    training = [
        item
        for item in faultless
        if item.split == "training" and item.suffix in {".jpg", ".JPG", ".jpeg"} and item.label in EXPRESSIONS[:3]
    ]
    validation = [item for item in faultless if item.split == "validation" and item.suffix in {".jpg", ".JPG", ".jpeg"}]
    originals = iter(generator.permutation(len(training)).tolist())
    tested = iter(generator.permutation(len(validation)).tolist())
    number = 200_000
    for fault in (*ROW_FAULTS, "unreferenced", "truncated_in_validation"):
        for _ in range(getattr(params.faults, fault)):
            number += 1
            expression = EXPRESSIONS[int(generator.integers(3))]
            split: Literal["training", "validation", "nowhere"] = "training"
            drawing, label, suffix = (seed, number), expression, ".jpg"
            if fault in {"exact_duplicates", "near_duplicates", "contradictory_duplicates"}:
                original = training[next(originals)]
                drawing, expression, label = original.drawing, original.expression, original.label
                if fault == "contradictory_duplicates":
                    label = EXPRESSIONS[(CODES[label] + 1) % 3]
            elif fault in {"copies_of_validation", "near_copies_of_validation"}:
                original = validation[next(tested)]
                drawing, expression, label = original.drawing, original.expression, original.label
            elif fault in {"none", "uncertain", "no_face"}:
                label = {"none": "None", "uncertain": "Uncertain", "no_face": "No-Face"}[fault]
            elif fault == "unreferenced":
                split = "nowhere"
            elif fault == "truncated_in_validation":
                split = "validation"
            elif fault == "transparent":
                suffix = ".png"
            yield _item(split, number, drawing, expression, label, fault, suffix)


def _item(split: str, number: int, drawing: tuple[int, ...], expression: str, label: str, fault: str, suffix: str) -> Item:
    name = hashlib.sha224(f"{drawing[0]}/{split}/{number}".encode()).hexdigest()
    path = f"{1 + int(name[:4], 16) % FOLDERS}/{name}{suffix}"
    return Item(split, number, drawing, expression, label, fault, suffix, path)  # type: ignore[arg-type]
