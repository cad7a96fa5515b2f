"""The command line: `affectnet predict`, `evaluate`, `compare` and `demo` for photographs and answers, `info` for a model file."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from affectnet.errors import USER_MISTAKE, UserError, exit_code, one_line
from affectnet.predict.defaults import model_file
from affectnet.predict.options import (
    COMPARE,
    EVALUATE,
    EVERY_S,
    FACES,
    INFO,
    MODEL,
    NO_MODEL_ASKED,
    PREDICT,
    TRACKED_EVERY_S,
    Parser,
    add_compare,
    add_evaluate,
    add_info,
    add_predict,
    add_reading,
    detection_options,
    film_options,
    refuse_useless,
    truth_options,
)

if TYPE_CHECKING:
    from affectnet.predict.predictor import Predictor
    from affectnet.reporting.predictions import Predictions

PORT = 7860

CLOSED_PIPE = 141
"""The shell's exit code of a command whose reader has gone."""

SCORING = {"seed": 23, "bootstrap": 2000, "bins": 15}
"""As in params.yaml, section `evaluate`."""

DEMO = "A page on 127.0.0.1 on which the model runs in the browser: photographs, films and the camera. Nothing is sent anywhere."
SITE = "write the page with this model there, for any static host, instead of serving it"
LEVELLED = "its training crops are levelled by 68 landmarks; no detector gives them, so faces are cropped by their boxes and score lower"
HOST = (
    "the browser's address of the page when its port is forwarded, such as localhost:8000; the page still listens on 127.0.0.1; may be "
    "repeated"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 when an argument is wrong or a file unreadable, 130 after Ctrl-C, 141 after a closed pipe."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if "command" not in options:
        parser.print_help()
        return 0
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    code = 0

    def command() -> None:
        nonlocal code
        try:
            code = options.command(options)
            sys.stdout.flush()
        except BrokenPipeError:
            code = CLOSED_PIPE
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered is flushed there at exit

    return exit_code(command) or code


def predict(options: argparse.Namespace) -> int:
    """Results to stdout or a file, all else to stderr."""
    if options.whole:
        refuse_useless(detection_options(options), "with --whole no face is detected; leave out one of the two")
    _silence()
    from affectnet.predict import batch, writers  # noqa: PLC0415 (torch and the rest take seconds, --help should not)
    from affectnet.predict.album import Album  # noqa: PLC0415
    from affectnet.predict.films.timeline import Timeline, check_page  # noqa: PLC0415

    album = Album(options.annotate) if options.annotate else None
    if album is not None:
        album.check(options.paths)
    if options.parquet:
        writers.check_parquet(options.parquet)
    if options.timeline:
        check_page(options.timeline)
    track = options.track or options.smooth is not None or options.timeline is not None
    every = options.every if options.every is not None else TRACKED_EVERY_S if track else EVERY_S
    predictor = _predictor(options)
    labels = predictor.metadata.labels
    timeline = Timeline(options.timeline, labels, predictor.metadata.affect, options.smooth) if options.timeline else None
    bar = bool(options.parquet) or not sys.stdout.isatty()  # on a terminal, the results are the progress
    settings = batch.Options(options.whole, every, bar, track, options.smooth)
    with writers.writing(options.parquet or options.form, sys.stdout, labels, track) as write:
        count = batch.predict_paths(predictor, options.paths, settings, album, timeline, write, _log)
    for line in [str(count), *count.notes()]:
        _log(f"predict: {line}", "")
    if (useless := film_options(options)) and not count.frames:
        _log(f"predict: {', '.join(useless)}: for videos, of which no frame was read", "")
    if timeline is not None:
        timeline.write()
    return USER_MISTAKE if count.unreadable else 0


def evaluate(options: argparse.Namespace) -> int:
    """The scores on stdout, all else on stderr."""
    _silence()
    from affectnet.predict import evaluate_folder, image_folder  # noqa: PLC0415
    from affectnet.predict.answers.tables import TABLE_SUFFIXES  # noqa: PLC0415
    from affectnet.predict.batch import silent  # noqa: PLC0415
    from affectnet.running.progress import progress  # noqa: PLC0415

    if options.truth is not None:
        return _evaluate_answers(options)
    if options.model.suffix.lower() in TABLE_SUFFIXES:
        raise UserError(f"{options.model}: a table of answers, not a model; its labels come by --truth TABLE|FOLDER")
    if options.folder is None:
        raise UserError("nothing to score: give FOLDER with photographs, or for a file of answers --truth")
    refuse_useless(truth_options(options), "a model file names its labels, and FOLDER those of its photographs; give it with --truth only")
    if options.cropped:
        refuse_useless(detection_options(options), "with --cropped no face is detected; leave out one of the two")
    predictor = _predictor(options)
    if not predictor.metadata.labels:
        raise UserError(f"{options.model}: predicts only valence and arousal, and a folder names only expressions; give another model")
    classes = image_folder.with_labels(options.labels, further=predictor.metadata.labels)
    folders = image_folder.class_folders(options.folder, options.split, classes)
    for mapping in image_folder.unused(options.labels, {path.name.lower() for path, _ in folders}):
        _log(f"--labels {mapping}: no folder has such a name")
    total = sum(1 for _ in evaluate_folder.Count().photographs(folders, silent)) if sys.stderr.isatty() else None
    count = evaluate_folder.Count()
    inputs = progress(count.photographs(folders, _log), "evaluate", total)
    predictions = evaluate_folder.predict_folder(predictor, inputs, options.cropped, options.batch or FACES, count, _log)
    _print_scores(options, predictions, evaluate_folder.caveats(predictions, options.averaging))
    _log(f"evaluate: {count}", "")
    return USER_MISTAKE if count.unreadable else 0


def _evaluate_answers(options: argparse.Namespace) -> int:
    from affectnet.predict.answers.score import score_answers  # noqa: PLC0415
    from affectnet.predict.answers.truth import read_truth  # noqa: PLC0415

    asking = {"FOLDER": options.folder, "--cropped": options.cropped, "--as": options.description, "--batch": options.batch}
    asking |= detection_options(options) | {"--averaging": options.averaging != "none"}
    refuse_useless(asking, NO_MODEL_ASKED)
    truth = read_truth(options.truth, options.split, options.truth_labels, options.label_set)
    scored = score_answers(options.model, options.labels, truth)
    _print_scores(options, scored.predictions, scored.caveats())
    return 0


def _print_scores(options: argparse.Namespace, predictions: "Predictions", caveats: Sequence[str]) -> None:
    """The scores to stdout; what limits them to stderr."""
    import json  # noqa: PLC0415

    from affectnet.predict.answers.permutation import permuted  # noqa: PLC0415
    from affectnet.reporting import metric_report  # noqa: PLC0415

    report = metric_report.full_report(metric_report.Scoring(**SCORING, averaging=options.averaging), predictions)
    print(json.dumps(report, indent=2) if options.json else metric_report.tables(report, predictions))
    order = permuted(predictions)
    for line in [*caveats, *([order] if order else [])]:
        _log(f"evaluate: {line}", "")


def compare(options: argparse.Namespace) -> int:
    """The comparison on stdout, all else on stderr."""
    from affectnet.search.compare import run  # noqa: PLC0415

    run(options, lambda line: _log(line, ""))
    return 0


def info(options: argparse.Namespace) -> int:
    """The model file described, on stdout."""
    import json  # noqa: PLC0415

    from affectnet.predict.info import content, text  # noqa: PLC0415

    _refuse_description_of_ours(options)
    path = model_file(options.model)
    print(json.dumps(content(path, options.description), indent=2) if options.json else text(path, options.description))
    return 0


def demo(options: argparse.Namespace) -> int:
    """A page on this machine, until Ctrl-C, or its files in a folder."""
    import json  # noqa: PLC0415

    from affectnet.images.detection import SMALLEST_SHARE  # noqa: PLC0415
    from affectnet.web import server, site  # noqa: PLC0415

    if options.site is not None:
        serving = {"--port": options.port is not None, "--host": options.host, "--open": options.open}
        refuse_useless(serving, "with --site the page is written and not served; leave out one of the two")
    smallest = SMALLEST_SHARE if options.smallest is None else options.smallest
    files = site.site_files(model_file(options.model), site.Reading(options.detector, smallest, options.averaging))
    if json.loads(files[site.SETTINGS])["model"]["crop"]["align"]:
        _log(f"demo: WARNING: {options.model.name}: {LEVELLED}", "")
    if options.site is None:
        server.serve(files, PORT if options.port is None else options.port, options.open, options.host)
    else:
        site.write_site(files, options.site)
        _log(f"demo: {len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB in {options.site}", "")
    return 0


def _silence() -> None:
    """A broken file is one line of this program, without OpenCV's own."""
    for name, value in (("OPENCV_LOG_LEVEL", "SILENT"), ("OPENCV_FFMPEG_LOGLEVEL", "-8")):
        os.environ.setdefault(name, value)


def _predictor(options: argparse.Namespace) -> "Predictor":
    """With the named model and detector, or the defaults; logs which model is used by default."""
    from affectnet.images.detection import SMALLEST_SHARE, load_detector  # noqa: PLC0415
    from affectnet.predict.predictor import Predictor  # noqa: PLC0415

    _refuse_description_of_ours(options)
    model = model_file(options.model)
    smallest = SMALLEST_SHARE if options.smallest is None else options.smallest
    detector = load_detector(options.detector, smallest)
    predictor = Predictor.load(model, detector=detector, averaging=options.averaging, description=options.description)
    if options.model is None:
        _log(f"{options.command.__name__}: the shipped model, {model.stem}; choose another with --model", "")
    if predictor.policy.align and not (getattr(options, "whole", False) or getattr(options, "cropped", False)):
        _log(f"{options.command.__name__}: WARNING: {model.name}: {LEVELLED}", "")
    return predictor


def _refuse_description_of_ours(options: argparse.Namespace) -> None:
    if options.description is not None and (options.model is None or options.model.suffix == ".safetensors"):
        raise UserError("--as: describes an ONNX file of other authors; name that file, for predict with --model")


def _log(line: str, prefix: str = "error: ") -> None:
    """Writes one line to stderr, above a progress bar if there is one."""
    from tqdm import tqdm  # noqa: PLC0415

    tqdm.write(f"{prefix}{one_line(line, 1000)}", file=sys.stderr)


class Version(argparse.Action):
    """Prints the version; importlib.metadata is imported only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415

        print(f"affectnet {version('affectnet-pipeline')}")
        parser.exit()


def _parser() -> Parser:
    parser = Parser(prog="affectnet", description="Facial expressions in your own photographs, by a model file of this pipeline.")
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="predict|evaluate|compare|demo|info")
    add_predict(_command(commands, predict, "the faces of photographs, folders and videos", PREDICT))
    add_evaluate(_command(commands, evaluate, "the scores of a model file on labelled photographs, or of anybody's answers", EVALUATE))
    add_compare(_command(commands, compare, "whether models differ by more than chance", COMPARE))
    _add_demo(_command(commands, demo, "a page for photographs, films and the camera, only on this machine", DEMO))
    add_info(_command(commands, info, "describe a model file", INFO))
    return parser


def _command(
    commands: "argparse._SubParsersAction[Parser]", function: Callable[[argparse.Namespace], int], summary: str, description: str
) -> Parser:
    """The parser of a command, which has the name of its function."""
    parser = commands.add_parser(function.__name__, help=summary, description=description)
    parser.set_defaults(command=function)
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="FILE", help=MODEL)
    add_reading(parser)
    parser.add_argument("--port", type=_port, metavar="N", help=f"of 127.0.0.1; 0: any that is free; default {PORT}")
    parser.add_argument("--host", action="append", type=_host, default=[], metavar="HOST[:PORT]", help=HOST)
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--site", type=Path, metavar="DIR", help=SITE)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _host(text: str) -> str:
    from affectnet.web.server import HOST_PATTERN  # noqa: PLC0415

    if not HOST_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a host such as localhost:8000 or box.example.org")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
