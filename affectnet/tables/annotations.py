"""The annotation tables that `clean` writes, one row per labelled face."""

import pyarrow as pa

from affectnet.expressions import SPLITS
from affectnet.tables.contract import Column, Contract

LANDMARKS = pa.list_(pa.float32(), 136)
"""68 points of the iBUG 300-W scheme, x1, y1, …, x68, y68."""

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
        Column("expression", pa.int8(), "0 Neutral, 1 Happy, 2 Sad, 3 Surprise, 4 Fear, 5 Disgust, 6 Anger, 7 Contempt", low=0, high=7),
        Column("valence", pa.float32(), "unpleasant to pleasant; null when not annotated", low=-1, high=1, nullable=True),
        Column("arousal", pa.float32(), "calm to excited; null when not annotated", low=-1, high=1, nullable=True),
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
    ),
)
