"""Fits maps from the boxes of detectors to the regions that the training crops show, on a sample of the training photographs.

Training crops are cut by annotated boxes, those of `affectnet predict` by detected ones. Of data whose images are crops, such as FER2013's,
the region is the whole image. The maps stand in the model file.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from pydantic import Field

from affectnet.errors import UserError
from affectnet.files.atomic import write_json
from affectnet.images.box_map import BoxMap, overlap
from affectnet.images.crop_policy import Box
from affectnet.images.decode import open_photograph
from affectnet.images.detection import Detector, detect, load_detector
from affectnet.params import Runtime, Section
from affectnet.running.parallel import in_order
from affectnet.running.progress import progress
from affectnet.running.run_stage import launch
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.inventory import INVENTORY, checked_against_inventory, read_unchanged
from affectnet.tables.source_pointer import Pointer

EDGES = ("left", "top", "right", "bottom")

SAME_FACE = 0.3
"""Least overlap of a detected and an annotated box of one face."""

FEWEST = 30
"""Pairs of boxes; from fewer no map is fitted."""

Pair = tuple[Box, Box]
"""The detected box of a face, and the region that its training crop shows."""


class DetectParams(Section):
    """Section `detect`."""

    seed: int = Field(ge=0)
    detectors: list[str]
    photographs: int = Field(ge=FEWEST, le=100_000)


def run(params: DetectParams, runtime: Runtime, raw: Path, inventory: Path, annotations: Path, *, box_maps: Path) -> str:
    """Writes the map of each detector that has enough pairs; returns the summary line."""
    root = Path(Pointer.read(raw).root)
    rows = _sample(inventory, annotations, params)
    maps, lines = dict[str, BoxMap](), list[str]()
    for detector in _detectors(params.detectors) if len(rows) >= FEWEST else []:
        with checked_against_inventory():
            matches = in_order(partial(_matched, root, detector), rows, runtime.workers, "thread")
            pairs = [pair for pair in progress(matches, f"detect {detector.name}", len(rows), "photograph") if pair is not None]
        if len(pairs) >= FEWEST:
            detected, regions = (np.array(boxes, np.float64) for boxes in zip(*pairs, strict=True))
            maps[detector.name] = BoxMap.fitted(detected, regions)
        lines.append(_line(detector.name, maps.get(detector.name), pairs, len(rows)))
    write_json(box_maps, {name: asdict(box_map) for name, box_map in maps.items()})
    return f"detect: {'; '.join(lines) or f'no map from {len(rows):,} training photographs'}"


def _detectors(paths: Sequence[str]) -> list[Detector]:
    """The detectors. Errors: UserError when two have the same name, by which their maps are stored."""
    detectors = dict[str, tuple[str, Detector]]()
    for path in paths:
        detector = load_detector(path)
        if detector.name in detectors:
            other, _ = detectors[detector.name]
            raise UserError(f"detect.detectors: several of the name {detector.name}: {other}, {path}; keep one, or rename a file")
        detectors[detector.name] = path, detector
    return [detector for _, detector in detectors.values()]


def _sample(inventory: Path, annotations: Path, params: DetectParams) -> list[dict[str, Any]]:
    """Rows of the training split whose box is part of the photograph, or of all photographs if these are few; with hash and dimensions.

    An annotator who gave the whole photograph of a few drew no box there.
    """
    rows = ANNOTATIONS.read(annotations, ["image", "split", *EDGES])
    files = INVENTORY.read(inventory, ["path", "sha256", "width", "height"])
    rows = rows.filter(pc.equal(rows["split"], "train"))
    files = files.take(pc.index_in(rows["image"], files["path"]))
    for name in ("sha256", "width", "height"):
        rows = rows.append_column(name, files[name])
    part = rows.filter(
        pc.or_(
            pc.or_(pc.greater(rows["left"], 0), pc.greater(rows["top"], 0)),
            pc.or_(pc.less(rows["right"], rows["width"]), pc.less(rows["bottom"], rows["height"])),
        )
    )
    rows = part if len(part) >= FEWEST else rows
    chosen = np.random.default_rng(params.seed).permutation(len(rows))[: params.photographs]
    sample: list[dict[str, Any]] = rows.take(np.sort(chosen)).to_pylist()
    return sample


def _matched(root: Path, detector: Detector, row: dict[str, Any]) -> Pair | None:
    """The detected box that overlaps the crop's region most, and the region; None when none is of the same face."""
    photograph = open_photograph(read_unchanged(root / row["image"], row["sha256"]), row["image"])
    width, height = photograph.dimensions
    whole: Box = (0.0, 0.0, float(width), float(height))
    region = whole if row["left"] is None else (row["left"], row["top"], row["right"], row["bottom"])
    # A face's box may be larger than a crop, and is not clipped to it.
    boxes = detector(photograph.pixels()) if region == whole else detect(photograph, detector)
    best = max(boxes, key=partial(overlap, region), default=None)
    return None if best is None or (region != whole and overlap(region, best) < SAME_FACE) else (best, region)


def _line(name: str, box_map: BoxMap | None, pairs: Sequence[Pair], count: int) -> str:
    text = f"{name} detects {len(pairs):,} of {count:,} training faces"
    if box_map is None:
        return f"{text}, too few for a map"
    before, after = (np.mean([overlap(to(box), region) for box, region in pairs]) for to in (lambda box: box, box_map.mapped))
    return f"{text}; mapped by {box_map} the overlap with their crops is {after:.2f}, before {before:.2f}"


if __name__ == "__main__":
    launch(run)
