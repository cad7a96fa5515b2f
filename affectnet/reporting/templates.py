"""Templates filled with what the stages counted and scored, everything escaped."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError
from markupsafe import Markup

from affectnet.errors import UserError

Tree = Mapping[str, Any]


def fill(template: Path, given: Tree) -> str:
    """The template filled. Values are escaped as HTML unless the template is Markdown. Errors: UserError when it is none."""
    environment = Environment(
        autoescape=template.suffix == ".html", undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["shown"] = shown
    try:
        return environment.from_string(template.read_text(encoding="utf-8")).render(given)
    except FileNotFoundError:
        raise UserError(f"{template}: not there; `git restore {template}`") from None
    except (TemplateError, UnicodeDecodeError) as error:
        raise UserError(f"{template}: cannot be filled: {error}") from None


class Numbers:
    """Metrics by dotted path, as `evaluate.expression.accuracy`; called, the HTML of one, which carries its path and full value."""

    def __init__(self, documents: Tree) -> None:
        self._documents = documents

    def get(self, path: str) -> Any:
        """The value, or None."""
        found: Any = self._documents
        for part in path.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return None
            found = found[part]
        return found

    def __call__(self, path: str) -> Markup:
        value = self.get(path)
        if value is None:
            return Markup("")
        return Markup('<data title="{}" value="{}">{}</data>').format(path, repr(value), shown(value))


def shown(value: Any) -> str:
    """A value for reading: three decimals, thousands apart, yes and no."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_setting(inner)}" for name, inner in value.items()) or "none"
    return ", ".join(map(_setting, value)) or "none" if isinstance(value, list | tuple) else str(value)


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else shown(value)


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of each leaf."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
