"""A generated AffectNet of 2017 without its photographs: the lists with landmarks, and the inventory that belongs to them."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from affectnet.tables.inventory import INVENTORY
from affectnet.tables.source_pointer import Pointer

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
SHARES = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750, 33088, 11645, 82415)
"""Rows of each code in AffectNet's training list (docs/data.md)."""
IMAGES = "Manually_Annotated/Manually_Annotated_Images"
PIECE = 20_000


def write_lists(root: Path, rows: int, seed: int = 1) -> Pointer:
    """training.csv with 79 of 80 of the rows, validation.csv with the others; each row another photograph, 136 landmark numbers."""
    random = np.random.default_rng(seed)
    lists = root / "Manually_Annotated_file_lists"
    lists.mkdir(parents=True)
    tests = rows // 80
    for name, first, last in (("validation.csv", 0, tests), ("training.csv", tests, rows)):
        with (lists / name).open("w", encoding="ascii") as file:
            file.write(HEADER + "\n" if name == "training.csv" else "")
            for start in range(first, last, PIECE):
                file.writelines(_lines(np.arange(start, min(start + PIECE, last)), random))
    for number in (0, tests):  # by one image a list the readers know its folder
        path = root / IMAGES / image_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Pointer("affectnet2017", str(root))


def image_name(number: int) -> str:
    return f"{number % 1500 + 1}/{number * 2654435761 % 2**224:056x}.jpg"


def _lines(numbers: np.ndarray, random: np.random.Generator) -> list[str]:
    count = len(numbers)
    corner, side = random.integers(5, 200, count), random.integers(80, 900, count)
    points = random.uniform(0, 900, (count, 136))
    code = random.choice(len(SHARES), count, p=np.array(SHARES) / sum(SHARES))
    affect = np.where(code[:, None] < 9, random.uniform(-1, 1, (count, 2)), -2)
    shown = (";".join(map("{:.2f}".format, row)) for row in points.tolist())
    return [
        f"{image_name(n)},{at},{at},{px},{px},{landmarks},{label},{valence:.6g},{arousal:.6g}\n"
        for n, at, px, landmarks, label, (valence, arousal) in zip(numbers.tolist(), corner, side, shown, code, affect, strict=True)
    ]


def write_inventory(path: Path, root: Path, rows: int, seed: int = 2) -> None:
    """The inventory that verify would write for readable photographs, each with its own hash."""
    random = np.random.default_rng(seed)
    images = [f"{IMAGES}/{image_name(number)}" for number in range(rows)]
    lists = sorted((root / "Manually_Annotated_file_lists").iterdir())
    paths = [*images, *(file.relative_to(root).as_posix() for file in lists)]
    digests = [*(random.bytes(32) for _ in images), *(hashlib.sha256(file.read_bytes()).digest() for file in lists)]

    def of_images(value: object, count: int = rows) -> list[object]:
        return [*[value] * count, *[None] * len(lists)]

    table = pa.table(
        {
            "path": paths,
            "kind": ["image"] * rows + ["annotation"] * len(lists),
            "status": ["ok"] * len(paths),
            "bytes": [40_000] * len(paths),
            "sha256": pa.array(digests, pa.binary(32)),
            "format": of_images("JPEG"),
            "misnamed": [False] * len(paths),
            "width": pa.array(of_images(1100), pa.int32()),
            "height": pa.array(of_images(1100), pa.int32()),
            "mode": of_images("RGB"),
            "dhash": pa.array([*(random.bytes(16) for _ in images), *[None] * len(lists)], pa.binary(16)),
            "listed": [True] * rows + [False] * len(lists),
        }
    )
    INVENTORY.write(path, table.sort_by("path"))


def stream(listing: Path, target: Path) -> None:
    """The floor: the list streamed through plain pyarrow, landmarks split and cast, into zstd Parquet."""
    kinds = {"subDirectory_filePath": pa.string(), "facial_landmarks": pa.string()}
    options = csv.ReadOptions(column_names=HEADER.split(","), skip_rows=1, block_size=16 << 20)
    with csv.open_csv(listing, read_options=options, convert_options=csv.ConvertOptions(column_types=kinds)) as reader:
        writer = None
        for batch in reader:
            points = pa.compute.split_pattern(batch["facial_landmarks"], ";").flatten().cast(pa.float32())
            fixed = pa.FixedSizeListArray.from_arrays(points, 136)
            table = pa.Table.from_batches([batch]).set_column(5, "facial_landmarks", fixed)
            writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd")
            writer.write_table(table)
        if writer:
            writer.close()
