"""data/label_issues.parquet: the labels of the training faces, the most doubtful first. `make audit` writes it, `clean` may read it."""

from dataclasses import replace

import pyarrow as pa

from affectnet.tables.annotations import LABEL_CODE
from affectnet.tables.contract import Column, Contract

LABEL_ISSUES_FILE = "data/label_issues.parquet"

AUDIT_AGAIN = "run `make audit` again, or set clean.label_issues to keep"

LABEL_ISSUES = Contract(
    "label_issues",
    "one face of the training split, judged by a network that was not trained on it; sorted by rank",
    (
        Column("image", pa.string(), "path of the photograph below the root, with `/`"),
        Column("list", pa.string(), "the annotation list (or folder) that holds the row, below the root"),
        Column("row", pa.int64(), "number of the row in its list, from 1, the header not counted", low=1),
        replace(LABEL_CODE, name="label", meaning=f"the annotated expression: {LABEL_CODE.meaning}"),
        replace(LABEL_CODE, name="suggested", meaning="the most probable expression"),
        Column("confidence", pa.float32(), "probability of the label", low=0, high=1),
        Column("suggested_confidence", pa.float32(), "probability of the suggested expression", low=0, high=1),
        Column("rank", pa.int32(), "1 for the most doubtful label", low=1),
        Column("is_issue", pa.bool_(), "the label is doubtful: off the diagonal of the confident joint, and not the most probable"),
        Column("fold", pa.int16(), "the fold of the face, whose network was trained on the others", low=0),
    ),
    remedy=AUDIT_AGAIN,
)
