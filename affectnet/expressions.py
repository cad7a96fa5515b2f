"""AffectNet's eight expressions in its own order, which are the default labels; what a label can be; the names of the splits."""

import re
from collections.abc import Sequence

EXPRESSIONS = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
"""Names in the order of their codes 0–7 (AffectNet documentation, expression codes)."""

CODES = {name: code for code, name in enumerate(EXPRESSIONS)}

MOST_LABELS = 100
"""Labels of a data set or a model at most; codes are int8."""

LONGEST_LABEL = 40
"""Characters of a label at most."""

LABEL = re.compile(r"\w[\w +&'()-]*(?<! )")
"""A label is also a key in JSON and the name of a file with its curve."""

COLUMNS = frozenset(
    ("path", "seconds", "track", "face", "where", "detector", "left", "top", "right", "bottom", "expression", "valence", "arousal")
    + ("image", "file", "filename", "subdirectory_filepath")
)
"""No labels, because tables of predictions and of answers have these columns next to a column per label."""

CLASS_MEANS = (
    (-0.025, -0.019),
    (0.672, 0.081),
    (-0.628, -0.267),
    (0.183, 0.701),
    (-0.117, 0.760),
    (-0.684, 0.446),
    (-0.426, 0.554),
    (-0.510, 0.576),
)
"""Mean valence and arousal per expression on the official validation list of 2021 (3,999 faces; computed from public labels)."""

NOT_AN_EXPRESSION = {8: "None", 9: "Uncertain", 10: "No-Face"}
"""AffectNet's codes beyond the eight expressions; valence and arousal are −2 for 9 and 10."""

SPLITS = ("train", "validation", "test")
"""Of AffectNet train and validation are cut from the official training list, and test is the official validation list."""


def invalid_labels(labels: Sequence[str]) -> str | None:
    """What is wrong with these labels as the labels of a data set or a model, in a few words; None when nothing is."""
    if not 2 <= len(labels) <= MOST_LABELS:
        return f"{len(labels)} labels, 2 to {MOST_LABELS} are possible"
    for label in labels:
        if not LABEL.fullmatch(label) or len(label) > LONGEST_LABEL:
            characters = "letters, digits, spaces and _ + & ' ( ) -, a letter or digit first"
            return f"{label[:LONGEST_LABEL]!r} is not a label, which has 1 to {LONGEST_LABEL} {characters}"
    columns = [label for label in labels if label.lower() in COLUMNS]
    if columns:
        return f"{', '.join(columns)}: columns of tables of predictions or answers, not labels"
    repeated = [label for label in labels if [other.lower() for other in labels].count(label.lower()) > 1]
    return f"repeated labels, {', '.join(repeated)}; case does not distinguish them" if repeated else None
