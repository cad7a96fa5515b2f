"""Faces and expressions of photographs by the shipped model: python -m benchmarks.peers.ours_runner LIST.

LIST names a photograph a line; the result is one JSON object a line, with the milliseconds of the photograph, reading and decoding
included.
"""

import json
import sys
import time
from pathlib import Path

from affectnet import Predictor


def main() -> None:
    predictor = Predictor.load()
    for path in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        began = time.perf_counter()
        faces = predictor.predict(path.split("\t")[0])
        milliseconds = 1000 * (time.perf_counter() - began)
        boxes = [
            {"box": (left, top, right - left, bottom - top), "expression": face.expression}
            for face, (left, top, right, bottom) in ((face, face.box) for face in faces)
        ]
        print(json.dumps({"milliseconds": milliseconds, "faces": boxes}), flush=True)


if __name__ == "__main__":
    main()
