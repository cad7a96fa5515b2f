"""The eight expressions of AffectNet, in AffectNet's own order: the one label order of this project."""

EXPRESSIONS = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
"""Names in the order of their codes 0–7 (AffectNet documentation, expression codes)."""

CODES = {name: code for code, name in enumerate(EXPRESSIONS)}

NOT_AN_EXPRESSION = {8: "None", 9: "Uncertain", 10: "No-Face"}
"""AffectNet's codes that name no expression; valence and arousal are −2 for 9 and 10."""

SPLITS = ("train", "validation", "test")
"""train and validation are cut from the official training list; test is the official validation list."""
