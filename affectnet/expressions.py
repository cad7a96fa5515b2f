"""The eight expressions of AffectNet in AffectNet's own order, which is the label order of this project, and the names of the splits."""

EXPRESSIONS = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
"""Names in the order of their codes 0–7 (AffectNet documentation, expression codes)."""

CODES = {name: code for code, name in enumerate(EXPRESSIONS)}

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
"""train and validation are cut from the official training list; test is the official validation list."""
