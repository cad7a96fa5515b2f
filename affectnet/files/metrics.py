"""The metrics files that one stage writes and others read."""

import json
from pathlib import Path
from typing import Any

from affectnet.errors import UserError


def read_metrics(path: Path) -> dict[str, Any]:
    """A stage's metrics. Errors: UserError when they are missing or not a mapping in JSON."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `dvc repro`") from None
    except ValueError as error:
        raise UserError(f"{path}: invalid JSON: {error}; run `dvc repro`") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: not a mapping; run `dvc repro`")
    return document
