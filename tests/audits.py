"""An audit as `make audit` writes it, of any folder in which `clean` has run."""

from pathlib import Path

import pyarrow as pa

from affectnet.expressions import EXPRESSIONS
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.label_issues import LABEL_ISSUES
from affectnet.tables.labels import labels_metadata


def write_audit(folder: Path, issues: int) -> None:
    """Writes data/label_issues.parquet, with doubts about the labels of the first training faces."""
    rows = ANNOTATIONS.read(folder / "data" / "annotations.parquet").to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    content = [
        {name: row[name] for name in ("image", "list", "row")}
        | {"label": row["expression"], "suggested": (row["expression"] + 1) % 8, "confidence": 0.1, "suggested_confidence": 0.9}
        | {"rank": rank, "is_issue": rank <= issues, "fold": 0}
        for rank, row in enumerate(train, 1)
    ]
    LABEL_ISSUES.write(folder / "data" / "label_issues.parquet", pa.Table.from_pylist(content), labels_metadata(EXPRESSIONS))
