"""Records of files outside the pipeline that a result depends on, made by `fingerprint`: the user's copy, an audit, weights, groups."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from affectnet.errors import UserError
from affectnet.files.atomic import write_json


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

    source: none, published (downloaded by the architecture's library), or a local file; name: as in params.yaml, of published weights
    after the architecture; version: of the library, where the name does not decide the bytes; sha256: of a local file's bytes, None
    for one that was never read. `train` checks published weights against their published hash where the library has one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    source: Literal["none", "published", "file"]
    name: str
    version: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class AuditedLabels:
    """The labels that an audit doubts, where `clean.label_issues` uses them.

    sha256: of the file's bytes; None where they are not used, and for a file that was never read.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    used: bool = False
    sha256: str | None = None


@dataclass(frozen=True)
class GroupFile:
    """A CSV file of `evaluate.groups`. sha256: of its bytes, None for one that was never read."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    sha256: str | None = None


AnyRecord = TypeVar("AnyRecord", UserCopy, Weights, AuditedLabels, GroupFile)


def _files(value: Any) -> Any:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Files = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_files)]
"""Paths in params.yaml: null for none, the path of one file, or a list of paths."""


def read_records(path: Path, kind: type[AnyRecord]) -> dict[str, AnyRecord]:
    """The records in the file by name; none when it is missing, or another program wrote it."""
    try:
        return TypeAdapter(dict[str, kind]).validate_json(path.read_bytes())  # type: ignore[valid-type]
    except (OSError, ValidationError):
        return {}


def write_records(path: Path, records: Mapping[str, AnyRecord], before: Mapping[str, AnyRecord]) -> None:
    """Writes the records, unless the file holds them: then it stays as it is, and no stage that reads it sees it change."""
    if records != before or not path.is_file():
        write_json(path, {name: asdict(record) for name, record in records.items()})


def named_weights(architecture: str, weights: str) -> Weights:
    """The record of `weights` of an entry of `models`, without its hash; no file is opened. A path has a dot or a slash, a name neither.

    A published name that ends in a version, as IMAGENET1K_V1, means the same bytes in each version of the library; any other,
    as timm's `pretrained`, depends on the library, which the architecture's prefix names.
    """
    if weights == "none":
        return Weights("none", weights)
    if not re.fullmatch(r"\w+", weights):
        return Weights("file", weights)
    library = architecture.split("/", maxsplit=1)[0] if "/" in architecture else "torchvision"
    return Weights("published", f"{architecture} {weights}", None if re.search(r"_V\d+$", weights) else _version(library))


def named_teachers(files: Sequence[str]) -> dict[str, Weights]:
    """The record of each teacher of `train.teacher` by its name in the file of records, without its hash; no file is opened."""
    return {f"teacher {number}": Weights("file", name) for number, name in enumerate(files, 1)}


def paths_of_groups(names: Sequence[str]) -> list[str]:
    """The entries of `evaluate.groups` that are paths of files, not columns."""
    return [name for name in names if "/" in name or name.lower().endswith(".csv")]


def refuse_changed(path: Path, read: Mapping[str, Weights]) -> None:
    """Errors: UserError when `fingerprint` recorded other weights in the file than those that were read, by the names of the records."""
    recorded = read_records(path, Weights)
    for name, weights in read.items():
        known = recorded.get(name)
        if known != (weights if weights.source == "file" else replace(weights, sha256=None)):
            record = "nothing" if known is None else f"{known.name} of SHA-256 {known.sha256}"
            raise UserError(f"{path}: records {record}, training reads {weights.name} of SHA-256 {weights.sha256}; run `dvc repro`")


def _version(library: str) -> str | None:
    """Of an installed library, which is not imported."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None
