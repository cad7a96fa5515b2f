"""Draws the demo download, or locates the user's copy of a data set and writes a pointer to it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS, invalid_labels
from affectnet.files.atomic import replacing_folder
from affectnet.files.cache_dir import cache_folder
from affectnet.params import Runtime, Section
from affectnet.running.provenance import UserCopy, read_records
from affectnet.running.run_stage import launch
from affectnet.sources.maps import MapParams
from affectnet.sources.registry import layouts, open_layout, params_classes
from affectnet.sources.source import LayoutParams
from affectnet.sources.unpacked import Container, unpack
from affectnet.synthetic.download import write_download
from affectnet.synthetic.plan import DemoParams
from affectnet.tables.source_pointer import Pointer

if TYPE_CHECKING:
    Dataset = DemoParams | LayoutParams
else:
    Dataset = Union[DemoParams, *params_classes()]


class AcquireParams(Section):
    """Section `acquire`, the labels, and the selected data set with its name."""

    seed: int = Field(ge=0)
    labels: list[str]
    dataset_name: str
    dataset: Annotated[Dataset, Field(discriminator="layout")]


def run(params: AcquireParams, runtime: Runtime, download: Path, *, raw: Path) -> str:
    """Writes data/raw; returns the summary line."""
    dataset = params.dataset
    check_labels(params.labels, dataset.layout)
    if isinstance(dataset, DemoParams):
        with replacing_folder(raw) as unfinished:
            training, validation = write_download(unfinished, dataset, params.seed, runtime.workers)
            Pointer("drawn", ".", expected={"training": training, "validation": validation}).write(unfinished)
        return f"acquire: drew {training:,} training and {validation:,} validation rows, faults included, seed {params.seed}"
    pointer = replace(own_copy(params.dataset_name, dataset), labels=tuple(params.labels))
    reader = open_layout(pointer)
    reading = reader.reading()
    if isinstance(reader, Container):
        pointer = replace(unpack(reader, cache_folder("unpacked")), packed_layout=dataset.layout)
        reading = f"{reading}; images unpacked to {pointer.root}"
    copy = read_records(download, UserCopy).get("copy", UserCopy())
    replace(pointer, state=copy.sha256 if copy.root == str(reader.root) else None).write(raw)
    return f"acquire: {dataset.layout} at {reader.root}" + (f": {reading}" if reading else "")


def check_labels(labels: list[str], layout: str) -> None:
    """Errors: UserError when the labels are invalid, or the layout's labels are AffectNet's and these are others."""
    if problem := invalid_labels(labels):
        raise UserError(f"params.yaml: labels: {problem}")
    any_labels = [name for name, reader in layouts().items() if reader.Params is not None and issubclass(reader.Params, MapParams)]
    if layout not in any_labels and labels != list(EXPRESSIONS):
        raise UserError(
            f"params.yaml: labels: those of the layout {layout} are {', '.join(EXPRESSIONS)}; "
            f"set clean.expressions to keep some of them; other labels are possible with the layouts {', '.join(any_labels)}"
        )


def own_copy(name: str, dataset: LayoutParams) -> Pointer:
    """The pointer to the user's copy. Errors: UserError when its root is not set, or root or checksum list are not absolute or missing."""
    entry = f"params.yaml: datasets.{name}"
    if dataset.root is None:
        raise UserError(f"{entry}.root: not set; give the absolute path of your copy")
    root = Path(dataset.root)
    if not root.is_absolute():
        raise UserError(f"{entry}.root: {root} is not absolute; experiments run in temporary folders, so give the absolute path")
    if not os.path.isdir(root) or not os.access(root, os.R_OK | os.X_OK):  # noqa: PTH112 (Path raises for a name that is too long)
        raise UserError(f"{entry}.root: {root} is not a readable folder; check the path and its permissions")
    checksums = getattr(dataset, "checksums", None)
    if checksums is not None and not Path(checksums).is_absolute():
        raise UserError(f"{entry}.checksums: {checksums} is not absolute; give the absolute path")
    if checksums is not None and not os.path.isfile(checksums):  # noqa: PTH113
        raise UserError(f"{entry}.checksums: {checksums} is not there; check the path, or set it to null")
    values = dataset.model_dump()
    options = {option: values.pop(option) for option in sorted(values.keys() - Pointer.__dataclass_fields__.keys())}
    return Pointer(**{**values, "expected": dataset.expected or {}}, name=name, options=options)


if __name__ == "__main__":
    launch(run)
