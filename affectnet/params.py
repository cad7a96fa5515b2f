"""params.yaml, read and checked: sections, and the catalogue entries that the top-level switches select."""

import copy
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from affectnet.errors import UserError, brief

PARAMS_FILE = Path("params.yaml")
LARGEST_DOCUMENT = 1 << 20
"""Bytes of a document at most."""

MOST_ALIASES = 32
"""Aliases in a document at most: with more, aliases of aliases can expand to more values than fit into memory."""

AnySection = TypeVar("AnySection", bound="Section")


def _number_as_text(name: object) -> object:
    return str(name) if type(name) is int else name


FolderName = Annotated[str, BeforeValidator(_number_as_text)]
"""A folder's name as the key of a map: YAML reads the key of `0: Neutral` as a number."""


class Section(BaseModel):
    """A part of params.yaml: strict types, ranges, no unknown keys, and no defaults, so that a value has one home."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Runtime(Section):
    """How a stage runs, never what it computes: no stage tracks it, so that another machine invalidates nothing."""

    device: Literal["auto", "cpu", "cuda"]
    workers: int = Field(ge=0, le=1024)
    engine: Literal["local", "dask"]
    scheduler: str | None
    processes: int = Field(ge=1, le=1024)


def read_document(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The YAML document as plain Python values, read as DVC reads it (YAML 1.2: `1e-3` is a number).

    Errors: UserError when the file is missing, too large, not UTF-8, not YAML, or not a mapping.
    """
    try:
        if path.stat().st_size > LARGEST_DOCUMENT:
            raise UserError(f"{path.stat().st_size:,} bytes, more than {LARGEST_DOCUMENT:,}; is this the right file?")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run from the folder that holds it") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: unreadable YAML: {' '.join(str(error).split())}") from None
    return parse_document(text, str(path))


def parse_document(text: str, name: str) -> dict[str, Any]:
    """The YAML document as `read_document` returns it. name: of its file, in messages. Errors: UserError as there."""
    try:
        document = copy.deepcopy(_parsed(text))
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # YAML's constructors raise many kinds of error for a value that is not of its type
        raise UserError(f"{name}: unreadable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise UserError(f"{name}: not a mapping; see the shipped file")
    return document


@lru_cache(maxsize=8)
def _parsed(text: str) -> Any:
    """The document; kept, because a stage reads it three times, in a tenth of a second each."""
    from ruamel.yaml import YAML  # noqa: PLC0415 (prediction reads no YAML)
    from ruamel.yaml.events import AliasEvent  # noqa: PLC0415

    yaml = YAML(typ="safe", pure=True)  # deep nesting crashes libyaml, and with it the process
    if text.count("*") > MOST_ALIASES and sum(isinstance(event, AliasEvent) for event in yaml.parse(text)) > MOST_ALIASES:
        raise UserError(f"more than {MOST_ALIASES} aliases (*name); write the values out")
    return yaml.load(text)


def catalogue_name(switch: str) -> str:
    """The section with a switch's entries: `optimizer` → `optimizers`, `loss` → `losses`."""
    return f"{switch}es" if switch.endswith("s") else f"{switch}s"


def switches(document: Mapping[str, Any]) -> dict[str, str]:
    """The catalogue of each switch, by its dotted name: `optimizer` → `optimizers`, `train.augmentation` → `augmentations`."""
    scalars = {name: value for name, value in document.items() if isinstance(value, str)}
    for section, content in document.items():
        if isinstance(content, dict):
            scalars |= {f"{section}.{name}": value for name, value in content.items() if isinstance(value, str)}
    catalogues = {name: catalogue_name(name.rpartition(".")[2]) for name in scalars}
    return {name: catalogue for name, catalogue in catalogues.items() if isinstance(document.get(catalogue), dict)}


def refuse_unknown_entries(document: Mapping[str, Any], path: Path = PARAMS_FILE) -> None:
    """Errors: UserError with a line for each switch that names no entry of its catalogue, whichever stage would read it."""
    if problems := [
        _no_entry(switch, _value(document, switch), document[catalogue])
        for switch, catalogue in switches(document).items()
        if _value(document, switch) not in document[catalogue]
    ]:
        raise UserError(*(f"{path}: {problem}" for problem in problems))


def _value(document: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name."""
    section, _, inner = name.rpartition(".")
    return document[section][inner] if section else document[inner]


def _no_entry(switch: str, chosen: object, catalogue: Mapping[str, Any]) -> str:
    entries = catalogue_name(switch.rpartition(".")[2])
    return f"{switch}: no entry {brief(chosen)} under {entries}; choose one of {', '.join(map(str, catalogue))}"


def select(document: Mapping[str, Any], section: str, model: type[Section]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """The values for `model`: its section, and for each field that is a switch, on top or in the section, the selected entry.

    A field `<switch>_name` gets the entry's name, and a field with the name of another section gets that section. Returns the values,
    the dotted name of each field's home (`optimizer` → `optimizers.adam`), and the problems.
    """
    problems: list[str] = []
    content = document.get(section)
    if not isinstance(content, dict):
        problems.append(f"{section}: the section is missing")
        content = {}
    values: dict[str, Any] = {str(name): value for name, value in content.items()}  # YAML also has keys that are not text
    homes = {name: f"{section}.{name}" for name in {*values, *model.model_fields}}
    for name in model.model_fields:
        switch = name.removesuffix("_name")
        if switch != name and switch in model.model_fields:
            values[name], homes[name] = document.get(switch), switch
        catalogue = document.get(catalogue_name(name))
        if name in document and not isinstance(document[name], dict):
            chosen, homes[name] = document[name], name
        elif name in content and isinstance(catalogue, dict):
            chosen = content[name]
        elif name not in content and isinstance(document.get(name), dict):
            values[name], homes[name] = document[name], name
            continue
        else:
            continue
        if not isinstance(catalogue, dict):
            values[name] = chosen
        elif not isinstance(chosen, str) or chosen not in catalogue:
            values.pop(name, None)
            problems.append(_no_entry(homes[name], chosen, catalogue))
        else:
            values[name], homes[name] = catalogue[chosen], f"{catalogue_name(name)}.{chosen}"
    return values, homes, problems


def parse(document: Mapping[str, Any], section: str, model: type[AnySection], path: Path = PARAMS_FILE) -> AnySection:
    """The section as its class. path: of the document, in messages.

    Errors: UserError with all problems, one line each, by dotted name.
    """
    values, homes, problems = select(document, section, model)
    unresolved = set(model.model_fields) - set(values) if problems else set()
    try:
        parsed = model.model_validate(values)
    except ValidationError as error:
        problems += [_line(section, homes, model, detail) for detail in error.errors() if not unresolved.intersection(detail["loc"][:1])]
    if problems:
        raise UserError(*(f"{path}: {problem}" for problem in problems))
    return parsed


def _line(section: str, homes: Mapping[str, str], model: type[Section], detail: Any) -> str:
    if not detail["loc"]:  # the section as a whole: a key that is not text
        return f"{section}: {detail['msg'][0].lower()}{detail['msg'][1:]}, got {brief(detail['input'])}"
    first, *rest = detail["loc"]
    field = model.model_fields.get(first)
    if rest and field is not None and field.discriminator is not None:
        rest = rest[1:]  # pydantic adds the union's tag, which params.yaml does not have
    name = ".".join([homes[first], *map(str, rest)])
    if detail["type"] == "missing":
        return f"{name}: missing; give it a value"
    if detail["type"] == "extra_forbidden":
        return f"{name}: unknown; check the spelling"
    return f"{name}: {detail['msg'][0].lower()}{detail['msg'][1:]}, got {brief(detail['input'])}"
