"""What a model loses on whole photographs: `python -m benchmarks.whole_photographs ROOT [--model FILE] [--split test] [--most N]`.

ROOT holds a data set in AffectNet's layout of 2017, as data/raw after `dvc repro` does. Prints the accuracy on crops by the annotated
boxes, and by the largest box of each detector, as it is and mapped by the model file; a photograph without a detected face is taken whole.
Next to it stand the photographs that only the reference, and only this one gets right, and McNemar's exact p. `--reference haar` compares
with Haar's boxes in place of the annotated ones; --map NAME=RIGHT,DOWN,WIDTH,HEIGHT tries another map.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affectnet.errors import UserError, exit_code
from affectnet.expressions import EXPRESSIONS
from affectnet.images.box_map import BoxMap
from affectnet.images.crop import crop_face
from affectnet.images.crop_policy import Box
from affectnet.images.decode import open_photograph
from affectnet.images.detection import DEFAULT, detect, load_detector
from affectnet.images.resize import decode_face
from affectnet.metrics.paired import mcnemar
from affectnet.predict.predictor import Predictor
from affectnet.sources.registry import open_layout
from affectnet.sources.source import Source
from affectnet.tables.source_pointer import Pointer

Boxes = Sequence[Box | None]
EDGES = ("left", "top", "right", "bottom")
ANNOTATED = "annotated"


class Photographs:
    """Photographs of expressions that the model knows."""

    def __init__(self, predictor: Predictor, root: Path, rows: Sequence[dict[str, Any]]) -> None:
        self.predictor, self.codes = predictor, np.array([row["expression"] for row in rows])
        self.contents = [(root / row["image"]).read_bytes() for row in rows]
        self.annotated = [None if row["left"] is None else (row["left"], row["top"], row["right"], row["bottom"]) for row in rows]

    def detected(self, name: str) -> Boxes:
        detector = load_detector(name)
        return [next(iter(detect(open_photograph(content, "photograph"), detector)), None) for content in self.contents]

    def right(self, boxes: Boxes) -> NDArray[np.bool_]:
        """Whether the model predicts each photograph's expression from the crop of this box."""
        policy, side, metadata = self.predictor.policy, self.predictor.metadata.image_px, self.predictor.metadata
        crops = (crop_face(content, box, None, policy, "a").content for content, box in zip(self.contents, boxes, strict=True))
        logits = self.predictor.outputs(np.stack([decode_face(crop, side) for crop in crops])).logits
        predicted: NDArray[np.bool_] = metadata.codes(EXPRESSIONS)[logits.argmax(1)] == self.codes
        return predicted


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_photographs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--split", choices=("train", "test"), default="test", help="of the lists; test is the validation list")
    parser.add_argument("--most", type=int, default=1_000_000, help="photographs, drawn at random")
    parser.add_argument("--detectors", nargs="+", default=[DEFAULT, "haar"])
    parser.add_argument("--reference", default=ANNOTATED, metavar="CROP", help=f"with which the others are compared; default {ANNOTATED!r}")
    parser.add_argument("--map", action="append", default=[], metavar="NAME=RIGHT,DOWN,WIDTH,HEIGHT")
    arguments = parser.parse_args()
    predictor = Predictor.load(arguments.model)
    rows = _rows(arguments.root, arguments.split, predictor.metadata.labels)
    chosen = np.sort(np.random.default_rng(1).permutation(len(rows))[: arguments.most])
    photographs = Photographs(predictor, arguments.root, [rows[number] for number in chosen])
    boxes: dict[str, Boxes] = {ANNOTATED: photographs.annotated}
    for name in arguments.detectors:
        boxes[name] = detected = photographs.detected(name)
        maps = {f"{name}, mapped": predictor.metadata.box_maps.get(name), **_maps(arguments.map, name)}
        boxes |= {label: [box and box_map.mapped(box) for box in detected] for label, box_map in maps.items() if box_map}
    right = {label: photographs.right(each) for label, each in boxes.items()}
    if arguments.reference not in right:
        raise UserError(f"--reference: {arguments.reference!r} is not one of {', '.join(right)}")
    print(f"| crop | detected | accuracy | only {arguments.reference} | only this | p |\n|---|---|---|---|---|---|")
    for label, each in boxes.items():
        print(_line(label, each, right[arguments.reference], right[label]))


def _maps(texts: Sequence[str], name: str) -> dict[str, BoxMap]:
    return {text: BoxMap(*map(float, text.partition("=")[2].split(","))) for text in texts if text.partition("=")[0] == name}


def _rows(root: Path, split: str, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the list without a fault whose photograph can be decoded."""
    layout = open_layout(Pointer("affectnet2017", str(root)))
    if not isinstance(layout, Source):
        raise UserError(f"{root}: not a data set of AffectNet's layout of 2017")
    table = pa.Table.from_batches(layout.rows())
    codes = pa.array([EXPRESSIONS.index(label) for label in labels], pa.int16())
    chosen = pc.and_(pc.and_(pc.equal(table["split"], split), pc.is_null(table["fault"])), pc.is_in(table["expression"], codes))
    rows: list[dict[str, Any]] = table.filter(chosen).select(["image", *EDGES, "expression"]).to_pylist()
    return [row for row in rows if _is_readable(root / row["image"])]


def _is_readable(path: Path) -> bool:
    try:
        open_photograph(path.read_bytes(), str(path)).pixels()
    except (OSError, UserError):
        return False
    return True


def _line(name: str, boxes: Boxes, reference: NDArray[np.bool_], right: NDArray[np.bool_]) -> str:
    only_reference, only_this, p = mcnemar(reference, right)
    share = np.mean([box is not None for box in boxes])
    return f"| {name} | {share:.3f} of {len(right):,} | {right.mean():.4f} | {only_reference} | {only_this} | {p:.4f} |"


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
