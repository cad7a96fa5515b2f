"""data/raw/source.json: which download this is and where it is. `acquire` writes it; `verify`, `clean` and `crop` read it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from affectnet.errors import UserError, one_line
from affectnet.expressions import EXPRESSIONS
from affectnet.files.atomic import write_json

POINTER = "source.json"


@dataclass(frozen=True)
class Pointer:
    """The download of one data set.

    layout: one of those in affectnet/sources; root: its folder, absolute, or relative to the pointer's folder;
    classes, splits: the names in the download → an expression, or train, validation or test; None for a name that is skipped;
    lists: those of 2017 that are read; expected: rows or images by official split, as published;
    checksums: a sha256sum or md5sum list, or None; test_share: share of the training faces that `clean` cuts off as test, None
    where the download has a test split; name: the entry of `datasets` in params.yaml, empty in a pointer of an earlier version;
    state: SHA-256 of the names, lengths and times of its files as `fingerprint` saw them, or None: a change re-runs `verify`;
    options: the other params of the layout, by name; unpacked_from, packed_layout: the folder and the layout
    of the download whose images `acquire` unpacked to root, or None; labels: the names of the codes, in their order.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layout: str
    root: str
    classes: Mapping[str, str | None] = field(default_factory=dict)
    splits: Mapping[str, str | None] = field(default_factory=dict)
    lists: Literal["manual", "automatic", "both"] = "manual"
    expected: Mapping[Literal["training", "validation"], int] = field(default_factory=dict)
    checksums: str | None = None
    test_share: float | None = None
    name: str = ""
    state: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    unpacked_from: str | None = None
    packed_layout: str | None = None
    labels: tuple[str, ...] = EXPRESSIONS

    @property
    def params(self) -> str:
        """The entry's dotted name in params.yaml, for messages."""
        return f"datasets.{self.name or self.layout}"

    def labelling(self) -> dict[str, Any]:
        """The fields that decide which rows a reader makes of the files: all except the root, the expected numbers and names."""
        without_effect = {"root", "unpacked_from", "packed_layout", "expected", "checksums", "name", "state"}
        return {name: value for name, value in asdict(self).items() if name not in without_effect}

    def write(self, folder: Path) -> None:
        write_json(folder / POINTER, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Pointer":
        """The pointer in the folder, its root made absolute. Errors: UserError when it or its root is missing."""
        path = folder / POINTER
        try:
            pointer = TypeAdapter(cls).validate_json(path.read_bytes(), strict=True)
        except FileNotFoundError:
            raise UserError(f"{path}: not there; run `dvc repro acquire`") from None
        except (ValidationError, OSError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise UserError(f"{path}: not written by acquire ({reason}); run `dvc repro -f acquire`") from None
        try:
            root = (folder / pointer.root).resolve()
            is_folder = root.is_dir()
        except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, a link to itself
            root, is_folder = Path(pointer.root), False
        if not is_folder and pointer.unpacked_from:
            raise UserError(
                f"{path}: {one_line(str(root))}, where the images of {one_line(pointer.unpacked_from)} were unpacked, is not there; "
                "run `dvc repro -f acquire`"
            )
        if not is_folder:
            raise UserError(f"{path}: root {one_line(str(root))} is not a folder; is the disk mounted?")
        return cls(**{**asdict(pointer), "root": str(root)})
