"""Which test files `make quick` runs: those without torch, DVC, pages, searches and clusters."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent

SLOW = {"clones", "dvc", "dvclive", "distributed", "gradio", "optuna", "torch"}
"""Modules of tests that take their time: DVC in clones, clusters, pages, searches and networks."""


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def is_quick(test: Path) -> bool:
    """Whether the file imports nothing of SLOW, directly or through the tests' helpers and this project's modules.

    The whole runs of `strangers` and `stress` are not quick either.
    """
    if test.parent.name in {"strangers", "stress"}:
        return False
    seen, todo = set(), [test]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        names = imported(path)
        if SLOW & {*names, *(name.split(".")[0] for name in names)}:
            return False
        stems = [folder.joinpath(*name.split(".")) for name in names for folder in (ROOT, ROOT / "tests")]
        todo += [stem.with_suffix(".py") for stem in stems if stem.with_suffix(".py").is_file()]
    return True
