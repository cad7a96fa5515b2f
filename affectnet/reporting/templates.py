"""Jinja templates filled with metrics, everything escaped."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, StrictUndefined, TemplateError
from markupsafe import Markup

from affectnet.errors import UserError
from affectnet.reporting.values import setting, shown


class Missing(ChainableUndefined, StrictUndefined):
    """`a.b.c is defined` may be asked wherever the path breaks off; printing a missing value is an error."""


@dataclass(frozen=True)
class Number:
    """A metric in a template: as text three decimals; in HTML a `data` element that carries its path and full value."""

    path: str
    value: int | float

    def __str__(self) -> str:
        return shown(self.value)

    def __html__(self) -> str:
        return Markup('<data title="{}" value="{}">{}</data>').format(self.path, repr(self.value), str(self))


def numbers(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The tree with each number as a `Number` that knows its dotted path."""
    nodes: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            nodes[name] = numbers(value, f"{path}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            nodes[name] = Number(f"{path}{name}", value)
        else:
            nodes[name] = value
    return nodes


def fill(template: Path, values: Mapping[str, Any]) -> str:
    """The filled template, which may include other files of its folder. Values are escaped as HTML unless it is Markdown.

    Errors: UserError when it cannot be filled.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=template.suffix == ".html",
        undefined=Missing,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"shown": shown, "setting": setting}
    try:
        return environment.from_string(template.read_text(encoding="utf-8")).render(values)
    except FileNotFoundError:
        raise UserError(f"{template}: missing; `git restore {template}`") from None
    except (TemplateError, UnicodeDecodeError) as error:
        raise UserError(f"{template}: cannot be filled: {error}") from None
