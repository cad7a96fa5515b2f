"""Faces and expressions of photographs by the package fer, in an environment of its own: python fer_runner.py LIST [whole].

LIST names a raw file of RGB pixels, its height and its width a line; the result is one JSON object a line, with the milliseconds of
the photograph. Haar detects, as by default; with `whole` each photograph is one face.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from fer.fer import FER

whole = "whole" in sys.argv[2:]
detector = FER(mtcnn=False, offsets=(0, 0)) if whole else FER(mtcnn=False)  # else it adds 10 px, of a face that is already cropped
for line in Path(sys.argv[1]).read_text().splitlines():
    path, height, width = line.split("\t")
    pixels = np.fromfile(path, np.uint8).reshape(int(height), int(width), 3)
    began = time.perf_counter()
    boxes = [(0, 0, int(width), int(height))] if whole else None
    faces = detector.detect_emotions(np.ascontiguousarray(pixels[:, :, ::-1]), boxes)
    milliseconds = 1000 * (time.perf_counter() - began)
    results = [{"box": [int(edge) for edge in one["box"]], "expression": max(one["emotions"], key=one["emotions"].get)} for one in faces]
    print(json.dumps({"milliseconds": milliseconds, "faces": results}), flush=True)
