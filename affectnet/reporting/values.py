"""Values formatted for people: in the report, the model card, `affectnet info` and the lines of a search."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NOT_SHOWN = ("root", "checksums")
"""Params that are folders and files of one machine."""


def shown(value: Any) -> str:
    """A value as text: a score with three decimals, thousands separated, yes and no; settings in a mapping or list in full."""
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    return setting(value)


def setting(value: Any) -> str:
    """A param as text: a float with its significant digits, a mapping as `name value, name value`."""
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        pairs = ((name, f"({setting(inner)})" if isinstance(inner, Mapping) else setting(inner)) for name, inner in value.items())
        return ", ".join(f"{name} {text}" for name, text in pairs) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    return str(value)


def without_folders(value: Any) -> Any:
    """A param whose absolute paths, one or a list, are only names of files: the report is for others, who have other folders."""
    if isinstance(value, list | tuple):
        return [without_folders(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of each leaf."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
