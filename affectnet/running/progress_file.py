"""Progress of a running training, for a search that watches it: one JSON object per epoch, in a file that the environment names."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

PROGRESS_FILE = "AFFECTNET_PROGRESS_FILE"
"""Environment variable with the file's path; without it nothing is written. It does not change the training."""


def append_progress(values: Mapping[str, float]) -> None:
    """Appends the values of one epoch."""
    if path := os.environ.get(PROGRESS_FILE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(values)) + "\n")


def read_progress(path: Path, skip: int = 0) -> list[dict[str, float]]:
    """The values per epoch after the first `skip` epochs; a line that is still being written is left for the next call."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[skip:]
    return [json.loads(line) for line in lines if line.endswith("\n")]
