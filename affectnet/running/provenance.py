"""What a result depends on outside the pipeline's own files, as `fingerprint` records it: the user's copy, the start weights."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from affectnet.files.atomic import write_json

TIMM = "timm/"
"""What precedes the name of an architecture of timm: `timm/efficientnet_b2`."""


@dataclass(frozen=True)
class UserCopy:
    """The user's copy of a data set, as its folders list it.

    root: its folder; files: below it; bytes: of them; sha256: of the names, lengths and times of change of all files and of the
    checksum list. All None for the demo; the last three None for a copy that was never seen.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    root: str | None = None
    files: int | None = None
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Weights:
    """Weights that a training reads.

    source: who has them; name: as params.yaml names them, with the architecture where the source needs it; version: of the
    library, where the name alone does not decide the bytes; sha256: of a file's bytes, None for one that was never seen. A member
    of torchvision's enum stands for one file, whose published hash `train` checks.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    source: Literal["none", "torchvision", "timm", "file"]
    name: str
    version: str | None = None
    sha256: str | None = None


AnyRecord = TypeVar("AnyRecord", UserCopy, Weights)


def read_records(path: Path, kind: type[AnyRecord]) -> dict[str, AnyRecord]:
    """The records in the file by name; none when it is missing, or another program wrote it."""
    try:
        return TypeAdapter(dict[str, kind]).validate_json(path.read_bytes())  # type: ignore[valid-type]
    except (OSError, ValidationError):
        return {}


def write_records(path: Path, records: Mapping[str, AnyRecord], before: Mapping[str, AnyRecord]) -> None:
    """Writes the records, unless the file holds them: then it stays as it is, and no stage that reads it sees it change."""
    if records != before:
        write_json(path, {name: asdict(record) for name, record in records.items()})


def named_weights(architecture: str, weights: str) -> Weights:
    """What `weights` of an entry of `models` means; no file is looked at."""
    if weights == "none":
        return Weights("none", weights)
    if architecture.startswith(TIMM) and weights == "pretrained":
        return Weights("timm", architecture, _version("timm"))
    if not architecture.startswith(TIMM) and re.fullmatch("[A-Z][A-Z0-9_]*", weights):
        return Weights("torchvision", f"{architecture} {weights}", _version("torchvision") if weights == "DEFAULT" else None)
    return Weights("file", weights)


def _version(library: str) -> str | None:
    """Of an installed library, which is not imported."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None
