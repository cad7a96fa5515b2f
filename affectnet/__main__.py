"""The command line: `affectnet predict` for your own photographs, `affectnet demo` for a page, `affectnet info` for a model file."""

import argparse
import io
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from affectnet.errors import USER_MISTAKE, exit_code, one_line

CLOSED_PIPE = 141
"""What a shell gives for a command that ends because nobody reads it any more."""

MODEL = "models/model.safetensors"
PREDICT = "The faces of photographs, folders and videos: one line a face on stdout. Exit code 2 when a file could not be read."

DEMO = "A page on 127.0.0.1 that shows what the model says of a photograph. Nothing is kept. Needs gradio."


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_MISTAKE, f"error: {one_line(message)}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 when anything could not be read or was asked wrongly, 130 after Ctrl-C, 141 after a closed pipe."""
    given = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    found = 0

    def command() -> None:
        nonlocal found
        try:
            found = given.command(given)
            sys.stdout.flush()
        except BrokenPipeError:
            found = CLOSED_PIPE
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed there at the end

    return exit_code(command) or found


def predict(given: argparse.Namespace) -> int:
    """Results to stdout or a file, all else to stderr."""
    for name, value in (("OPENCV_LOG_LEVEL", "SILENT"), ("OPENCV_FFMPEG_LOGLEVEL", "-8")):
        os.environ.setdefault(name, value)  # a broken file is one line of ours
    from affectnet import outputs, prediction  # noqa: PLC0415 (torch and the rest take seconds, --help should not)
    from affectnet.detection import haar, yunet  # noqa: PLC0415
    from affectnet.drawing import Album  # noqa: PLC0415
    from affectnet.predictor import Predictor  # noqa: PLC0415

    album = Album(given.annotate) if given.annotate else None
    if album is not None:
        album.check(given.paths)
    if given.parquet:
        outputs.check_parquet(given.parquet)
    predictor = Predictor.load(given.model, detector=yunet(given.detector) if given.detector else haar())
    bar = bool(given.parquet) or not sys.stdout.isatty()  # on one terminal, the results are the progress
    options = prediction.Options(given.whole, given.every, bar)
    with outputs.writing(given.parquet or given.form, sys.stdout, predictor.card.labels) as write:
        count = prediction.predict_paths(predictor, given.paths, options, album, write, _tell)
    _tell(f"predict: {count}", "")
    return USER_MISTAKE if count.unreadable else 0


def info(given: argparse.Namespace) -> int:
    """The model file described, on stdout."""
    import json  # noqa: PLC0415

    from affectnet.description import content, text  # noqa: PLC0415

    found = content(given.model)
    print(json.dumps(found, indent=2) if given.json else text(found))
    return 0


def demo(given: argparse.Namespace) -> int:
    """A page on this machine, until Ctrl-C."""
    from affectnet import webdemo  # noqa: PLC0415
    from affectnet.detection import haar, yunet  # noqa: PLC0415
    from affectnet.predictor import Predictor  # noqa: PLC0415

    detector = yunet(given.detector) if given.detector else haar()
    webdemo.serve(Predictor.load(given.model, detector=detector), given.port, given.open)
    return 0


def _tell(line: str, kind: str = "error: ") -> None:
    """One line on stderr, above a progress bar if there is one."""
    from tqdm import tqdm  # noqa: PLC0415

    tqdm.write(f"{kind}{one_line(line, 1000)}", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog="affectnet", description="Facial expressions in your own photographs, by a model file of this pipeline.")
    commands = parser.add_subparsers(required=True, metavar="predict|demo|info")

    sub = commands.add_parser("predict", help="the faces of photographs, folders and videos", description=PREDICT)
    sub.set_defaults(command=predict)
    sub.add_argument("paths", nargs="+", metavar="PATH", help="photograph, video, or folder of them, searched in depth")
    sub.add_argument("--model", type=Path, default=Path(MODEL), metavar="FILE", help=f"model file; by default {MODEL}")
    kind = sub.add_mutually_exclusive_group()
    kind.add_argument("--json", action="store_const", dest="form", const="json", help="one JSON object a photograph")
    kind.add_argument("--csv", action="store_const", dest="form", const="csv", help="one row a face")
    kind.add_argument("--parquet", type=Path, metavar="FILE", help="one row a face, into this file")
    sub.add_argument("--annotate", type=Path, metavar="DIR", help="write copies with the faces framed and named there")
    sub.add_argument("--detector", type=Path, metavar="YUNET.onnx", help="find faces with YuNet; by default with OpenCV's Haar cascade")
    sub.add_argument("--whole", action="store_true", help="each photograph is one face, already cut")
    sub.add_argument("--every", type=_seconds, default=1.0, metavar="SECONDS", help="one frame of a video in so many; 0: all; by default 1")

    sub = commands.add_parser("demo", help="a page for photographs, on this machine alone", description=DEMO)
    sub.set_defaults(command=demo)
    sub.add_argument("--model", type=Path, default=Path(MODEL), metavar="FILE", help=f"model file; by default {MODEL}")
    sub.add_argument("--detector", type=Path, metavar="YUNET.onnx", help="find faces with YuNet; by default with OpenCV's Haar cascade")
    sub.add_argument("--port", type=_port, default=7860, metavar="N", help="of 127.0.0.1; 0: any that is free; by default 7860")
    sub.add_argument("--open", action="store_true", help="open the page in the browser")

    sub = commands.add_parser("info", help="what a model file says of itself", description="What a model file says of itself.")
    sub.set_defaults(command=info)
    sub.add_argument("model", type=Path, metavar="MODEL")
    sub.add_argument("--json", action="store_true", help="all of it, as JSON")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port, 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, 0 or more")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
