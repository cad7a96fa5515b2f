"""What a running training tells to who watches it: one JSON object an epoch, in a file that the environment names."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

PROGRESS_FILE = "AFFECTNET_PROGRESS_FILE"
"""Environment variable with the file's path; without it nothing is told. It changes nothing of what a training gives."""


def tell(values: Mapping[str, float]) -> None:
    """Appends an epoch's values."""
    if path := os.environ.get(PROGRESS_FILE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(values)) + "\n")


def told(path: Path, known: int = 0) -> list[dict[str, float]]:
    """The epochs' values after the first `known`; a line that is still being written is left for the next call."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[known:]
    return [json.loads(line) for line in lines if line.endswith("\n")]
