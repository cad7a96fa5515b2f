"""Writes a page of what `clean` did: rejected photographs by reason, near duplicates side by side, boxes beyond edges, the labels.

It opens a few photographs per reason, chosen by a seed, so its time and bytes do not grow with the data set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field

from affectnet.cleaning.label_order import permuted
from affectnet.expressions import CLASS_MEANS, EXPRESSIONS, NOT_AN_EXPRESSION, SPLITS
from affectnet.files.atomic import write_json, write_text
from affectnet.files.metrics import read_metrics
from affectnet.files.sha256 import file_sha256
from affectnet.images.data_uri import data_uri
from affectnet.images.decode import open_photograph
from affectnet.params import Section
from affectnet.reporting.data_card import card, croissant_of
from affectnet.reporting.svg import means_svg
from affectnet.reporting.templates import fill
from affectnet.running.progress import progress
from affectnet.running.run_stage import launch
from affectnet.tables.annotations import ANNOTATIONS, EDGES, REJECTED
from affectnet.tables.inventory import DHASH_BYTES, INVENTORY, checked_against_inventory, read_unchanged
from affectnet.tables.labels import read_labels
from affectnet.tables.source_pointer import Pointer

THUMBNAIL_PX, THUMBNAIL_QUALITY = 144, 80
BOX_COLOUR, BEYOND_COLOUR = (255, 196, 0), (128, 128, 128)
"""Of a face box, and of the area beyond the photograph into which a box extends."""

PARTNERS = {
    "listed_in_test": "test",
    "copy_of_test": "test",
    "near_duplicate_of_test": "test",
    "near_duplicate_of_validation": "validation",
    "exact_duplicate": None,
    "contradictory_duplicate": None,
}
"""Reason → the split that has the like photograph; None for any photograph of the download."""

Box = tuple[float, float, float, float]


class InspectParams(Section):
    """Section `inspect`."""

    seed: int = Field(ge=0)
    examples: int = Field(ge=0, le=50)


@dataclass(frozen=True)
class Picture:
    """A photograph on the page: its name, list and row, captions, and a thumbnail as a `data:` URI, None where it cannot be decoded."""

    image: str
    source: str
    caption: str
    detail: str
    picture: str | None
    width: int = 0
    height: int = 0


class Photographs:
    """The photographs of the inventory, from which thumbnails are made. root: the folder of the download; labels: names of the codes."""

    def __init__(self, root: Path, inventory: pa.Table, labels: Sequence[str]) -> None:
        self.root, self.inventory, self.labels = root, inventory, labels
        words = np.zeros((len(inventory), DHASH_BYTES), np.uint8)
        self.hashed = pc.is_valid(inventory["dhash"]).to_numpy()
        hashes = inventory["dhash"].combine_chunks().drop_null()
        if len(hashes):
            words[self.hashed] = np.frombuffer(b"".join(hashes.to_pylist()), np.uint8).reshape(-1, DHASH_BYTES)
        self.words = words.view(np.uint64)

    def at(self, images: pa.ChunkedArray | Sequence[str]) -> NDArray[np.int64]:
        """(n,) positions of the images in the inventory, −1 where they are missing."""
        names = images if isinstance(images, pa.ChunkedArray) else pa.array(images, pa.string())
        return np.asarray(pc.fill_null(pc.index_in(names, self.inventory["path"]), -1).to_numpy(zero_copy_only=False), np.int64)

    def distance(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bits in which the difference hashes of two photographs differ, 0–128."""
        return np.asarray(np.bitwise_count(self.words[first] ^ self.words[second]).sum(-1), np.int64)

    def picture(self, row: Mapping[str, Any], where: str = "", detail: str = "") -> Picture:
        """The thumbnail of a row of annotations or rejected rows, its box drawn. Errors: ChangedFileError."""
        source = f"{row['list']}, row {row['row']}" if row.get("list") else ""
        caption = ", ".join(filter(None, (label_of(row.get("expression"), self.labels), where)))
        (at,) = self.at([row["image"]])
        file = self.inventory.slice(at, 1).to_pylist()[0] if at >= 0 else {"status": "missing"}
        if file["status"] != "ok":
            return Picture(row["image"], source, caption, detail or str(file["status"]).replace("_", " "), None)
        photograph = open_photograph(read_unchanged(self.root / row["image"], file["sha256"]), row["image"])
        shrink = 8 if photograph.jpeg and min(photograph.dimensions) >= 16 * THUMBNAIL_PX else 1
        pixels = thumbnail(photograph.pixels(shrink), photograph.dimensions, box_of(row))
        uri = data_uri(pixels, "JPEG", quality=THUMBNAIL_QUALITY)
        return Picture(row["image"], source, caption, detail, uri, width=pixels.shape[1], height=pixels.shape[0])


def thumbnail(pixels: NDArray[np.uint8], dimensions: tuple[int, int], box: Box | None) -> NDArray[np.uint8]:
    """(h, w, 3) RGB with a longest side of THUMBNAIL_PX, the box drawn, and grey where the box extends beyond the photograph.

    pixels: decoded, possibly smaller; dimensions: width and height of the photograph, to which the box refers, in px. Of a box, at most
    a side of the photograph is shown beyond each edge.
    """
    width, height = dimensions
    left, top, right, bottom = (0.0, 0.0, width, height) if box is None else box
    x0, y0 = max(min(0.0, left), -width), max(min(0.0, top), -height)
    x1, y1 = min(max(width, right), 2 * width), min(max(height, bottom), 2 * height)
    scale = min(1.0, THUMBNAIL_PX / max(x1 - x0, y1 - y0))
    canvas = Image.new("RGB", (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))), BEYOND_COLOUR)
    small = Image.fromarray(pixels).convert("RGB").resize((max(1, round(width * scale)), max(1, round(height * scale))))
    canvas.paste(small, (round(-x0 * scale), round(-y0 * scale)))
    if box is not None:
        drawn = [max((value - origin) * scale, 0.0) for value, origin in zip(box, (x0, y0, x0, y0), strict=True)]
        far = (min(max(drawn[2], drawn[0]), canvas.width - 1), min(max(drawn[3], drawn[1]), canvas.height - 1))
        if drawn[0] <= far[0] and drawn[1] <= far[1]:
            ImageDraw.Draw(canvas).rectangle((drawn[0], drawn[1], *far), outline=BOX_COLOUR, width=2)
    return np.asarray(canvas)


def run(
    params: InspectParams,
    raw: Path,
    inventory: Path,
    annotations: Path,
    rejected: Path,
    clean: Path,
    templates: Path,
    *,
    cleaning: Path,
    data_card: Path,
    croissant: Path,
) -> str:
    """Writes the page and the cards of the data; returns the summary line."""
    files = INVENTORY.read(inventory, ["path", "status", "sha256", "width", "height", "dhash"])
    pointer = Pointer.read(raw)
    photographs = Photographs(Path(pointer.root), files, read_labels(annotations))
    kept = ANNOTATIONS.read(annotations, ["image", "list", "row", "split", *EDGES, "expression", "valence", "arousal", "group"])
    with checked_against_inventory():
        by_reason = list(progress(rejected_by_reason(params, photographs, kept, REJECTED.read(rejected)), "inspect", unit="reason"))
        groups, pairs = near_duplicates(params, photographs, kept)
        boxes, beyond = boxes_beyond_edges(params, photographs, kept)
    counts = read_metrics(clean)
    values = {
        "counts": counts,
        "reasons": by_reason,
        "pairs": (groups, pairs),
        "beyond": (boxes, beyond),
        **label_values(kept, photographs.labels, bool(counts["label_order_warnings"])),
        "splits": SPLITS,
    }
    write_text(cleaning, fill(templates / "cleaning.html", values))
    name, sha256 = pointer.name or "demo", file_sha256(annotations).hex()
    write_text(data_card, card(name, pointer.packed_layout or pointer.layout, pointer.test_share, counts, str(annotations), sha256))
    write_json(croissant, croissant_of(name, photographs.labels, annotations, sha256))
    shown = sum(len(pictures) for _, _, examples in by_reason for pictures in examples) + sum(map(len, pairs)) + len(beyond)
    return f"inspect: {shown:,} photographs of {len(files):,} files shown in {cleaning}"


def rejected_by_reason(
    params: InspectParams, photographs: Photographs, kept: pa.Table, rejected: pa.Table
) -> Iterator[tuple[str, int, list[list[Picture]]]]:
    """(reason, rows, examples), the most frequent reason first; a duplicate is followed by the photograph that it is like."""
    counts = sorted(pc.value_counts(rejected["reason"]).to_pylist(), key=lambda count: (-count["counts"], count["values"]))
    for number, count in enumerate(counts):
        reason = count["values"]
        rows = rejected.filter(pc.equal(rejected["reason"], reason))
        at = np.sort(np.random.default_rng([params.seed, number]).permutation(len(rows))[: params.examples])
        examples = [
            [photographs.picture(row, detail=row["detail"] or ""), *partner(photographs, (kept, rejected), row["image"], reason)]
            for row in rows.take(pa.array(at)).to_pylist()
        ]
        yield reason, count["counts"], examples


def label_of(code: int | None, labels: Sequence[str]) -> str:
    """The expression's name, as `Happy`, `Uncertain` or `code 42`."""
    names = {**NOT_AN_EXPRESSION, **dict(enumerate(labels))}
    return "no label" if code is None else names.get(code, f"code {code}")


def box_of(row: Mapping[str, Any]) -> Box | None:
    edges = tuple(row[name] for name in EDGES)
    return None if None in edges else edges


def partner(photographs: Photographs, tables: Sequence[pa.Table], image: str, reason: str) -> list[Picture]:
    """The photograph that a rejected duplicate is most like, in the split that has it; none for other reasons.

    tables: the rows that are kept, and those that are rejected.
    """
    (position,) = photographs.at([image])
    if reason not in PARTNERS or position < 0 or not photographs.hashed[position]:
        return []
    split, kept = PARTNERS[reason], tables[0]
    if split is None:
        candidates = np.unique(np.concatenate([photographs.at(table["image"]) for table in tables]))
        candidates = candidates[(candidates >= 0) & (candidates != position)]
        candidates = candidates[photographs.hashed[candidates]]
    else:
        kept = kept.filter(pc.equal(kept["split"], split))
        candidates = np.unique(photographs.at(kept["image"]))
    if not len(candidates):
        return []
    distances = photographs.distance(np.full(len(candidates), position), candidates)
    name = photographs.inventory["path"][int(candidates[distances.argmin()])].as_py()
    rows = [row for table in (kept, tables[1]) for row in table.filter(pc.equal(table["image"], name)).to_pylist()]
    return [photographs.picture(rows[0], rows[0].get("split", "rejected"), f"{distances.min()} of 128 bits differ")]


def near_duplicates(params: InspectParams, photographs: Photographs, kept: pa.Table) -> tuple[int, list[list[Picture]]]:
    """How many groups of near duplicates are kept, and pairs of them, those whose hashes differ most first."""
    group, at = kept["group"].to_numpy(), photographs.at(kept["image"])
    order = np.lexsort((at, group))
    order = order[np.flatnonzero(np.r_[True, (np.diff(group[order]) != 0) | (np.diff(at[order]) != 0)])] if len(order) else order
    _, first, members = np.unique(group[order], return_index=True, return_counts=True)
    distance = photographs.distance(at[order], at[np.repeat(order[first], members)])
    largest = np.maximum.reduceat(distance, first) if len(first) else distance
    several = np.flatnonzero(members > 1)
    pairs = []
    for number in several[np.argsort(-largest[several], kind="stable")][: params.examples].tolist():
        rows = slice(first[number], first[number] + members[number])
        one, other = order[first[number]], order[rows][distance[rows].argmax()]
        pairs.append([_kept_picture(photographs, kept, row, f"{largest[number]} of 128 bits differ") for row in (one, other)])
    return len(several), pairs


def boxes_beyond_edges(params: InspectParams, photographs: Photographs, kept: pa.Table) -> tuple[int, list[Picture]]:
    """How many kept boxes extend beyond their photograph, and those that do most, as a share of the box."""
    at = photographs.at(kept["image"])
    width, height = (np.asarray(pc.fill_null(photographs.inventory[name], 0))[at].astype(np.float64) for name in ("width", "height"))
    left, top, right, bottom = (np.asarray(pc.fill_null(kept[name], np.nan), np.float64) for name in EDGES)
    inside = (np.minimum(right, width) - np.maximum(left, 0)) * (np.minimum(bottom, height) - np.maximum(top, 0))
    beyond = 1 - np.nan_to_num(inside / ((right - left) * (bottom - top)), nan=1.0)
    rows = np.flatnonzero(beyond > 1e-6)
    chosen = rows[np.argsort(-beyond[rows], kind="stable")][: params.examples]
    return len(rows), [_kept_picture(photographs, kept, row, f"{100 * beyond[row]:.0f} % beyond") for row in chosen.tolist()]


def _kept_picture(photographs: Photographs, kept: pa.Table, row: int, detail: str) -> Picture:
    values = kept.slice(row, 1).to_pylist()[0]
    return photographs.picture(values, values["split"], detail)


BEFORE_THE_RULES = "another label order fitted better before EmoNet's rules; the summary line of `clean` names it"


def label_values(kept: pa.Table, labels: Sequence[str], warned: bool) -> dict[str, Any]:
    """Faces by expression and split, mean valence and arousal by expression, their chart, and the label order that fits better, if any.

    warned: whether `clean` saw another order that fits better, which it judges before EmoNet's rules.
    """
    expression = kept["expression"].to_numpy().astype(np.int64)
    valence, arousal = (np.asarray(pc.fill_null(kept[name], np.nan), np.float64) for name in ("valence", "arousal"))
    split = pc.index_in(kept["split"], pa.array(SPLITS)).to_numpy()
    counts = np.bincount(expression * len(SPLITS) + split, minlength=len(labels) * len(SPLITS)).reshape(-1, len(SPLITS))
    annotated = np.isfinite(valence) & np.isfinite(arousal)
    means = {}
    for code, name in enumerate(labels):
        rows = annotated & (expression == code)
        if rows.any():
            means[name] = (int(rows.sum()), float(valence[rows].mean()), float(arousal[rows].mean()))
    published = dict(zip(EXPRESSIONS, CLASS_MEANS, strict=True))
    points = [(name, mean[1:], published.get(name)) for name, mean in means.items()]
    return {
        "by_split": [(name, counts[code].tolist()) for code, name in enumerate(labels)],
        "totals": counts.sum(0).tolist(),
        "means": [(name, *mean, published.get(name)) for name, mean in means.items()],
        "circumplex": Markup(means_svg(points)) if points else None,
        "order": permuted(expression, valence, arousal, labels) or (BEFORE_THE_RULES if warned else None),
    }


if __name__ == "__main__":
    launch(run)
