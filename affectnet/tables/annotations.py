"""The annotation tables that `clean` writes, one row per labelled face."""

from collections.abc import Sequence

import pyarrow as pa

from affectnet.expressions import EXPRESSIONS, MOST_LABELS, SPLITS
from affectnet.tables.contract import Column, Contract

LANDMARKS = pa.list_(pa.float32(), 136)
"""68 points of the iBUG 300-W scheme, x1, y1, …, x68, y68."""

SOFT_LABEL = pa.list_(pa.float32(), len(EXPRESSIONS))
"""A share per expression, in the order of the codes; they sum to 1."""

BY_NAME = pa.map_(pa.string(), pa.float32())
"""Numbers by name, the names in lower case."""

SUBSETS = ("easy", "challenging", "difficult")
"""AffectNet+'s names of its codes 0, 1 and 2."""

FURTHER = (
    Column("soft_label", SOFT_LABEL, "share of each expression, by code; they sum to 1; null when absent", nullable=True),
    Column("subset", pa.string(), "how far the soft label agrees with the expression", choices=SUBSETS, nullable=True),
    Column("age", pa.float32(), "a machine's estimate", "years", low=0, high=150, nullable=True),
    Column("gender", pa.string(), "the most probable name, in lower case: a machine's estimate", nullable=True),
    Column("gender_probabilities", BY_NAME, "of each name", nullable=True),
    Column("race", pa.string(), "the most probable name, in lower case: a machine's estimate", nullable=True),
    Column("race_probabilities", BY_NAME, "of each name", nullable=True),
    Column("pose", BY_NAME, "angles of the head by name, in the unit of the data: a machine's estimate", nullable=True),
)
"""What AffectNet+ says about a face in addition to the labels of AffectNet; null where the data do not have it."""


def code_meaning(labels: Sequence[str]) -> str:
    """What a code of these labels is."""
    return f"position of the label in `labels`: {', '.join(f'{code} {label}' for code, label in enumerate(labels))}"


LABEL_CODE = Column("expression", pa.int8(), code_meaning(EXPRESSIONS), low=0, high=MOST_LABELS - 1, coded=True)

EDGES = ("left", "top", "right", "bottom")
"""Columns of a face box, px of the photograph as it is shown; right and bottom exclusive."""

_WHERE = (
    Column("image", pa.string(), "path of the photograph below the root, with `/`"),
    Column("list", pa.string(), "the annotation list (or folder) that holds the row, below the root"),
    Column("row", pa.int64(), "number of the row in its list, from 1, the header not counted", low=1),
)

ANNOTATIONS = Contract(
    "annotations",
    "one labelled face that passed every rule; sorted by split (train, validation, test), list and row",
    (
        *_WHERE,
        Column("split", pa.string(), "where the face belongs", choices=SPLITS),
        Column(
            "left",
            pa.float32(),
            "left edge of the face box, in the photograph as it is shown (EXIF orientation applied)",
            "px",
            nullable=True,
        ),
        Column("top", pa.float32(), "upper edge; the four edges are null together: the whole photograph", "px", nullable=True),
        Column("right", pa.float32(), "right edge, exclusive", "px", nullable=True),
        Column("bottom", pa.float32(), "lower edge, exclusive", "px", nullable=True),
        Column("landmarks", LANDMARKS, "68 points, x and y in turn, same frame as the box; null when absent", "px", nullable=True),
        LABEL_CODE,
        Column("valence", pa.float32(), "unpleasant to pleasant; null when not annotated", low=-1, high=1, nullable=True),
        Column("arousal", pa.float32(), "calm to excited; null when not annotated", low=-1, high=1, nullable=True),
        *FURTHER,
        Column("group", pa.int32(), "near-duplicate group: photographs that look alike share it", low=0),
    ),
)

REJECTED = Contract(
    "rejected",
    "one row that was read and not kept, with the first rule that it broke; sorted by list and row",
    (
        *_WHERE,
        Column("reason", pa.string(), "the rule, as in metrics/clean.json under rejected_by"),
        Column("detail", pa.string(), "the offending values", nullable=True),
        Column("expression", pa.int16(), "the code in the list, 8 None, 9 Uncertain, 10 No-Face; null when unreadable", nullable=True),
        *(Column(edge, pa.float32(), f"{edge} edge of the face box, as in the list", "px", nullable=True) for edge in EDGES),
    ),
)
