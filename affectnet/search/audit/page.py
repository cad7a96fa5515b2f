"""The page of an audit: the doubtful faces as contact sheets, one per pair of label and suggestion. It never enters Git."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from affectnet.errors import UserError
from affectnet.images.data_uri import data_uri
from affectnet.images.resize import decode_face
from affectnet.reporting.contact_sheet import THUMBNAIL_PX, THUMBNAIL_QUALITY, stored_faces
from affectnet.reporting.svg import confusion_svg
from affectnet.search.audit.confident_learning import Judgement

REMEDY = "run `dvc repro crop rebalance`, then `make audit`"


@dataclass(frozen=True)
class DoubtfulFace:
    """One face of a sheet: its source, rank, label and suggestion with their probabilities, and the crop as a `data:` URI."""

    image: str
    list: str
    row: int
    rank: int
    label: str
    confidence: float
    suggested: str
    suggested_confidence: float
    picture: str


def page_values(
    faces: Path,
    names: Sequence[str],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    judgement: Judgement,
    counts: Mapping[str, Any],
    examples: int,
) -> dict[str, Any]:
    """The values of the template. faces: the folder of crops; names: of the codes; examples: faces per pair, the most doubtful first."""
    pairs = issue_pairs(names, labels, judgement)
    shown = {row for *_, rows in pairs for row in rows[:examples]}
    sheet = _doubtful_faces(faces, names, labels, judgement, sorted(shown))
    present = np.union1d(labels, np.flatnonzero(probabilities.max(0) > 0))
    joint = np.round(judgement.joint).astype(np.int64)[np.ix_(present, present)]
    return {
        "counts": counts,
        "pairs": [(label, suggested, len(rows), [sheet[row] for row in rows[:examples]]) for label, suggested, rows in pairs],
        "joint": Markup(confusion_svg(joint, [names[code] for code in present], "annotated", "probably shown")),
    }


def issue_pairs(names: Sequence[str], labels: NDArray[np.int64], judgement: Judgement) -> list[tuple[str, str, list[int]]]:
    """(label, suggestion, rows by rank) of the issues, the most frequent pair first."""
    rows = np.flatnonzero(judgement.is_issue)
    rows = rows[np.argsort(judgement.rank[rows])]
    pairs: dict[tuple[int, int], list[int]] = {}
    for row in rows.tolist():
        pairs.setdefault((int(labels[row]), int(judgement.suggested[row])), []).append(row)
    ordered = sorted(pairs.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return [(names[label], names[suggested], members) for (label, suggested), members in ordered]


def _doubtful_faces(
    faces: Path, names: Sequence[str], labels: NDArray[np.int64], judgement: Judgement, rows: list[int]
) -> dict[int, DoubtfulFace]:
    """Row of the training split → its face. Errors: UserError when the shards hold other faces."""
    sheet: dict[int, DoubtfulFace] = {}
    for row, content, image, listed, number, expression in stored_faces(faces, "train", len(labels), rows, REMEDY):
        if expression != labels[row]:
            raise UserError(f"{faces}: training face {row + 1:,} is not the one that was judged; {REMEDY}")
        sheet[row] = DoubtfulFace(
            image=image,
            list=listed,
            row=number,
            rank=int(judgement.rank[row]),
            label=names[labels[row]],
            confidence=float(judgement.confidence[row]),
            suggested=names[judgement.suggested[row]],
            suggested_confidence=float(judgement.suggested_confidence[row]),
            picture=data_uri(decode_face(content, THUMBNAIL_PX), "JPEG", quality=THUMBNAIL_QUALITY),
        )
    return sheet
