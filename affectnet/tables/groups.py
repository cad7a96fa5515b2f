"""The groups of test faces that `evaluate.groups` names: by columns of annotations.parquet, or by CSV files of the user."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affectnet.errors import UserError, first_few, one_line, reraise_machine_fault
from affectnet.files.sha256 import file_sha256
from affectnet.running.provenance import GroupFile, paths_of_groups, read_records
from affectnet.tables.annotations import ANNOTATIONS, SUBSETS

AGES = ("0–19", "20–39", "40–59", "60 and older")
YEARS = (20, 40, 60)
"""Where the second and each later age group begins."""

MACHINE_ESTIMATES = ("age", "gender", "race")
"""Columns that AffectNet+ estimates by machine."""

COLUMNS = ("subset", *MACHINE_ESTIMATES)
"""Columns by which groups are formed."""


@dataclass(frozen=True)
class Grouping:
    """One way to divide n faces: its name, the names of its groups in order, and (n,) the group of each face, −1 for none.

    unmatched: rows of a CSV file about photographs that are not in test; estimated: a machine says which group a face belongs to.
    """

    name: str
    groups: tuple[str, ...]
    group: NDArray[np.int64]
    unmatched: int = 0
    estimated: bool = False


def read_groupings(names: Sequence[str], annotations: Path, records: Path) -> list[Grouping]:
    """The groupings of the test faces, in the order of annotations.parquet.

    names: columns, or paths of CSV files; records: what `fingerprint` recorded of these files. Errors: UserError for another column, a
    path that is not absolute, a file that cannot be used or is not the recorded one, and two groupings of one name.
    """
    files = paths_of_groups(names)
    if unknown := [name for name in names if name not in {*files, *COLUMNS}]:
        raise UserError(
            f"params.yaml: evaluate.groups: {first_few(unknown)}: neither a column that forms groups ({', '.join(COLUMNS)}) nor the "
            "absolute path of a CSV file"
        )
    rows = ANNOTATIONS.read(annotations, ["image", "split", *COLUMNS])
    rows = rows.filter(pc.equal(rows["split"], "test"))
    groupings = []
    for name in names:
        groupings += _of_file(Path(name), rows["image"].to_pylist(), records) if name in files else [_of_column(name, rows[name])]
    titles = [grouping.name for grouping in groupings]
    if doubled := sorted({title for title in titles if titles.count(title) > 1}):
        raise UserError(
            f"params.yaml: evaluate.groups: more than one grouping is called {', '.join(doubled)}; rename columns of the CSV file"
        )
    return groupings


def subsets(annotations: Path) -> Grouping:
    """The test faces by AffectNet+'s subsets."""
    rows = ANNOTATIONS.read(annotations, ["split", "subset"])
    return _of_column("subset", rows.filter(pc.equal(rows["split"], "test"))["subset"])


def _of_column(name: str, values: pa.ChunkedArray) -> Grouping:
    if name == "age":
        years = pc.fill_null(values, np.nan).to_numpy()
        return Grouping(name, AGES, np.where(np.isfinite(years), np.digitize(years, YEARS), -1), estimated=True)
    names = SUBSETS if name == "subset" else tuple(sorted(pc.unique(values).drop_null().to_pylist()))
    return Grouping(name, names, _codes(values, names), estimated=name in MACHINE_ESTIMATES)


def _codes(values: pa.ChunkedArray | pa.Array, names: Sequence[str]) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = pc.fill_null(pc.index_in(values, pa.array(names, pa.string())), -1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int64)


def _of_file(path: Path, images: Sequence[str], records: Path) -> list[Grouping]:
    """A grouping per column other than `image`. images: of the n test faces."""
    names, listed = _read(path)
    recorded = read_records(records, GroupFile).get(str(path))
    if recorded is None or recorded.sha256 != file_sha256(path).hex():
        raise UserError(f"{records}: records no {path} with these bytes; run `dvc repro`")
    rows = _rows(path, listed, images)
    if not any(row in listed for row in rows):
        raise UserError(
            f"{path}: none of its {len(listed):,} photographs is in test, first {one_line(next(iter(listed)))}; column image holds paths "
            f"as in data/annotations.parquet, such as {one_line(images[0])}, or file names"
        )
    unmatched = len(listed.keys() - {*images, *map(_file_name, images)})
    groupings = []
    for column, name in enumerate(names):
        values = [listed[row][column] if row in listed else "" for row in rows]
        groups = tuple(sorted(set(values) - {""}))
        groupings.append(Grouping(name, groups, _codes(pa.array(values, pa.string()), groups), unmatched))
    return groupings


def _rows(path: Path, listed: Mapping[str, list[str]], images: Sequence[str]) -> list[str]:
    """Which listed name is about each image: its path, or else its file name; '' for none.

    Errors: UserError when a listed file name is that of more than one photograph of test, or the rows of a path and a name differ.
    """
    by_name: dict[str, set[str]] = {}
    for image in images:
        by_name.setdefault(_file_name(image), set()).add(image)
    names = listed.keys() & by_name.keys() - set(images)
    twice = [(image, name) for name in sorted(names) for image in sorted(by_name[name]) if image in listed]
    if both := [image for image, name in twice if listed[image] != listed[name]]:
        raise UserError(f"{path}: photographs by path and by file name whose rows differ, {first_few(both)}; leave one row of each")
    if ambiguous := [name for name, paths in by_name.items() if len(paths) > 1 and name in listed and not paths <= set(listed)]:
        raise UserError(f"{path}: names of more than one photograph of test, {first_few(ambiguous)}; give their paths")
    return [next((name for name in (image, _file_name(image)) if name in listed), "") for image in images]


def _file_name(image: str) -> str:
    return image.rpartition("/")[2]


def _read(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The names of the groupings, and the groups of each listed photograph.

    Errors: UserError when the file is not absolute, missing, not CSV, without the columns, or has two rows of a photograph that differ.
    """
    if not path.is_absolute():
        raise UserError(
            f"params.yaml: evaluate.groups: {path} is not absolute; experiments run in temporary folders, so give the absolute path"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            rows = [[cell.strip() for cell in row] for row in reader if any(row)]
    except (OSError, ValueError, csv.Error) as error:
        reraise_machine_fault(error, path)
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read as CSV ({reason}); evaluate.groups names it in params.yaml") from None
    if "image" not in header or len(header) < 2 or not all(header) or len(set(header)) < len(header) or not rows:
        raise UserError(
            f"{path}: one row per photograph is needed, with a column image and one per grouping, of different names; there are "
            f"{len(rows):,} rows, columns {first_few(header, 8)}"
        )
    if uneven := [number for number, row in enumerate(rows, 1) if len(row) != len(header)]:
        raise UserError(f"{path}: rows without {len(header)} cells, {first_few(uneven)}")
    return _by_image(path, header, rows)


def _by_image(path: Path, header: list[str], rows: Sequence[list[str]]) -> tuple[list[str], dict[str, list[str]]]:
    at = header.index("image")
    groups: dict[str, list[str]] = {}
    differing = []
    for row in rows:
        image, values = row[at].replace("\\", "/"), [*row[:at], *row[at + 1 :]]
        if groups.setdefault(image, values) != values:
            differing.append(image)
    if differing:
        raise UserError(f"{path}: photographs with rows that differ, {first_few(differing)}; leave one row of each")
    return [*header[:at], *header[at + 1 :]], groups
