"""The options of the command line that describe what is predicted, from which photographs and how."""

import argparse
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from affectnet.errors import USER_MISTAKE, UserError, one_line
from affectnet.predict.defaults import DEFAULT

EVERY_S, TRACKED_EVERY_S = 1.0, 0.2
"""Seconds between frames of a video, and where its faces are followed."""

AVERAGING = ("none", "flip", "ten_crop")
"""The values of affectnet.models.outputs.Averaging, which imports numpy."""

FACES, MOST_FACES = 64, 65_536
"""Per batch of `evaluate`, if nothing else is asked for, and at most."""

MOST_DRAWS = 1_000_000

PREDICT = "The faces of photographs, folders and videos: one line per face on stdout. Exit code 2 when a file could not be read."
EVALUATE = (
    "The scores of a model file on photographs in one folder per expression, such as FOLDER/happy/1.jpg: those of metrics/evaluate.json. "
    "The largest face of each photograph is scored, and a photograph without a detected face as a whole. Exit code 2 when a file could not "
    "be read; it is left out, and counted. With --truth MODEL is a file of answers that any program gave."
)
COMPARE = (
    "Whether models differ by more than chance on the same test faces: each other model compared with the first. A model is a model file "
    "(ONNX or safetensors), default for the shipped one, or a Git revision or DVC experiment whose model is in the cache, "
    "asked about our test split; with --truth a file of answers."
)
NO_MODEL_ASKED = "with --truth no model is asked, its answers are read; leave out one of the two"
TRUTH = "labels for a file of answers: a table (CSV, JSON lines, Parquet), or a folder with one folder per expression"
LABELS = "what another name or number means; null: left out; affectnet, fer2013 or raf_db: all numbers of the data set; may be repeated"
LABEL_SET = "all labels of --truth and its answers where they are not AffectNet's, such as engaged,bored,confused"
DESCRIPTION = "what an ONNX file of other authors expects and returns: the name of a shipped description, or a YAML file (docs/answers.md)"
INFO = "Describes a model file: its labels, input, training and scores on validation; with --as what the description says."
MODEL = f"model.onnx or model.safetensors; default {DEFAULT}, the shipped model"
ANNOTATE = (
    "write copies there with the faces framed and labelled; of a video an mp4 file of its rate, of at most 60 frames per second, "
    "without sound"
)
EVERY = f"time between frames of a video; 0: all; default {EVERY_S:g}, with --track {TRACKED_EVERY_S:g}"
SMOOTH = "average the predictions for a face of a video over time, with this time constant; implies --track"
TIMELINE = "write a page that shows the expressions of each face of a video over time; implies --track"
SMALLEST = (
    "smallest side of a face that is detected, as a share of the photograph's shorter side, and at least 12 px; default 0.05; a smaller "
    "value takes longer and gives more false detections"
)
DETECTOR = (
    "libfacedetection, the default; haar, the cascade of OpenCV before version 5; yunet, of OpenCV's model zoo, downloaded once; or "
    "a model file of YuNet"
)


def refuse_useless(options: Mapping[str, object], reason: str) -> None:
    """Errors: UserError when an option, by the name that the user wrote, has a value: in this mode it would do nothing."""
    if useless := [name for name, value in options.items() if value]:
        raise UserError(f"{', '.join(useless)}: {reason}")


def truth_options(options: argparse.Namespace) -> dict[str, object]:
    """The options that say what the labels of --truth are."""
    return {"--label-set": options.label_set, "--truth-labels": options.truth_labels}


def detection_options(options: argparse.Namespace) -> dict[str, object]:
    """The options that say how faces are detected."""
    return {"--detector": options.detector, "--smallest": options.smallest}


def film_options(options: argparse.Namespace) -> list[str]:
    """The options in use that change how videos are predicted, by the names that the user wrote."""
    asked = {"--track": options.track, "--smooth": options.smooth is not None, "--every": options.every is not None}
    return [name for name, is_asked in asked.items() if is_asked]


class Parser(argparse.ArgumentParser):
    """Reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_MISTAKE, f"error: {one_line(message)}; see `{self.prog} --help`\n")


def add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="photograph, video, or folder of them, searched in depth")
    parser.add_argument("--model", type=Path, metavar="FILE", help=MODEL)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_const", dest="form", const="json", help="one JSON object per photograph")
    form.add_argument("--csv", action="store_const", dest="form", const="csv", help="one row per face, and per photograph without one")
    form.add_argument("--parquet", type=Path, metavar="FILE", help="the same rows, into this file")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help=ANNOTATE)
    add_reading(parser)
    parser.add_argument("--as", dest="description", metavar="NAME|FILE", help=DESCRIPTION)
    parser.add_argument("--whole", action="store_true", help="each photograph is one face, already cropped")
    parser.add_argument("--every", type=_seconds, metavar="SECONDS", help=EVERY)
    parser.add_argument("--track", action="store_true", help="give each face of a video a number that it keeps")
    parser.add_argument("--smooth", type=_seconds, metavar="SECONDS", help=SMOOTH)
    parser.add_argument("--timeline", type=Path, metavar="FILE.html", help=TIMELINE)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help=MODEL)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="holds a folder per expression, such as happy/ and sad/")
    parser.add_argument("--json", action="store_true", help="all scores, with the keys of metrics/evaluate.json")
    parser.add_argument("--cropped", action="store_true", help="each photograph is one face, already cropped")
    add_truth(parser)
    add_reading(parser, "none")  # as params.yaml has it: the scores are those of the stage
    parser.add_argument("--as", dest="description", metavar="NAME|FILE", help=DESCRIPTION)
    parser.add_argument(
        "--batch",
        type=_whole_number("number of faces", 1, MOST_FACES),
        metavar="N",
        help=f"faces per batch of the network; default {FACES}",
    )


def add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="model file, default, Git revision or DVC experiment; with --truth answers"
    )
    add_truth(parser)
    parser.add_argument("--faces", type=Path, help="shards whose test split is predicted; default data/faces")
    parser.add_argument(
        "--draws", type=_whole_number("number of resamples", 10, MOST_DRAWS), default=10_000, help="resamples of the faces; default 10000"
    )
    parser.add_argument("--seed", type=_whole_number("whole number", 0, 2**32 - 1), default=23, help="of the resamples; default 23")
    parser.add_argument("--averaging", choices=AVERAGING, default="none", help="views per face of the test split; default none")
    parser.add_argument("--json", action="store_true", help="the same as JSON; default Markdown")


def add_truth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--truth", type=Path, metavar="TABLE|FOLDER", help=TRUTH)
    parser.add_argument("--split", metavar="NAME", help="the folders of FOLDER/NAME, or the rows of a table with this split")
    parser.add_argument("--labels", action="append", default=[], metavar="NAME=EXPRESSION", help=f"of a folder or an answer: {LABELS}")
    parser.add_argument("--label-set", metavar="LABEL,LABEL,…", help=LABEL_SET)
    parser.add_argument("--truth-labels", action="append", default=[], metavar="NAME=EXPRESSION", help=f"of --truth: {LABELS}")


def add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help=MODEL)
    parser.add_argument("--as", dest="description", metavar="NAME|FILE", help=DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def add_reading(parser: argparse.ArgumentParser, averaging: str = "flip") -> None:
    parser.add_argument("--detector", metavar="NAME|FILE", help=DETECTOR)
    parser.add_argument("--averaging", choices=AVERAGING, default=averaging, help=f"views per face that are averaged; default {averaging}")
    parser.add_argument("--smallest", type=_share, metavar="SHARE", help=SMALLEST)


def _whole_number(what: str, least: int, most: int) -> Callable[[str], int]:
    """For `type=`: a whole number within these bounds."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {what} from {least} to {most:,}")
        return int(text)

    return read


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and up to 1")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value
