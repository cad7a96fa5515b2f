"""data/raw/source.json: which download this is and where it lies. `acquire` writes it; `verify`, `clean` and `crop` read it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from affectnet.atomic import write_json
from affectnet.errors import UserError

POINTER = "source.json"


@dataclass(frozen=True)
class Pointer:
    """The download of one data set.

    layout: one of affectnet.sources.LAYOUTS; root: its folder, absolute, or relative to the pointer's own;
    classes, splits: explicit maps of layout `folder` (folder name → expression; folder name → train, validation or
    test); lists: `manual` or `automatic` (2017); expected: rows or images by official split, as published;
    checksums: a sha256sum or md5sum list, or None.
    """

    layout: str
    root: str
    classes: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    lists: str = "manual"
    expected: Mapping[str, int] = field(default_factory=dict)
    checksums: str | None = None

    def write(self, folder: Path) -> None:
        write_json(folder / POINTER, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Pointer":
        """The pointer in the folder, its root made absolute. Errors: UserError when it or its root is not there."""
        path = folder / POINTER
        try:
            pointer = cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise UserError(f"{path}: not there; run `dvc repro acquire`") from None
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not written by acquire ({error}); run `dvc repro -f acquire`") from None
        root = (folder / pointer.root).resolve()
        if not root.is_dir():
            raise UserError(f"{path}: root {root} is not a folder; is the disk mounted?")
        return cls(**{**asdict(pointer), "root": str(root)})
