"""Labelled photographs in one folder per expression, and the expressions of the folders' names."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from affectnet.errors import UserError, brief, first_few
from affectnet.expressions import CODES, EXPRESSIONS, NOT_AN_EXPRESSION
from affectnet.files.file_walk import HIDDEN
from affectnet.predict.paths import Log, files

Classes = Mapping[str, str | None]
"""Folder name in lower case → expression, or None for a folder that is ignored."""

ClassFolders = Sequence[tuple[Path, str | None]]
"""Folders, and the expression of the photographs in each, or None when they are ignored."""

IGNORED = "null"

NAMES: Final[Classes] = {
    "neutral": "Neutral",
    "happy": "Happy",
    "happiness": "Happy",
    "sad": "Sad",
    "sadness": "Sad",
    "surprise": "Surprise",
    "surprised": "Surprise",
    "fear": "Fear",
    "fearful": "Fear",
    "disgust": "Disgust",
    "disgusted": "Disgust",
    "anger": "Anger",
    "angry": "Anger",
    "contempt": "Contempt",
}
"""Names of class folders, as data sets write them. Numbers mean different expressions in different copies, so none is here."""

NUMBERS: Final[Mapping[str, Classes]] = {
    "affectnet": {**{str(code): name for name, code in CODES.items()}, **dict.fromkeys(map(str, NOT_AN_EXPRESSION))},
    "fer2013": dict(zip("0123456", ("Anger", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"), strict=True)),
    "raf_db": dict(zip("1234567", ("Surprise", "Fear", "Disgust", "Happy", "Sad", "Anger", "Neutral"), strict=True)),
}
"""What the numbers of these data sets mean, by the name that --labels takes for all of them."""


@dataclass(frozen=True)
class Labelled:
    """A photograph and its label."""

    path: str
    label: str


def with_labels(
    labels: Sequence[str], classes: Classes = NAMES, option: str = "--labels", further: Sequence[str] = ()
) -> dict[str, str | None]:
    """The classes, extended and overridden by `name=Expression`, `name=null`, and a key of NUMBERS.

    option: in messages; further: a model's labels, which stand for themselves and are as good as expressions.
    Errors: UserError for anything else, and for two that contradict each other.
    """
    possible = vocabulary(further)
    expressions = {name.lower(): name for name in possible}
    sets = sorted({text.lower() for text in labels} & NUMBERS.keys())
    if len(sets) > 1:
        raise UserError(f"{option}: {' and '.join(sets)}, whose numbers contradict each other; give one of them")
    stated: dict[str, str] = {}
    extended = _spelled(classes, expressions)
    extended |= {name.lower(): name for name in further}
    for name in sets:  # first: a name overrides a set, wherever it stands
        extended |= _spelled(NUMBERS[name], expressions)
    for text in labels:
        if text.lower() in NUMBERS:
            continue
        name, equals, expression = text.rpartition("=")
        if not equals or not name or expression.lower() not in {*expressions, IGNORED}:
            raise UserError(
                f"{option}: {brief(text)} is not name=Expression; give one of {', '.join(possible)}, or {IGNORED}; or, for all numbers "
                f"of a data set, {', '.join(NUMBERS)}"
            )
        if stated.setdefault(name.lower(), expression.lower()) != expression.lower():
            raise UserError(f"{option}: {brief(name)} is both {stated[name.lower()]} and {expression.lower()}; give one of them")
        extended[name.lower()] = expressions.get(expression.lower())
    return extended


def _spelled(classes: Classes, expressions: Mapping[str, str]) -> dict[str, str | None]:
    """The classes with names in lower case, and expressions as the vocabulary spells them."""
    return {name.lower(): expression and expressions.get(expression.lower(), expression) for name, expression in classes.items()}


def unused(mappings: Sequence[str], names: Collection[str]) -> list[str]:
    """The mappings `name=…` and keys of NUMBERS of which no name, in lower case, is among these."""
    return [text for text in mappings if not {*NUMBERS.get(text.lower(), [text.rpartition("=")[0].lower()])} & {*names}]


def vocabulary(labels: Sequence[str]) -> tuple[str, ...]:
    """AffectNet's expressions, as the labels spell them, then the other labels: the labels of the codes in a folder's predictions."""
    spelled = {label.lower(): label for label in labels}
    known = {expression.lower() for expression in EXPRESSIONS}
    return (*(spelled.get(one.lower(), one) for one in EXPRESSIONS), *(label for label in labels if label.lower() not in known))


def class_folders(folder: Path, split: str | None, classes: Classes) -> ClassFolders:
    """The folders in the folder, or in its folder `split` (in any case), sorted, each with its expression.

    Errors: UserError when there is none, or one that the classes do not name.
    """
    below = _folders(folder)
    if split is not None:
        matches = [path for path in below if path.name.lower() == split.lower()]
        if len(matches) != 1:
            raise UserError(f"{folder}: {len(matches)} folders named {brief(split)} in it, expected 1; its folders: {_named(below)}")
        folder = matches[0]
        below = _folders(folder)
    unknown = [path for path in below if path.name.lower() not in classes]
    if unknown:
        expected = ", ".join(classes)
        raise UserError(
            f"{folder}: folders that name no expression, {_named(unknown)}; expected are {expected}; "
            "map another with --labels name=Expression or name=null, or choose a split with --split"
        )
    if not any(classes[path.name.lower()] for path in below):
        raise UserError(f"{folder}: no folder of an expression in it; give a folder with one folder per class, such as happy/ and sad/")
    return [(path, classes[path.name.lower()]) for path in below]


def photographs(folders: ClassFolders, log: Log, other: Log) -> Iterator[Labelled]:
    """Each photograph in and below the folders, sorted; other: gets all other files, those next to the folders and in ignored ones."""
    for path in sorted(folders[0][0].parent.iterdir()):
        if not path.is_dir():
            other(str(path))
    for folder, expression in folders:
        for file in files([str(folder)], None, log if expression else _silent, other):
            if file.video or expression is None:
                other(file.path)
            else:
                yield Labelled(file.path, expression)


def _silent(_: str) -> None:
    """Logs nothing: an ignored folder may be unreadable."""


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not HIDDEN.search(path.name))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give a folder with one folder per class") from None


def _named(folders: Sequence[Path]) -> str:
    return first_few([path.name for path in folders], 8) if folders else "none"
