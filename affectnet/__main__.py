"""The command line: `affectnet predict`, `evaluate` and `demo` for your own photographs, `info` for a model file."""

import argparse
import io
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from affectnet.errors import USER_MISTAKE, UserError, exit_code, one_line
from affectnet.predict.defaults import PRETRAINED, TRAINED, default_model, params_file

if TYPE_CHECKING:
    from affectnet.models.forward import Averaging
    from affectnet.predict.predictor import Predictor

CLOSED_PIPE = 141
"""What a shell gives for a command that ends because nobody reads it any more."""

MOST_FACES = 65_536
"""Of a batch."""

AVERAGING = ("none", "flip", "ten_crop")
"""As affectnet.models.forward has it, which takes seconds to import."""

PREDICT = "The faces of photographs, folders and videos: one line a face on stdout. Exit code 2 when a file could not be read."
EVALUATE = (
    "The scores of a model file on photographs in one folder an expression, FOLDER/happy/1.jpg: what metrics/evaluate.json holds for the "
    "test split. The largest face found in each is scored, and a photograph in which none is found as a whole. Exit code 2 when a file "
    "could not be read; it is left out, and counted."
)
DEMO = "A page on 127.0.0.1 that shows what the model says of a photograph. Nothing is kept. Needs gradio."
DEFAULT = f"by default {PRETRAINED} of the repository where it has one, else {TRAINED}"
BEHIND = (
    "the browser's address of the page when its port is forwarded, as localhost:8000; the page listens on 127.0.0.1 all the same, and "
    "answers no other; may be repeated"
)
SMALLEST = (
    "faces of a smaller side are not looked for, as a share of the photograph's shorter side; by default 0.05; none has less than 24 px; "
    "the smaller, the longer it takes, and the more is found that is no face"
)
DETECTOR = "find faces with YuNet; by default with OpenCV's Haar cascade"


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
    _silence()
    from affectnet.predict import batch, writers  # noqa: PLC0415 (torch and the rest take seconds, --help should not)
    from affectnet.predict.annotate import Album  # noqa: PLC0415

    album = Album(given.annotate) if given.annotate else None
    if album is not None:
        album.check(given.paths)
    if given.parquet:
        writers.check_parquet(given.parquet)
    predictor = _predictor(given)
    bar = bool(given.parquet) or not sys.stdout.isatty()  # on one terminal, the results are the progress
    options = batch.Options(given.whole, given.every, bar)
    with writers.writing(given.parquet or given.form, sys.stdout, predictor.metadata.labels) as write:
        count = batch.predict_paths(predictor, given.paths, options, album, write, _tell)
    _tell(f"predict: {count}", "")
    return USER_MISTAKE if count.unreadable else 0


def evaluate(given: argparse.Namespace) -> int:
    """The scores on stdout, all else on stderr."""
    _silence()
    import json  # noqa: PLC0415

    from affectnet.params import parse, read_document  # noqa: PLC0415
    from affectnet.predict import evaluate_folder, image_folder  # noqa: PLC0415
    from affectnet.predict.batch import silent  # noqa: PLC0415
    from affectnet.reporting import metric_report  # noqa: PLC0415
    from affectnet.running.progress import progress  # noqa: PLC0415

    document = read_document(params_file())
    params = parse(document, "evaluate", metric_report.Scoring, params_file())
    params = params.model_copy(update={"averaging": given.averaging or params.averaging})
    classes = image_folder.with_labels(image_folder.folder_classes(document, params_file()), given.labels)
    folders = image_folder.class_folders(given.folder, given.split, classes)
    predictor = _predictor(given, params.averaging)
    if not predictor.metadata.labels:
        raise UserError(f"{given.model}: gives valence and arousal alone, and a folder names expressions alone; give another model")
    total = sum(1 for _ in evaluate_folder.Count().photographs(folders, silent)) if sys.stderr.isatty() else None
    count = evaluate_folder.Count()
    inputs = progress(count.photographs(folders, _tell), "evaluate", total)
    found = evaluate_folder.predict_folder(given.model, predictor, inputs, given.cropped, given.batch, count, _tell)
    report = metric_report.full_report(params, found)
    print(json.dumps(report, indent=2) if given.json else metric_report.tables(report, found))
    for line in evaluate_folder.caveats(found, params.averaging):
        _tell(f"evaluate: {line}", "")
    _tell(f"evaluate: {count}", "")
    return USER_MISTAKE if count.unreadable else 0


def info(given: argparse.Namespace) -> int:
    """The model file described, on stdout."""
    import json  # noqa: PLC0415

    from affectnet.predict.info import content, text  # noqa: PLC0415

    path = given.model or default_model()
    print(json.dumps(content(path), indent=2) if given.json else text(path))
    return 0


def demo(given: argparse.Namespace) -> int:
    """A page on this machine, until Ctrl-C."""
    _silence()
    from affectnet.web import server  # noqa: PLC0415

    server.serve(_predictor(given), given.port, given.open, given.host)
    return 0


def _silence() -> None:
    """A broken file is one line of ours, none of OpenCV's."""
    for name, value in (("OPENCV_LOG_LEVEL", "SILENT"), ("OPENCV_FFMPEG_LOGLEVEL", "-8")):
        os.environ.setdefault(name, value)


def _predictor(given: argparse.Namespace, averaging: "Averaging" = "none") -> "Predictor":
    """With the model and the detector that were named, or else those by default; which model answers then is told."""
    from affectnet.images.detection import SMALLEST_SHARE, haar, yunet  # noqa: PLC0415
    from affectnet.predict.predictor import Predictor  # noqa: PLC0415

    model = given.model or default_model()
    smallest = SMALLEST_SHARE if given.smallest is None else given.smallest
    detector = yunet(given.detector, smallest) if given.detector else haar(smallest)
    predictor = Predictor.load(model, detector=detector, averaging=averaging)
    if given.model is None:
        shown = min(str(model), os.path.relpath(model), key=len)
        _tell(f"{given.command.__name__}: {shown} answers; --model names another", "")
    return predictor


def _tell(line: str, kind: str = "error: ") -> None:
    """One line on stderr, above a progress bar if there is one."""
    from tqdm import tqdm  # noqa: PLC0415

    tqdm.write(f"{kind}{one_line(line, 1000)}", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog="affectnet", description="Facial expressions in your own photographs, by a model file of this pipeline.")
    commands = parser.add_subparsers(required=True, metavar="predict|evaluate|demo|info")

    sub = commands.add_parser("predict", help="the faces of photographs, folders and videos", description=PREDICT)
    sub.set_defaults(command=predict)
    sub.add_argument("paths", nargs="+", metavar="PATH", help="photograph, video, or folder of them, searched in depth")
    sub.add_argument("--model", type=Path, metavar="FILE", help=f"model file; {DEFAULT}")
    kind = sub.add_mutually_exclusive_group()
    kind.add_argument("--json", action="store_const", dest="form", const="json", help="one JSON object a photograph")
    kind.add_argument("--csv", action="store_const", dest="form", const="csv", help="one row a face")
    kind.add_argument("--parquet", type=Path, metavar="FILE", help="one row a face, into this file")
    sub.add_argument("--annotate", type=Path, metavar="DIR", help="write copies with the faces framed and named there")
    _add_detector(sub)
    sub.add_argument("--whole", action="store_true", help="each photograph is one face, already cut")
    sub.add_argument("--every", type=_seconds, default=1.0, metavar="SECONDS", help="one frame of a video in so many; 0: all; by default 1")

    sub = commands.add_parser("evaluate", help="the scores of a model file on a folder of labelled photographs", description=EVALUATE)
    sub.set_defaults(command=evaluate)
    sub.add_argument("model", type=Path, metavar="MODEL", help="model file")
    sub.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a folder an expression below it, named as datasets.folder.classes has them"
    )
    sub.add_argument("--json", action="store_true", help="all of it, with the keys of metrics/evaluate.json")
    sub.add_argument("--cropped", action="store_true", help="each photograph is one face, already cut")
    sub.add_argument("--split", metavar="NAME", help="score the folders of FOLDER/NAME")
    sub.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="NAME=EXPRESSION",
        help="what another folder means; null: not used; may be repeated",
    )
    sub.add_argument("--averaging", choices=AVERAGING, help="views of each face over which outputs are averaged; as params.yaml by default")
    _add_detector(sub)
    sub.add_argument("--batch", type=_count, default=64, metavar="N", help="faces that the network sees together; by default 64")

    sub = commands.add_parser("demo", help="a page for photographs, on this machine alone", description=DEMO)
    sub.set_defaults(command=demo)
    sub.add_argument("--model", type=Path, metavar="FILE", help=f"model file; {DEFAULT}")
    _add_detector(sub)
    _add_address(sub)
    sub.add_argument("--open", action="store_true", help="open the page in the browser")

    sub = commands.add_parser("info", help="what a model file says of itself", description="What a model file says of itself.")
    sub.set_defaults(command=info)
    sub.add_argument("model", nargs="?", type=Path, metavar="MODEL", help=DEFAULT)
    sub.add_argument("--json", action="store_true", help="all of it, as JSON")
    return parser


def _add_detector(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--detector", type=Path, metavar="YUNET.onnx", help=DETECTOR)
    sub.add_argument("--smallest", type=_share, metavar="SHARE", help=SMALLEST)


def _add_address(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--port", type=_port, default=7860, metavar="N", help="of 127.0.0.1; 0: any that is free; by default 7860")
    sub.add_argument("--host", action="append", type=_host, default=[], metavar="HOST[:PORT]", help=BEHIND)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port, 0 to 65535")
    return int(text)


def _host(text: str) -> str:
    from affectnet.web.request_filter import AS_A_HOST  # noqa: PLC0415

    if not AS_A_HOST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no host, as localhost:8000 or box.example.org")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MOST_FACES):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of faces, 1 to {MOST_FACES:,}")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share, more than 0 and at most 1")
    return value


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
