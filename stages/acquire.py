"""Draws the demo download, or writes a pointer to the user's own copy after a look whether it is there."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from affectnet.atomic import replacing_folder
from affectnet.demo.download import write_download
from affectnet.demo.plan import DemoParams
from affectnet.errors import UserError
from affectnet.launch import launch
from affectnet.params import FolderName, Runtime, Section
from affectnet.pointer import Pointer
from affectnet.provenance import UserCopy, read_records
from affectnet.sources import open_source

Count = Annotated[int, Field(ge=0)]
Expression = Literal["Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt"]


class OwnCopy(Section):
    """What every data set of the user's has: its folder, a checksum list, and the published numbers of images."""

    root: str | None
    checksums: str | None
    expected: dict[Literal["training", "validation"], Count] | None


class AffectNet2017Params(OwnCopy):
    layout: Literal["affectnet2017"]
    lists: Literal["manual", "automatic", "both"]


class AffectNet2021Params(OwnCopy):
    layout: Literal["affectnet2021"]


class AffectNetPlusParams(OwnCopy):
    layout: Literal["affectnet_plus"]


class FolderParams(OwnCopy):
    layout: Literal["folder"]
    classes: dict[FolderName, Expression | None] = Field(min_length=1)
    splits: dict[FolderName, Literal["train", "validation", "test"] | None] = Field(min_length=1)
    test_share: float | None = Field(gt=0, lt=1)


Dataset = DemoParams | AffectNet2017Params | AffectNet2021Params | AffectNetPlusParams | FolderParams


class AcquireParams(Section):
    """Section `acquire`, and the selected data set with its name."""

    seed: int = Field(ge=0)
    dataset_name: str
    dataset: Annotated[Dataset, Field(discriminator="layout")]


def run(params: AcquireParams, runtime: Runtime, download: Path, *, raw: Path) -> str:
    """Writes data/raw; returns the summary line."""
    dataset = params.dataset
    if isinstance(dataset, DemoParams):
        with replacing_folder(raw) as unfinished:
            training, validation = write_download(unfinished, dataset, params.seed, runtime.workers)
            Pointer("affectnet2017", ".", expected={"training": training, "validation": validation}).write(unfinished)
        return f"acquire: drew {training:,} training and {validation:,} validation rows, faults included, seed {params.seed}"
    pointer = own_copy(params.dataset_name, dataset)
    reading = open_source(pointer).reading()
    copy = read_records(download, UserCopy).get("copy", UserCopy())
    replace(pointer, state=copy.sha256 if copy.root == pointer.root else None).write(raw)
    return f"acquire: {dataset.layout} at {pointer.root}" + (f": {reading}" if reading else "")


def own_copy(name: str, dataset: AffectNet2017Params | AffectNet2021Params | AffectNetPlusParams | FolderParams) -> Pointer:
    """The pointer to the user's copy. Errors: UserError when its root or checksum list is not set, not absolute or not there."""
    place = f"params.yaml: datasets.{name}"
    if dataset.root is None:
        raise UserError(f"{place}.root: not set; give the absolute path of your copy")
    root = Path(dataset.root)
    if not root.is_absolute():
        raise UserError(f"{place}.root: {root} is not absolute; experiments run in folders of their own")
    if not os.path.isdir(root) or not os.access(root, os.R_OK | os.X_OK):  # noqa: PTH112 (Path raises for a name that is too long)
        raise UserError(f"{place}.root: {root} is not a folder that can be read")
    if dataset.checksums is not None and not Path(dataset.checksums).is_absolute():
        raise UserError(f"{place}.checksums: {dataset.checksums} is not absolute")
    if dataset.checksums is not None and not os.path.isfile(dataset.checksums):  # noqa: PTH113
        raise UserError(f"{place}.checksums: {dataset.checksums} is not there")
    of_layout = dataset.model_dump(exclude={"layout", "root", "expected", "checksums"})
    return Pointer(dataset.layout, str(root), expected=dataset.expected or {}, checksums=dataset.checksums, name=name, **of_layout)


if __name__ == "__main__":
    launch(run)
